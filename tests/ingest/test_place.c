#include "dataplane/ingest/ingest_internal.h"
#include "tests/ingest/fixture.h"

#include <errno.h>

static struct edge e;
static struct burst burst;

static void start(void)
{
    edge_init(&e, &(struct edge_options){.n_slots = 4});
    edge_open(&e, 1, 1);
    ask(&e, 1, 1);
    turn(&e);
    assert_int_equal(granted_index(&e, 1), 1);
    burst.n = 0;
}

/* Units 0 to 3 of the message that is under way must be `fill`: sends the rest and looks. */
static void assert_first_fragment(uint8_t fill)
{
    assert_null(trainer_takes(&e));
    send_units(&e, 1, 1, 4, 4, 2);
    send_units(&e, 1, 1, 8, 3, 3);
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    for (unsigned i = 0; i < 4 * SL_UNIT_BYTES; i++)
        assert_int_equal(slot->data[i], fill);
    assert_conserved(&e);
}

static void grid_divides__as_the_remainder_says(void **state)
{
    uint64_t random = 1;
    for (uint16_t f = 1; f <= SL_DATAGRAM_MAX_BYTES / SL_UNIT_BYTES; f++) {
        uint64_t divisor = sl_grid_divisor(f);
        for (uint32_t n = 0; n < 1000; n++)
            assert_int_equal(sl_grid_divides(divisor, n), n % f == 0);
        for (uint32_t i = 0; i < 1000; i++) {
            uint32_t n = (uint32_t)next_random(&random);
            assert_int_equal(sl_grid_divides(divisor, n), n % f == 0);
            assert_true(sl_grid_divides(divisor, n - n % f));
        }
    }
}

/* ---- rules T3 ---- */

static void burst__valid_then_forged(void **state)
{
    start();
    burst_units(&e, &burst, 1, 1, 0, 4, 1, false);
    burst_units(&e, &burst, 1, 1, 0, 4, 9, true);
    assert_int_equal(burst_send(&e, &burst), 1);
    assert_int_equal(drops(e.endpoint, SL_DROP_BAD_TAG), 1);
    assert_int_equal(stats_of(&e).units_placed, 4);
    assert_int_equal(stats_of(&e).units_scratch, 0); /* the forged one was opened to scratch, in vain */
    assert_first_fragment(1);
    edge_free(&e);
}

static void burst__forged_then_valid(void **state)
{
    start();
    burst_units(&e, &burst, 1, 1, 0, 4, 9, true);
    burst_units(&e, &burst, 1, 1, 0, 4, 1, false);
    assert_int_equal(burst_send(&e, &burst), 1);
    assert_int_equal(drops(e.endpoint, SL_DROP_BAD_TAG), 1);
    assert_int_equal(stats_of(&e).units_released, 4);
    assert_int_equal(stats_of(&e).units_placed, 4);
    assert_first_fragment(1);
    edge_free(&e);
}

static void burst__valid_then_valid(void **state)
{
    start();
    burst_units(&e, &burst, 1, 1, 0, 4, 1, false);
    burst_units(&e, &burst, 1, 1, 0, 4, 9, false);
    burst_send(&e, &burst);
    assert_int_equal(stats_of(&e).units_placed, 4);
    assert_int_equal(stats_of(&e).units_scratch, 4);
    assert_first_fragment(1);
    edge_free(&e);
}

/* A claim that was released is free for a retransmission: the forger gains nothing. */
static void forged__last_fragment_does_not_complete(void **state)
{
    start();
    send_units(&e, 1, 1, 0, 4, 1);
    send_units(&e, 1, 1, 4, 4, 2);
    burst_units(&e, &burst, 1, 1, 8, 3, 9, true);
    burst_send(&e, &burst);
    assert_null(trainer_takes(&e));
    assert_int_equal(stats_of(&e).units_released, 3);
    send_units(&e, 1, 1, 8, 3, 3);
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    assert_int_equal(slot->data[8 * SL_UNIT_BYTES], 3);
    assert_conserved(&e);
    edge_free(&e);
}

