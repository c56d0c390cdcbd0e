#include "tests/ingest/fixture.h"

#include <errno.h>

static struct edge e;
enum { PARK_MS = 500, SLOT_BYTES = SLOT_UNITS * SL_UNIT_BYTES }; /* the fixture's */

static void start(uint32_t n_slots, size_t park_blocks)
{
    edge_init(&e, &(struct edge_options){.n_slots = n_slots, .park_bytes = park_blocks * SLOT_BYTES});
    for (uint32_t s = 0; s < SESSIONS; s++)
        edge_open(&e, s, s);
}

/* A gradient on its way to the session, all bytes `fill`. */
static void send_gradient(uint32_t session, uint64_t step, uint8_t fill)
{
    struct sl_slot *slot = make_ready(&e, session, step);
    memset(slot->data, fill, ROWS * SL_UNIT_BYTES);
    trainer_returns(&e, slot, SL_RESULT_GRADIENT);
    turn(&e);
}

static const uint8_t *source(uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return sl_ingest_sink.source(e.ingest, session, grant, unit0, n);
}

static void assert_result(uint32_t session, uint64_t step, enum sl_result_status status)
{
    const struct sl_frame *f = next_frame(&e, session, SL_FRAME_RESULT);
    assert_non_null(f);
    assert_int_equal(f->result.step, step);
    assert_int_equal(f->result.status, status);
    assert_int_equal(f->result.tokens, ROWS);
}

static void returned__one_way_steps_free_their_slot(void **state)
{
    start(1, 0);
    const enum sl_result_status one_way[] = {SL_RESULT_EVAL, SL_RESULT_SKIPPED};
    for (unsigned i = 0; i < 2; i++) {
        trainer_returns(&e, make_ready(&e, 1, i + 1), one_way[i]);
        turn(&e);
        assert_result(1, i + 1, one_way[i]);
        assert_int_equal(stats_of(&e).slots_in_use, 0);
    }
    assert_int_equal(stats_of(&e).returned_eval, 1);
    assert_int_equal(stats_of(&e).returned_skipped, 1);
    assert_int_equal(e.seen[1].data_packets, 0);
    edge_free(&e);
}

static void returned__refused_for_its_age(void **state)
{
    start(1, 0);
    struct sl_slot *slot = make_ready(&e, 1, 5);
    slot->outcome = (struct sl_slot_outcome){.status = SL_OUTCOME_STALE};
    slot->state = SL_SLOT_GRADIENT;
    sl_ring_spsc_push(e.returned, &slot->handle, 1);
    turn(&e);
    assert_lost(&e, 1, 1, 5, SL_LOST_STALE);
    assert_null(next_frame(&e, 1, SL_FRAME_RESULT));
    assert_int_equal(stats_of(&e).returned_refused, 1);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    assert_conserved(&e);
    edge_free(&e);
}

static void returned__refused_for_its_content(void **state)
{
    start(1, 0);
    trainer_returns(&e, make_ready(&e, 1, 5), SL_RESULT_REFUSED);
    turn(&e);
    assert_lost(&e, 1, 1, 5, SL_LOST_CONTENT);
    assert_null(next_frame(&e, 1, SL_FRAME_RESULT));
    assert_int_equal(stats_of(&e).returned_refused, 1);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    ask(&e, 1, 5); /* a repeat of the request changes nothing */
    turn(&e);
    assert_int_equal(stats_of(&e).granted, 1);
    edge_free(&e);
}

static void returned__handles_that_name_nothing(void **state)
{
    start(2, 0);
    struct sl_slot *slot = make_ready(&e, 1, 1);
    uint32_t handle = slot->handle, bad[] = {0, UINT32_MAX, handle, handle};
    slot->outcome.status = SL_RESULT_EVAL;
    assert_int_equal(sl_ring_spsc_push(e.returned, bad, 4), 4); /* the second time it is nobody's any more */
    turn(&e);
    assert_int_equal(stats_of(&e).returned_eval, 1);
    assert_int_equal(stats_of(&e).returned_stale, 3);
    ask(&e, 1, 2); /* the same slot, the next generation: GRANTED, and not the trainer's to return */
    turn(&e);
    assert_int_equal(sl_ring_spsc_push(e.returned, &handle, 1), 1);
    assert_int_equal(sl_ring_spsc_push(e.returned, &slot->handle, 1), 1);
    turn(&e);
    assert_int_equal(stats_of(&e).returned_stale, 5);
    assert_int_equal(stats_of(&e).slots_in_use, 1);
    assert_int_equal(stats_of(&e).grants_outstanding, 1);
    edge_free(&e);
}

