#include "tests/pipeline/test.h"
#include "trainer/pipeline/gang.h"

#define MS UINT64_C(1000000)

static struct sl_gang *gang_of(uint32_t live, uint32_t capacity, double quorum, uint64_t deadline_ms)
{
    struct sl_gang *g;
    struct sl_gang_config c = {
        .quorum = quorum, .deadline_ns = deadline_ms * MS, .capacity = capacity, .max_devices = 16};
    assert_int_equal(sl_gang_create(&c, &g), 0);
    for (uint32_t i = 0; i < live; i++)
        sl_gang_set_live(g, i, true);
    sl_gang_open(g, 0);
    return g;
}

static void ready(struct sl_gang *g, uint32_t first, uint32_t n)
{
    for (uint32_t i = first; i < first + n; i++)
        sl_gang_set_ready(g, i, true);
}

static void should_start__all_live_are_ready(void **state)
{
    struct sl_gang *g = gang_of(4, 64, 0.75, 100);
    ready(g, 0, 3);
    assert_false(sl_gang_should_start(g, 1));
    ready(g, 3, 1);
    assert_true(sl_gang_should_start(g, 1));
    sl_gang_free(g);
}

static void should_start__quorum_at_the_deadline(void **state)
{
    struct sl_gang *g = gang_of(4, 64, 0.75, 100);
    ready(g, 0, 3);
    assert_false(sl_gang_should_start(g, 100 * MS - 1));
    assert_true(sl_gang_should_start(g, 100 * MS));
    sl_gang_free(g);
}

static void should_start__below_quorum_waits_on_after_the_deadline(void **state)
{
    struct sl_gang *g = gang_of(4, 64, 0.75, 100);
    ready(g, 0, 2);
    assert_false(sl_gang_should_start(g, 5000 * MS));
    ready(g, 2, 1);
    assert_true(sl_gang_should_start(g, 5000 * MS));
    sl_gang_free(g);
}

static void should_start__nobody_is_ready(void **state)
{
    struct sl_gang *g = gang_of(0, 64, 0.75, 100);
    assert_false(sl_gang_should_start(g, 1000 * MS));
    sl_gang_free(g);
}

static void should_start__a_closed_gang_does_not(void **state)
{
    struct sl_gang *g = gang_of(1, 64, 1, 100);
    ready(g, 0, 1);
    sl_gang_close(g);
    assert_false(sl_gang_should_start(g, 1000 * MS));
    sl_gang_free(g);
}

static void should_start__a_device_that_died_is_not_waited_for(void **state)
{
    struct sl_gang *g = gang_of(4, 64, 1, 100);
    ready(g, 0, 3);
    assert_false(sl_gang_should_start(g, 1));
    sl_gang_set_live(g, 3, false);
    assert_true(sl_gang_should_start(g, 1));
    sl_gang_set_live(g, 0, false); /* takes its message along */
    assert_int_equal(sl_gang_ready(g), 2);
    assert_int_equal(sl_gang_live(g), 2);
    sl_gang_free(g);
}

/* With more devices than slots it waits for half of the slots: the other half fills meanwhile. */
static void should_start__devices_beyond_the_slots_do_not_hold_it_up(void **state)
{
    struct sl_gang *g = gang_of(8, 4, 0.75, 100);
    ready(g, 4, 1);
    assert_false(sl_gang_should_start(g, 1));
    ready(g, 6, 1);
    assert_true(sl_gang_should_start(g, 1));
    sl_gang_free(g);
    g = gang_of(4, 4, 1, 100); /* a slot for each: all of them */
    ready(g, 0, 3);
    assert_false(sl_gang_should_start(g, 1));
    ready(g, 3, 1);
    assert_true(sl_gang_should_start(g, 1));
    sl_gang_free(g);
}

static void should_start__room_is_counted_lcore_by_lcore(void **state)
{
    struct sl_gang *g;
    struct sl_gang_config c = {
        .quorum = 1, .capacity = 8, .max_devices = 16, .n_lcores = 2, .lcore_slots = {2, 2}};
    /* three on one lcore, one on the other: waits for half of 2, and 1 */
    assert_int_equal(sl_gang_create(&c, &g), 0);
    for (uint32_t i = 0; i < 4; i++) {
        sl_gang_set_lcore(g, i, i < 3 ? 0 : 1);
        sl_gang_set_live(g, i, true);
    }
    sl_gang_open(g, 0);
    ready(g, 0, 1);
    assert_false(sl_gang_should_start(g, 1));
    ready(g, 3, 1);
    assert_true(sl_gang_should_start(g, 1));
    ready(g, 1, 1);
    sl_gang_set_live(g, 2, false); /* it is back on the other lcore */
    sl_gang_set_lcore(g, 2, 1);
    sl_gang_set_live(g, 2, true);
    assert_false(sl_gang_should_start(g, 1));
    ready(g, 2, 1);
    assert_true(sl_gang_should_start(g, 1));
    sl_gang_free(g);
}

