#include "tests/ingest/fixture.h"

static struct edge e;
enum { EXPIRY_MS = 1000 }; /* the fixture's */

static void start(uint32_t n_slots, uint32_t grants_per_session)
{
    edge_init(&e, &(struct edge_options){.n_slots = n_slots, .grants_per_session = grants_per_session});
    for (uint32_t s = 0; s < SESSIONS; s++)
        edge_open(&e, s, s);
}

/* The step that the session's next GRANT answers; 0: none came. */
static uint64_t granted_step(uint32_t session)
{
    const struct sl_frame *f = next_frame(&e, session, SL_FRAME_GRANT);
    return f == NULL ? 0 : f->grant.step;
}

static void request__shape_that_cannot_be(void **state)
{
    start(2, 2);
    const struct sl_request bad[] = {
        {.step = 1, .n_seqs = 0},
        {.step = 2, .n_seqs = SL_SEQS_MAX + 1, .len = {1}},
        {.step = 3, .n_seqs = 2, .len = {1, 0}},
        {.step = 4, .n_seqs = 1, .len = {1}, .kind = SL_REQUEST_EVAL + 1},
        request_of(5, SLOT_UNITS), /* its targets would lie behind the slot */
        {.step = 6, .n_seqs = 3, .len = {65535, 65535, 65535}},
    };
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct sl_frame f = {.type = SL_FRAME_REQUEST, .request = bad[i]};
        sl_ingest_sink.frame(e.ingest, 1, &f, e.now_ns);
        turn(&e);
        assert_lost(&e, 1, 0, bad[i].step, SL_LOST_REFUSED_SHAPE);
        assert_int_equal(stats_of(&e).requests_refused, i + 1);
    }
    struct sl_request largest = request_of(7, 60); /* 60 units and 4 of targets: all of a slot */
    send_request(&e, 1, &largest);
    turn(&e);
    assert_int_equal(granted_step(1), 7);
    edge_free(&e);
}

static void request__repeated(void **state)
{
    start(2, 2);
    ask(&e, 1, 5);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 1);
    ask(&e, 1, 5); /* untouched: which grant it has is said again */
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 1);
    send_units(&e, 1, 1, 0, 4, 1);
    ask(&e, 1, 5); /* under way */
    turn(&e);
    send_units(&e, 1, 1, 4, 4, 2);
    send_units(&e, 1, 1, 8, 3, 3);
    ask(&e, 1, 5); /* ready */
    turn(&e);
    trainer_returns(&e, trainer_takes(&e), SL_RESULT_GRADIENT);
    turn(&e);
    ask(&e, 1, 5); /* being answered */
    turn(&e);
    ack_all(&e, 1);
    ask(&e, 1, 5); /* over */
    turn(&e);
    assert_int_equal(granted_step(1), 0);
    assert_null(next_frame(&e, 1, SL_FRAME_STEP_LOST));
    assert_int_equal(stats_of(&e).granted, 1);
    assert_int_equal(stats_of(&e).requests_repeated, 5);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    edge_free(&e);
}

static void request__same_step_other_shape(void **state)
{
    start(2, 2);
    ask(&e, 1, 5);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 1);
    struct sl_request other = request_of(5, 3);
    send_request(&e, 1, &other);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 2);
    assert_int_equal(stats_of(&e).grants_cancelled, 1);
    assert_int_equal(stats_of(&e).slots_in_use, 1);
    send_units(&e, 1, 1, 0, 4, 1); /* of the old one: a duplicate */
    assert_int_equal(stats_of(&e).units_scratch, 4);
    send_units(&e, 1, 2, 0, 4, 1);
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    assert_int_equal(slot->grid.rows, 3);
    edge_free(&e);
}

/* The phase changes: the training step that was granted is never sent, and must hold up no evaluation. */
static void request__of_the_other_kind_ends_what_was_given_up(void **state)
{
    struct sl_request r = request_of(8, ROWS);
    start(1, 2);
    ask(&e, 1, 6);
    ask(&e, 1, 7); /* waits */
    turn(&e);
    uint32_t given_up = granted_index(&e, 1);
    send_units(&e, 1, given_up, 0, 4, 1);
    assert_int_equal(stats_of(&e).slots_in_use, 1);
    r.kind = SL_REQUEST_EVAL;
    send_request(&e, 1, &r);
    turn(&e);
    assert_int_equal(stats_of(&e).grants_cancelled, 1);
    assert_int_equal(stats_of(&e).requests_gone, 1);
    uint32_t grant = granted_index(&e, 1);
    assert_int_not_equal(grant, given_up);
    send_units(&e, 1, given_up, 4, 4, 9); /* one that was still under way: not into the new message */
    send_message(&e, 1, grant);
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    assert_int_equal(slot->request.step, 8);
    assert_int_not_equal(slot->data[4 * SL_UNIT_BYTES], 9);
    assert_int_equal(stats_of(&e).requests_waiting, 0);
    assert_conserved(&e);
    edge_free(&e);
}