static void source__only_what_is_being_sent(void **state)
{
    start(2, 0);
    struct sl_slot *slot = make_ready(&e, 1, 1);
    assert_null(source(1, 1, 0, 4)); /* the trainer's */
    trainer_returns(&e, slot, SL_RESULT_GRADIENT);
    turn(&e);
    assert_ptr_equal(source(1, 1, 0, 4), slot->data);
    assert_ptr_equal(source(1, 1, 8, 2), slot->data + 8 * SL_UNIT_BYTES);
    assert_null(source(1, 1, 8, 3)); /* targets do not go down */
    assert_null(source(1, 2, 0, 4));
    assert_null(source(2, 1, 0, 4));
    ack_all(&e, 1);
    assert_null(source(1, 1, 0, 4));
    edge_free(&e);
}

/* More gradients than the endpoint can send at a time wait for their turn. */
static void send__endpoint_full(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 2, .max_sends = 1});
    edge_open(&e, 1, 1);
    edge_open(&e, 2, 2);
    send_gradient(1, 1, 0xa1);
    send_gradient(2, 1, 0xa2);
    assert_int_equal(e.seen[1].data_packets, 3);
    assert_int_equal(e.seen[2].data_packets, 0);
    assert_result(2, 1, SL_RESULT_GRADIENT);
    ack_all(&e, 1);
    turn(&e);
    assert_int_equal(e.seen[2].data_packets, 3);
    ack_all(&e, 2);
    turn(&e);
    assert_int_equal(stats_of(&e).gradients_acked, 2);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    edge_free(&e);
}

/* A gradient that the endpoint was not made for is lost by name, and its slot and its device go on. */
static void send__too_large_for_the_endpoint(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 1, .max_message_units = ROWS - 1});
    edge_open(&e, 1, 1);
    send_gradient(1, 1, 0xa1);
    assert_lost(&e, 1, 1, 1, SL_LOST_PARK_FULL);
    assert_int_equal(e.seen[1].data_packets, 0);
    assert_int_equal(stats_of(&e).gradients_lost, 1);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    assert_conserved(&e);
    ask(&e, 1, 2);
    turn(&e);
    assert_int_equal(stats_of(&e).granted, 2);
    edge_free(&e);
}

static void park__frees_the_slot_and_serves_on(void **state)
{
    start(1, 1);
    send_gradient(1, 1, 0x5a);
    uint64_t sent = e.now_ns;
    assert_int_equal(sl_ingest_deadline(e.ingest), sent + PARK_MS * MS);
    turn_at(&e, sent + PARK_MS * MS - 1);
    assert_int_equal(stats_of(&e).parked, 0);
    turn_at(&e, sent + PARK_MS * MS);
    assert_int_equal(stats_of(&e).parked, 1);
    assert_int_equal(stats_of(&e).park_bytes, ROWS * SL_UNIT_BYTES);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    struct sl_slot *other = make_ready(&e, 2, 1); /* the slot is another's now, and its bytes do not leak */
    memset(other->data, 0x77, UNITS * SL_UNIT_BYTES);
    for (uint32_t u = 0; u < ROWS; u++)
        for (unsigned b = 0; b < SL_UNIT_BYTES; b++)
            assert_int_equal(source(1, 1, u, 1)[b], 0x5a);
    ack_all(&e, 1);
    turn(&e);
    assert_int_equal(stats_of(&e).gradients_acked, 1);
    assert_int_equal(stats_of(&e).park_bytes, 0);
    assert_null(source(1, 1, 0, 1));
    edge_free(&e);
}