static void should_start__asynchronous_waits_for_nobody(void **state)
{
    struct sl_gang *g;
    struct sl_gang_config c = {.quorum = 1, .async = true, .capacity = 8, .max_devices = 16};
    assert_int_equal(sl_gang_create(&c, &g), 0);
    for (uint32_t i = 0; i < 5; i++)
        sl_gang_set_live(g, i, true);
    sl_gang_open(g, 0);
    assert_false(sl_gang_should_start(g, 1));
    ready(g, 3, 1);
    assert_true(sl_gang_should_start(g, 1));
    sl_gang_close(g);
    assert_false(sl_gang_should_start(g, 1));
    sl_gang_free(g);
}

static void should_start__deterministic_waits_for_every_device_of_the_experiment(void **state)
{
    struct sl_gang *g;
    struct sl_gang_config c = {
        .quorum = 0.5, .deterministic = true, .n_devices = 3, .capacity = 8, .max_devices = 16};
    assert_int_equal(sl_gang_create(&c, &g), 0);
    sl_gang_set_live(g, 0, true);
    sl_gang_set_live(g, 1, true);
    sl_gang_open(g, 0);
    ready(g, 0, 2);
    assert_false(sl_gang_should_start(g, UINT64_MAX / 2)); /* no deadline, and two live ones are not three */
    sl_gang_set_live(g, 2, true);
    ready(g, 2, 1);
    assert_true(sl_gang_should_start(g, 1));
    sl_gang_free(g);
}

static void set_ready__counts_a_message_once(void **state)
{
    struct sl_gang *g = gang_of(2, 64, 1, 100);
    ready(g, 0, 1);
    ready(g, 0, 1);
    assert_int_equal(sl_gang_ready(g), 1);
    sl_gang_set_ready(g, 0, false);
    sl_gang_set_ready(g, 0, false);
    assert_int_equal(sl_gang_ready(g), 0);
    ready(g, 9, 1); /* not live */
    assert_int_equal(sl_gang_ready(g), 0);
    sl_gang_free(g);
}

static void deadline__is_three_times_the_median_gang(void **state)
{
    struct sl_gang *g = gang_of(2, 64, 0.5, 0);
    assert_int_equal(sl_gang_deadline_ns(g), SL_GANG_FIRST_DEADLINE_NS);
    static const uint64_t took_ms[] = {100, 900, 110, 90, 105};
    uint64_t now = 0;
    for (unsigned i = 0; i < 5; i++) {
        now += took_ms[i] * MS;
        sl_gang_done(g, now);
    }
    assert_int_equal(sl_gang_median_ns(g), 105 * MS);
    assert_int_equal(sl_gang_deadline_ns(g), 315 * MS);
    ready(g, 0, 1);
    assert_false(sl_gang_should_start(g, now + 314 * MS));
    assert_true(sl_gang_should_start(g, now + 315 * MS)); /* counted from the end of the last gang */
    sl_gang_free(g);
}

static void deadline__does_not_fall_below_scheduling_noise(void **state)
{
    struct sl_gang *g = gang_of(2, 64, 0.5, 0);
    for (unsigned i = 1; i <= 40; i++)
        sl_gang_done(g, i);
    assert_int_equal(sl_gang_deadline_ns(g), SL_GANG_DEADLINE_MIN_NS);
    sl_gang_free(g);
}

static void open__restarts_the_deadline_after_an_aggregation(void **state)
{
    struct sl_gang *g = gang_of(2, 64, 0.5, 100);
    ready(g, 0, 1);
    sl_gang_open(g, 500 * MS);
    assert_false(sl_gang_should_start(g, 599 * MS));
    assert_true(sl_gang_should_start(g, 600 * MS));
    sl_gang_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(should_start__all_live_are_ready),
        cmocka_unit_test(should_start__quorum_at_the_deadline),
        cmocka_unit_test(should_start__below_quorum_waits_on_after_the_deadline),
        cmocka_unit_test(should_start__nobody_is_ready),
        cmocka_unit_test(should_start__a_closed_gang_does_not),
        cmocka_unit_test(should_start__a_device_that_died_is_not_waited_for),
        cmocka_unit_test(should_start__devices_beyond_the_slots_do_not_hold_it_up),
        cmocka_unit_test(should_start__room_is_counted_lcore_by_lcore),
        cmocka_unit_test(should_start__asynchronous_waits_for_nobody),
        cmocka_unit_test(should_start__deterministic_waits_for_every_device_of_the_experiment),
        cmocka_unit_test(set_ready__counts_a_message_once),
        cmocka_unit_test(deadline__is_three_times_the_median_gang),
        cmocka_unit_test(deadline__does_not_fall_below_scheduling_noise),
        cmocka_unit_test(open__restarts_the_deadline_after_an_aggregation),
    };
    return cmocka_run_group_tests_name("pipeline/gang", tests, NULL, NULL);
}