static void forged__does_not_start_the_clock(void **state)
{
    start();
    burst_units(&e, &burst, 1, 1, 0, 4, 9, true);
    burst_send(&e, &burst);
    turn_at(&e, e.now_ns + 10 * MS);
    send_message(&e, 1, 1);
    struct sl_slot *slot = trainer_takes(&e);
    assert_int_equal(slot->first_ns, e.now_ns);
    edge_free(&e);
}

/* ---- rules T4 ---- */

static void duplicates__of_every_age(void **state)
{
    start();
    send_units(&e, 1, 1, 0, 4, 1);
    send_units(&e, 1, 1, 0, 4, 9); /* FILLING */
    assert_int_equal(stats_of(&e).units_scratch, 4);
    send_units(&e, 1, 1, 4, 4, 2);
    send_units(&e, 1, 1, 8, 3, 3);
    send_units(&e, 1, 1, 0, 4, 9); /* READY */
    assert_int_equal(stats_of(&e).units_scratch, 8);
    struct sl_slot *slot = trainer_takes(&e);
    assert_int_equal(slot->data[0], 1);
    send_units(&e, 1, 1, 4, 4, 9); /* IN_BATCH */
    assert_int_equal(stats_of(&e).units_scratch, 12);
    trainer_returns(&e, slot, SL_RESULT_GRADIENT);
    turn(&e);
    send_units(&e, 1, 1, 4, 4, 9); /* SENDING */
    ack_all(&e, 1);
    send_units(&e, 1, 1, 4, 4, 9); /* finished */
    assert_int_equal(stats_of(&e).units_scratch, 20);
    for (uint64_t step = 2; step <= 12; step++) {
        trainer_returns(&e, make_ready(&e, 1, step), SL_RESULT_EVAL);
        turn(&e);
        ack_all(&e, 1);
    }
    send_units(&e, 1, 1, 4, 4, 9); /* long forgotten */
    send_units(&e, 1, 4, 4, 4, 9);
    assert_int_equal(stats_of(&e).units_scratch, 28);
    turn(&e);
    for (unsigned i = 0; i < SL_DROP_COUNT; i++)
        assert_int_equal(drops(e.endpoint, i), 0);
    edge_free(&e);
}

/* ---- rules T1, and grants ---- */

static void units__off_the_grid(void **state)
{
    start();
    const struct {
        uint32_t unit0;
        uint16_t n;
    } bad[] = {
        {1, 4}, {0, 3}, {0, 5}, {4, 7}, {8, 4}, {8, 2}, {11, 4}, {12, 4}, {0, 11}, {4000000000, 4}, {2, 2}};
    const unsigned n = sizeof(bad) / sizeof(bad[0]);
    for (unsigned i = 0; i < n; i++)
        send_units(&e, 1, 1, bad[i].unit0, bad[i].n, 9);
    assert_int_equal(drops(e.endpoint, SL_DROP_OFF_GRID), n);
    assert_int_equal(stats_of(&e).units_placed + stats_of(&e).units_scratch, 0);
    send_message(&e, 1, 1);
    assert_non_null(trainer_takes(&e));
    send_units(&e, 1, 1, 1, 4, 9); /* a finished message keeps its grid while it is remembered */
    assert_int_equal(drops(e.endpoint, SL_DROP_OFF_GRID), n + 1);
    assert_conserved(&e);
    edge_free(&e);
}