static void grants__first_in_first_out(void **state)
{
    start(2, 2);
    struct sl_slot *first = make_ready(&e, 0, 1), *second = make_ready(&e, 1, 1);
    ask(&e, 3, 1);
    ask(&e, 2, 1);
    ask(&e, 3, 1);
    turn(&e);
    assert_int_equal(granted_step(2) + granted_step(3), 0);
    assert_int_equal(stats_of(&e).requests_waiting, 2);
    assert_int_equal(stats_of(&e).requests_repeated, 1);
    trainer_returns(&e, first, SL_RESULT_EVAL);
    turn(&e);
    assert_int_equal(granted_step(3), 1);
    assert_int_equal(granted_step(2), 0);
    trainer_returns(&e, second, SL_RESULT_EVAL);
    turn(&e);
    assert_int_equal(granted_step(2), 1);
    assert_int_equal(stats_of(&e).requests_waiting, 0);
    edge_free(&e);
}

static void grants__no_more_than_a_session_may_have(void **state)
{
    start(4, 1);
    ask(&e, 0, 1);
    ask(&e, 0, 2);
    ask(&e, 0, 3);
    ask(&e, 1, 9); /* behind them in the queue, and not held up */
    turn(&e);
    assert_int_equal(granted_step(0), 1);
    assert_int_equal(granted_step(0), 0);
    assert_int_equal(granted_step(1), 9);
    send_message(&e, 0, 1);
    turn(&e);
    assert_int_equal(granted_step(0), 0); /* the trainer has it: still held */
    trainer_returns(&e, trainer_takes(&e), SL_RESULT_SKIPPED);
    turn(&e);
    assert_int_equal(granted_step(0), 2);
    assert_int_equal(granted_step(0), 0);
    edge_free(&e);
}

/* What one session may let wait is bounded, and waiting for it costs others nothing. */
static void requests__too_many_waiting(void **state)
{
    start(1, 1);
    ask(&e, 0, 1);
    for (uint64_t step = 2; step <= 5; step++)
        ask(&e, 0, step);
    turn(&e);
    assert_int_equal(stats_of(&e).requests_waiting, 4);
    assert_null(next_frame(&e, 0, SL_FRAME_STEP_LOST));
    ask(&e, 0, 6);
    turn(&e);
    assert_lost(&e, 0, 0, 6, SL_LOST_EXPIRED);
    ask(&e, 1, 1);
    turn(&e);
    assert_null(next_frame(&e, 1, SL_FRAME_STEP_LOST));
    assert_int_equal(stats_of(&e).requests_waiting, 5);
    edge_close(&e, 0);
    assert_int_equal(stats_of(&e).requests_waiting, 1);
    assert_int_equal(stats_of(&e).requests_gone, 4);
    turn(&e);
    assert_int_equal(granted_step(1), 1);
    edge_free(&e);
}

/* The pool of requests that wait keeps a place for each session's first: one that asks for much is refused by
 * name before it takes another's. */
static void requests__pool_is_empty(void **state)
{
    edge_init(
        &e, &(struct edge_options){.n_slots = 1, .grants_per_session = 1, .waiting_requests = SESSIONS + 1});
    for (uint32_t s = 0; s < SESSIONS; s++)
        edge_open(&e, s, s);
    struct sl_slot *slot = make_ready(&e, 0, 1);
    ask(&e, 0, 2);
    ask(&e, 0, 3); /* the one place to spare */
    ask(&e, 0, 4);
    turn(&e);
    assert_lost(&e, 0, 0, 4, SL_LOST_EXPIRED);
    assert_int_equal(stats_of(&e).requests_no_room, 1);
    for (uint32_t s = 1; s < SESSIONS; s++)
        ask(&e, s, 1);
    assert_int_equal(stats_of(&e).requests_waiting, SESSIONS + 1);
    assert_int_equal(stats_of(&e).requests_no_room, 1);
    edge_close(&e, 0); /* its places, and its slot, are another's */
    trainer_returns(&e, slot, SL_RESULT_EVAL);
    turn(&e);
    assert_int_equal(granted_step(1), 1);
    ask(&e, 2, 2);
    assert_int_equal(stats_of(&e).requests_no_room, 1);
    assert_int_equal(stats_of(&e).requests_waiting, SESSIONS - 1);
    assert_conserved(&e);
    edge_free(&e);
}