/* The oldest of the parked goes, its device is told, and what it asks again is granted. */
static void park__over_the_cap(void **state)
{
    start(4, 2);
    for (uint32_t s = 1; s <= 3; s++) {
        send_gradient(s, 10 + s, (uint8_t)s);
        e.now_ns += MS;
    }
    turn_at(&e, e.now_ns + PARK_MS * MS);
    assert_int_equal(stats_of(&e).parked, 3);
    assert_int_equal(stats_of(&e).park_dropped, 1);
    assert_int_equal(stats_of(&e).park_bytes, 2 * ROWS * SL_UNIT_BYTES);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    assert_lost(&e, 1, 1, 11, SL_LOST_PARK_FULL);
    assert_null(source(1, 1, 0, 1));
    assert_int_equal(source(2, 1, 0, 1)[0], 2);
    assert_int_equal(source(3, 1, 0, 1)[0], 3);
    ask(&e, 1, 11);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 2);
    assert_int_equal(stats_of(&e).granted, 4);
    send_message(&e, 1, 2);
    assert_int_equal(trainer_takes(&e)->grant, 2);
    ack_all(&e, 2);
    ack_all(&e, 3);
    turn(&e);
    assert_int_equal(stats_of(&e).gradients_acked, 2);
    assert_int_equal(stats_of(&e).park_bytes, 0);
    edge_free(&e);
}

static void park__disabled_loses_the_late_one(void **state)
{
    start(1, 0);
    send_gradient(1, 1, 1);
    turn_at(&e, e.now_ns + PARK_MS * MS);
    assert_lost(&e, 1, 1, 1, SL_LOST_PARK_FULL);
    assert_int_equal(stats_of(&e).park_dropped, 1);
    assert_int_equal(stats_of(&e).parked, 0);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    assert_int_equal(sl_endpoint_cancel(e.endpoint, 1, 1), -ENOENT); /* it is not being sent any more */
    edge_free(&e);
}

static void park__after_can_be_changed(void **state)
{
    start(1, 1);
    send_gradient(1, 1, 1);
    sl_ingest_set_park_after(e.ingest, 10 * MS);
    assert_int_equal(sl_ingest_deadline(e.ingest), e.now_ns + 10 * MS);
    turn_at(&e, e.now_ns + 10 * MS);
    assert_int_equal(stats_of(&e).parked, 1);
    edge_free(&e);
}

/* One that the endpoint has not begun to send can be parked, too, and is sent from there. */
static void park__before_it_is_sent(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 2, .max_sends = 1, .park_bytes = 2 * SLOT_BYTES});
    edge_open(&e, 1, 1);
    edge_open(&e, 2, 2);
    send_gradient(1, 1, 0xa1);
    send_gradient(2, 1, 0xa2);
    turn_at(&e, e.now_ns + PARK_MS * MS);
    assert_int_equal(stats_of(&e).parked, 2);
    assert_int_equal(e.seen[2].data_packets, 0);
    ack_all(&e, 1);
    turn(&e);
    assert_int_equal(e.seen[2].data_packets, 3);
    ack_all(&e, 2);
    turn(&e);
    assert_int_equal(stats_of(&e).gradients_acked, 2);
    edge_free(&e);
}

/* A parked gradient keeps its grant among the session's last eight: the ninth waits until it is acknowledged.
 */
static void park__grant_is_not_overrun(void **state)
{
    start(2, 1);
    sl_ingest_set_park_after(e.ingest, 0);
    send_gradient(1, 1, 0x5a);
    turn(&e);
    assert_int_equal(stats_of(&e).parked, 1);
    for (uint64_t step = 2; step <= 8; step++) {
        trainer_returns(&e, make_ready(&e, 1, step), SL_RESULT_EVAL);
        turn(&e);
    }
    ask(&e, 1, 9);
    turn(&e);
    assert_null(next_frame(&e, 1, SL_FRAME_GRANT));
    assert_int_equal(source(1, 1, 9, 1)[0], 0x5a);
    ack_all(&e, 1);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 9);
    edge_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(returned__one_way_steps_free_their_slot),
        cmocka_unit_test(returned__refused_for_its_age),
        cmocka_unit_test(returned__refused_for_its_content),
        cmocka_unit_test(returned__handles_that_name_nothing),
        cmocka_unit_test(source__only_what_is_being_sent),
        cmocka_unit_test(send__endpoint_full),
        cmocka_unit_test(send__too_large_for_the_endpoint),
        cmocka_unit_test(park__frees_the_slot_and_serves_on),
        cmocka_unit_test(park__over_the_cap),
        cmocka_unit_test(park__disabled_loses_the_late_one),
        cmocka_unit_test(park__after_can_be_changed),
        cmocka_unit_test(park__before_it_is_sent),
        cmocka_unit_test(park__grant_is_not_overrun),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