static void units__without_a_grant(void **state)
{
    start();
    edge_open(&e, 2, 2);
    send_units(&e, 1, 0, 0, 4, 9);
    send_units(&e, 1, 2, 0, 4, 9);
    send_units(&e, 1, 9, 0, 4, 9); /* in grant 1's place */
    send_units(&e, 2, 1, 0, 4, 9); /* another session's */
    assert_int_equal(drops(e.endpoint, SL_DROP_NO_GRANT), 4);
    assert_int_equal(stats_of(&e).units_placed + stats_of(&e).units_scratch, 0);

    struct sl_rx rx = {.session = SESSIONS, .grant = 1, .n_units = 4},
                 *p = &rx; /* a session that cannot be */
    sl_ingest_sink.place(e.ingest, &p, 1);
    assert_int_equal(rx.how, SL_REFUSE);
    assert_int_equal(rx.reason, SL_DROP_NO_GRANT);
    rx = (struct sl_rx){.session = 3, .grant = 1, .n_units = 4}; /* one that is not open */
    sl_ingest_sink.place(e.ingest, &p, 1);
    assert_int_equal(rx.how, SL_REFUSE);
    edge_free(&e);
}

/* The same index in two sessions is two grants: fragments that alternate in one burst find their own slots.
 */
static void sessions__are_not_confused(void **state)
{
    start();
    edge_open(&e, 2, 2);
    ask(&e, 2, 1);
    turn(&e);
    assert_int_equal(granted_index(&e, 2), 1);
    for (uint32_t unit0 = 0; unit0 < UNITS; unit0 += FRAGMENT) {
        uint16_t n = unit0 == 8 ? 3 : FRAGMENT;
        burst_units(&e, &burst, 1, 1, unit0, n, 0x11, false);
        burst_units(&e, &burst, 2, 1, unit0, n, 0x22, false);
    }
    assert_int_equal(burst_send(&e, &burst), 6);
    for (unsigned i = 1; i <= 2; i++) {
        struct sl_slot *slot = trainer_takes(&e);
        assert_int_equal(slot->session, i);
        for (unsigned b = 0; b < UNITS * SL_UNIT_BYTES; b++)
            assert_int_equal(slot->data[b], 0x11 * i);
    }
    assert_conserved(&e);
    edge_free(&e);
}

/* ---- rules T5: units 0-3 came on the grid of 4; from then on the device sends runs of 6 ---- */

static void overlap__only_missing_units_are_copied(void **state)
{
    start();
    send_units(&e, 1, 1, 0, 4, 1);
    assert_int_equal(sl_ingest_set_fragment_units(e.ingest, 1, 6), 0);
    burst_units(&e, &burst, 1, 1, 0, 6, 9, true); /* forged: nothing is copied, the claim is released */
    burst_units(&e, &burst, 1, 1, 0, 6, 5, false);
    assert_int_equal(burst_send(&e, &burst), 1);
    assert_int_equal(stats_of(&e).units_released, 6);
    assert_int_equal(stats_of(&e).units_placed, 6);
    assert_int_equal(stats_of(&e).units_scratch, 4);
    send_units(
        &e, 1, 1, 4, 4, 7); /* the old grid, sent before the change: 4 and 5 are there, 6 and 7 are not */
    send_units(&e, 1, 1, 6, 5, 8); /* the new one: 8, 9 and 10 are missing */
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    const uint8_t want[UNITS] = {1, 1, 1, 1, 5, 5, 7, 7, 8, 8, 8};
    for (unsigned i = 0; i < UNITS * SL_UNIT_BYTES; i++)
        assert_int_equal(slot->data[i], want[i / SL_UNIT_BYTES]);
    assert_int_equal(stats_of(&e).units_placed, UNITS);
    assert_conserved(&e);
    edge_free(&e);
}

/* There is room for one overlapping packet at a time: others of the burst wait for the serial pass. */
static void overlap__two_in_a_burst(void **state)
{
    start();
    send_units(&e, 1, 1, 0, 4, 1);
    send_units(&e, 1, 1, 8, 3, 3);
    assert_int_equal(sl_ingest_set_fragment_units(e.ingest, 1, 6), 0);
    burst_units(&e, &burst, 1, 1, 0, 6, 5, false);
    burst_units(&e, &burst, 1, 1, 6, 5, 6, false);
    burst_send(&e, &burst);
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    const uint8_t want[UNITS] = {1, 1, 1, 1, 5, 5, 6, 6, 3, 3, 3};
    for (unsigned i = 0; i < UNITS * SL_UNIT_BYTES; i++)
        assert_int_equal(slot->data[i], want[i / SL_UNIT_BYTES]);
    edge_free(&e);
}