/* A pool smaller than the number of sessions: who finds no place is told, and finds one later. */
static void requests__pool_smaller_than_the_sessions(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 1, .grants_per_session = 1, .waiting_requests = 1});
    for (uint32_t s = 0; s < SESSIONS; s++)
        edge_open(&e, s, s);
    struct sl_slot *slot = make_ready(&e, 0, 1);
    ask(&e, 1, 1);
    ask(&e, 2, 1);
    turn(&e);
    assert_lost(&e, 2, 0, 1, SL_LOST_EXPIRED);
    trainer_returns(&e, slot, SL_RESULT_EVAL);
    turn(&e);
    assert_int_equal(granted_step(1), 1);
    ask(&e, 2, 1);
    turn(&e);
    assert_null(next_frame(&e, 2, SL_FRAME_STEP_LOST));
    assert_int_equal(stats_of(&e).requests_waiting, 1);
    assert_conserved(&e);
    edge_free(&e);
}

/* Every last grant of a session that is still in use keeps its place: the ring of the last eight is not
 * overrun. */
static void grants__ring_is_not_overrun(void **state)
{
    start(4, 2);
    struct sl_slot *kept = make_ready(&e, 0, 1);
    for (uint64_t step = 2; step <= 8; step++)
        trainer_returns(&e, make_ready(&e, 0, step), SL_RESULT_EVAL), turn(&e);
    ask(&e, 0, 9); /* would be grant 9, in the place of 1 */
    turn(&e);
    assert_int_equal(granted_step(0), 0);
    assert_int_equal(stats_of(&e).requests_waiting, 1);
    trainer_returns(&e, kept, SL_RESULT_EVAL);
    turn(&e);
    const struct sl_frame *f = next_frame(&e, 0, SL_FRAME_GRANT);
    assert_non_null(f);
    assert_int_equal(f->grant.index, 9);
    edge_free(&e);
}

static void grant__expires_unused_and_is_given_anew(void **state)
{
    start(1, 1);
    uint64_t t0 = e.now_ns;
    ask(&e, 1, 5);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 1);
    assert_int_equal(sl_ingest_deadline(e.ingest), t0 + EXPIRY_MS * MS);
    ask(&e, 2, 6);
    turn_at(&e, t0 + EXPIRY_MS * MS - 1);
    assert_int_equal(stats_of(&e).grants_expired, 0);
    turn_at(&e, t0 + EXPIRY_MS * MS);
    assert_int_equal(stats_of(&e).grants_expired, 1);
    assert_lost(&e, 1, 1, 5, SL_LOST_EXPIRED);
    assert_int_equal(granted_index(&e, 2), 1); /* the slot went on to who waited */
    send_message(&e, 2, 1);
    trainer_returns(&e, trainer_takes(&e), SL_RESULT_EVAL);
    turn(&e);
    ask(&e, 1, 5);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 2);
    edge_free(&e);
}

static void grant__expires_half_filled(void **state)
{
    start(1, 1);
    uint64_t t0 = e.now_ns;
    ask(&e, 1, 5);
    turn(&e);
    turn_at(&e, t0 + 900 * MS);
    send_units(&e, 1, 1, 0, 4, 1);
    turn_at(&e, t0 + 1500 * MS); /* it makes progress: its time runs from the last fragment */
    assert_int_equal(stats_of(&e).grants_expired, 0);
    turn_at(&e, t0 + 1900 * MS);
    assert_int_equal(stats_of(&e).grants_expired, 1);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    assert_lost(&e, 1, 1, 5, SL_LOST_EXPIRED);
    send_units(
        &e, 1, 1, 4, 4, 1); /* late: acknowledged, discarded, and the device is not told at once again */
    turn(&e);
    assert_int_equal(stats_of(&e).units_scratch, 4);
    assert_null(next_frame(&e, 1, SL_FRAME_STEP_LOST));
    ack_all(&e, 1);
    turn_at(&e, t0 + 2899 * MS);
    assert_null(next_frame(&e, 1, SL_FRAME_STEP_LOST));
    turn_at(&e, t0 + 2900 * MS); /* but a second later, should it have missed the news */
    assert_lost(&e, 1, 1, 5, SL_LOST_EXPIRED);
    ack_all(&e, 1);
    turn_at(&e, t0 + 9000 * MS);
    assert_null(next_frame(&e, 1, SL_FRAME_STEP_LOST));
    edge_free(&e);
}

