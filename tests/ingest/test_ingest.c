#include "tests/ingest/fixture.h"

static struct edge e;

static void message__goes_up_and_its_gradient_down(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 2});
    edge_open(&e, 1, 42);
    ask(&e, 1, 7);
    turn(&e);
    const struct sl_frame *f = next_frame(&e, 1, SL_FRAME_GRANT);
    assert_non_null(f);
    assert_int_equal(f->grant.index, 1);
    assert_int_equal(f->grant.cumulative, 1);
    assert_int_equal(f->grant.step, 7);
    assert_int_equal(f->grant.expiry_ms, 1000);
    turn_at(&e, e.now_ns + MS);
    send_units(&e, 1, 1, 8, 3, 3);
    turn_at(&e, e.now_ns + 2 * MS);
    assert_null(trainer_takes(&e));
    send_units(&e, 1, 1, 0, 4, 1);
    send_units(&e, 1, 1, 4, 4, 2);

    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    assert_int_equal(slot->session, 1);
    assert_int_equal(slot->device, 42);
    assert_int_equal(slot->grant, 1);
    assert_int_equal(slot->request.step, 7);
    assert_int_equal(slot->grid.n_units, UNITS);
    assert_int_equal(slot->ready_ns - slot->first_ns, 2 * MS);
    assert_int_equal((uintptr_t)slot->data % 64, 0);
    for (unsigned i = 0; i < UNITS * SL_UNIT_BYTES; i++)
        assert_int_equal(slot->data[i], 1 + i / (4 * SL_UNIT_BYTES));
    assert_ptr_equal(sl_slot_targets(slot), slot->data + ROWS * SL_UNIT_BYTES);

    trainer_returns(&e, slot, SL_RESULT_GRADIENT);
    turn(&e);
    f = next_frame(&e, 1, SL_FRAME_RESULT);
    assert_non_null(f);
    assert_int_equal(f->result.grant, 1);
    assert_int_equal(f->result.step, 7);
    assert_int_equal(f->result.global_step, 107);
    assert_int_equal(f->result.status, SL_RESULT_GRADIENT);
    assert_int_equal(f->result.flags, SL_RESULT_BOUNDARY);
    assert_int_equal(f->result.tokens, ROWS);
    assert_true(f->result.nll == 2.5);
    assert_int_equal(e.seen[1].data_packets, 3); /* 10 units: no targets on the way down */
    assert_int_equal(stats_of(&e).slots_in_use, 1);
    ack_all(&e, 1);
    turn(&e);
    assert_int_equal(stats_of(&e).gradients_acked, 1);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    assert_int_equal(stats_of(&e).slots_in_use_max, 1);
    edge_free(&e);
}

/* The phase changes: the training step that was granted is never sent, and must hold up no evaluation. */
static void request__of_the_other_kind_ends_what_was_given_up(void **state)
{
    struct sl_request r = request_of(8, ROWS);
    edge_init(&e, &(struct edge_options){.n_slots = 1});
    edge_open(&e, 1, 42);
    ask(&e, 1, 7);
    turn(&e);
    uint32_t given_up = granted_index(&e, 1);
    send_units(&e, 1, given_up, 0, 4, 1);
    assert_int_equal(stats_of(&e).slots_in_use, 1);
    r.kind = SL_REQUEST_EVAL;
    send_request(&e, 1, &r);
    turn(&e);
    assert_int_equal(stats_of(&e).grants_cancelled, 1);
    uint32_t grant = granted_index(&e, 1);
    assert_int_not_equal(grant, given_up);
    send_units(&e, 1, given_up, 4, 4, 9); /* one that was still under way: not into the new message */
    send_message(&e, 1, grant);
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    assert_int_equal(slot->request.step, 8);
    assert_int_not_equal(slot->data[4 * SL_UNIT_BYTES], 9);
    assert_conserved(&e);
    edge_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(message__goes_up_and_its_gradient_down),
        cmocka_unit_test(request__of_the_other_kind_ends_what_was_given_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