static void fragment_size__of_grants_to_come(void **state)
{
    start();
    assert_int_equal(sl_ingest_set_fragment_units(e.ingest, 1, 0), -EINVAL);
    assert_int_equal(sl_ingest_set_fragment_units(e.ingest, 1, 141), -EINVAL);
    assert_int_equal(sl_ingest_set_fragment_units(e.ingest, 3, 4), -ENOENT);
    assert_int_equal(sl_ingest_set_fragment_units(e.ingest, 1, 6), 0);
    ask(&e, 1, 2);
    turn(&e);
    send_units(&e, 1, 2, 0, 4, 9); /* the old grid does not hold for a new grant */
    assert_int_equal(drops(e.endpoint, SL_DROP_OFF_GRID), 1);
    send_units(&e, 1, 2, 0, 6, 1);
    send_units(&e, 1, 2, 6, 5, 1);
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    assert_int_equal(slot->grid.fragment_units, 6);
    edge_free(&e);
}

/* ---- the ready ring ---- */

static void ready_ring__full(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 4, .ring_capacity = 2}); /* holds one */
    for (uint32_t s = 0; s < SESSIONS; s++) {
        edge_open(&e, s, s);
        ask(&e, s, 1);
        turn(&e);
        send_message(&e, s, 1);
    }
    assert_int_equal(stats_of(&e).ready, 4);
    assert_int_equal(sl_ingest_deadline(e.ingest), e.now_ns + MS);
    for (uint32_t s = 0; s < SESSIONS; s++) { /* none lost, none overtaken */
        struct sl_slot *slot = trainer_takes(&e);
        assert_non_null(slot);
        assert_int_equal(slot->session, s);
        assert_null(trainer_takes(&e));
        turn(&e);
    }
    assert_int_equal(stats_of(&e).with_trainer, 4);
    edge_free(&e);
}

/* The ring has room again, but one that waits was ready before. */
static void ready_ring__nobody_overtakes(void **state)
{
    edge_init(&e, &(struct edge_options){.n_slots = 3, .ring_capacity = 2});
    for (uint32_t s = 0; s < 3; s++) {
        edge_open(&e, s, s);
        ask(&e, s, 1);
    }
    send_message(&e, 0, 1);
    send_message(&e, 1, 1);
    assert_int_equal(trainer_takes(&e)->session, 0);
    send_message(&e, 2, 1);
    turn(&e);
    assert_int_equal(trainer_takes(&e)->session, 1);
    turn(&e);
    assert_int_equal(trainer_takes(&e)->session, 2);
    edge_free(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grid_divides__as_the_remainder_says),
        cmocka_unit_test(burst__valid_then_forged),
        cmocka_unit_test(burst__forged_then_valid),
        cmocka_unit_test(burst__valid_then_valid),
        cmocka_unit_test(forged__last_fragment_does_not_complete),
        cmocka_unit_test(forged__does_not_start_the_clock),
        cmocka_unit_test(duplicates__of_every_age),
        cmocka_unit_test(units__off_the_grid),
        cmocka_unit_test(units__without_a_grant),
        cmocka_unit_test(sessions__are_not_confused),
        cmocka_unit_test(overlap__only_missing_units_are_copied),
        cmocka_unit_test(overlap__two_in_a_burst),
        cmocka_unit_test(fragment_size__of_grants_to_come),
        cmocka_unit_test(ready_ring__full),
        cmocka_unit_test(ready_ring__nobody_overtakes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