/* What the device said of itself sets its time: a dead phone's slot comes back soon. */
static void grant__expires_by_what_the_device_said(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 3, .grant_factor = 4, .grant_margin_ns = 100 * MS});
    for (uint32_t s = 0; s < SESSIONS; s++)
        edge_open(&e, s, s);
    uint64_t t0 = e.now_ns;
    struct sl_request r = request_of(1, ROWS);
    r.ready_in_ms = UINT32_MAX; /* no longer than the longest, whatever it says */
    send_request(&e, 0, &r);
    r.ready_in_ms = 50;
    send_request(&e, 1, &r);
    r.ready_in_ms = 10;
    send_request(&e, 2, &r);
    turn(&e);
    const uint32_t expected[] = {1000, 300, 140};
    for (uint32_t s = 0; s < 3; s++) {
        const struct sl_frame *f = next_frame(&e, s, SL_FRAME_GRANT);
        assert_non_null(f);
        assert_int_equal(f->grant.expiry_ms, expected[s]);
    }
    assert_int_equal(sl_ingest_deadline(e.ingest), t0 + 140 * MS); /* the last one asked is the first to go */
    turn_at(&e, t0 + 139 * MS);
    assert_int_equal(stats_of(&e).grants_expired, 0);
    send_units(&e, 1, 1, 0, 4, 1); /* this one has begun: the margin counts from its last fragment */
    turn_at(&e, t0 + 140 * MS);
    assert_int_equal(stats_of(&e).grants_expired, 1);
    assert_lost(&e, 2, 1, 1, SL_LOST_EXPIRED);
    turn_at(&e, t0 + 299 * MS);
    assert_int_equal(stats_of(&e).grants_expired, 1);
    turn_at(&e, t0 + 300 * MS);
    assert_int_equal(stats_of(&e).grants_expired, 2);
    assert_lost(&e, 1, 1, 1, SL_LOST_EXPIRED);
    turn_at(&e, t0 + 999 * MS);
    assert_int_equal(stats_of(&e).grants_expired, 2);
    turn_at(&e, t0 + 1000 * MS);
    assert_int_equal(stats_of(&e).grants_expired, 3);
    assert_int_equal(stats_of(&e).slots_in_use, 0);
    edge_free(&e);
}

/* A device whose outbox is full of what it has not acknowledged gets its grant when there is room. */
static void grant__waits_for_the_outbox(void **state)
{
    start(2, 2);
    struct sl_request bad = request_of(1, SLOT_UNITS);
    for (unsigned i = 0; i < 40; i++, bad.step++)
        send_request(&e, 1, &bad);
    ask(&e, 1, 100);
    turn(&e);
    assert_int_equal(granted_step(1), 0);
    assert_int_equal(stats_of(&e).granted, 1);
    assert_int_equal(sl_ingest_deadline(e.ingest), e.now_ns + MS);
    ack_all(&e, 1);
    turn_at(&e, e.now_ns + MS);
    assert_int_equal(granted_step(1), 100);
    assert_true(sl_ingest_deadline(e.ingest) > e.now_ns + MS);
    edge_free(&e);
}

/* The news that a grant expired must make sense to a device that never heard of it. */
static void grant__expires_unsaid(void **state)
{
    start(2, 2);
    struct sl_request bad = request_of(1, SLOT_UNITS);
    for (unsigned i = 0; i < 40; i++, bad.step++)
        send_request(&e, 1, &bad);
    ask(&e, 1, 100);
    turn(&e);
    turn_at(&e, e.now_ns + EXPIRY_MS * MS);
    assert_int_equal(stats_of(&e).grants_expired, 1);
    while (next_frame(&e, 1, SL_FRAME_STEP_LOST) != NULL)
        ;
    ack_all(&e, 1);
    turn(&e);
    assert_lost(&e, 1, 0, 100, SL_LOST_EXPIRED);
    assert_int_equal(granted_step(1), 0);
    edge_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request__shape_that_cannot_be),
        cmocka_unit_test(request__repeated),
        cmocka_unit_test(request__same_step_other_shape),
        cmocka_unit_test(request__of_the_other_kind_ends_what_was_given_up),
        cmocka_unit_test(grants__first_in_first_out),
        cmocka_unit_test(grants__no_more_than_a_session_may_have),
        cmocka_unit_test(requests__too_many_waiting),
        cmocka_unit_test(requests__pool_is_empty),
        cmocka_unit_test(requests__pool_smaller_than_the_sessions),
        cmocka_unit_test(grants__ring_is_not_overrun),
        cmocka_unit_test(grant__expires_unused_and_is_given_anew),
        cmocka_unit_test(grant__expires_half_filled),
        cmocka_unit_test(grant__expires_by_what_the_device_said),
        cmocka_unit_test(grant__waits_for_the_outbox),
        cmocka_unit_test(grant__expires_unsaid),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
