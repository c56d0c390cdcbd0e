/* What each discipline takes, and that its parameters reach it. */
#include "device-sim/link/discipline.h"

#include "tests/wire/test.h"

#include <errno.h>

static const uint64_t ms = 1000000;

static void droptail__counts_bytes_or_packets(void **state)
{
    struct sl_discipline d;

    assert_int_equal(sl_discipline_init(&d, &(struct sl_discipline_params){.bytes = 3000}, 1), 0);
    assert_int_equal(sl_discipline_admit(&d, 1500, 1, 1500, 0), SL_ADMIT);
    assert_int_equal(sl_discipline_admit(&d, 1501, 1, 1500, 0), SL_ADMIT_FULL);
    assert_int_equal(sl_discipline_admit(&d, 0, 0, 9000, 0), SL_ADMIT); /* an empty queue takes any */
    assert_int_equal(sl_discipline_init(&d, &(struct sl_discipline_params){.packets = 10}, 1), 0);
    assert_int_equal(sl_discipline_admit(&d, 1 << 30, 9, 1500, 0), SL_ADMIT);
    assert_int_equal(sl_discipline_admit(&d, 0, 10, 40, 0), SL_ADMIT_FULL);
    assert_false(sl_discipline_drops_head(&d, 10000 * ms, 1 << 30, 20000 * ms));
}

static void none__takes_everything(void **state)
{
    struct sl_discipline d;

    assert_int_equal(
        sl_discipline_init(
            &d, &(struct sl_discipline_params){.kind = SL_DISCIPLINE_NONE, .bytes = 1, .packets = 1}, 1),
        0);
    assert_int_equal(sl_discipline_admit(&d, UINT64_MAX / 2, 1000000, 1500, 0), SL_ADMIT);
}

/* Under a standing queue of 20 ms, with a target of 10 ms over 50 ms. */
static void codel__drops_at_its_target_and_is_full(void **state)
{
    struct sl_discipline d;
    struct sl_discipline_params p = {
        .kind = SL_DISCIPLINE_CODEL, .bytes = 5000, .target_ns = 10 * ms, .interval_ns = 50 * ms};

    assert_int_equal(sl_discipline_init(&d, &p, 1), 0);
    assert_int_equal(sl_discipline_admit(&d, 4000, 3, 1500, 0), SL_ADMIT_FULL);
    assert_false(sl_discipline_drops_head(&d, 20 * ms, 4000, 1000 * ms));
    assert_false(sl_discipline_drops_head(&d, 20 * ms, 4000, 1049 * ms));
    assert_true(sl_discipline_drops_head(&d, 20 * ms, 4000, 1050 * ms));
    assert_false(sl_discipline_drops_head(&d, 20 * ms, 4000, 1050 * ms)); /* the next goes */
    p.target_ns = p.interval_ns = 0;
    assert_int_equal(sl_discipline_init(&d, &p, 1), 0);
    assert_int_equal(d.codel.target_ns, 5 * ms);
    assert_int_equal(d.codel.interval_ns, 100 * ms);
}

static void pie__drops_early_and_is_full(void **state)
{
    struct sl_discipline d;
    struct sl_discipline_params p = {.kind = SL_DISCIPLINE_PIE, .bytes = 1000000};
    unsigned early = 0;

    assert_int_equal(sl_discipline_init(&d, &p, 1), 0);
    for (uint64_t i = 0; i < 5000; i++) {
        early += sl_discipline_admit(&d, 100000, 70, 1500, i * ms) == SL_ADMIT_EARLY;
        assert_false(sl_discipline_drops_head(&d, 80 * ms, 100000, i * ms));
    }
    assert_true(early > 1000);
    assert_int_equal(sl_discipline_admit(&d, 999000, 700, 1500, 5000 * ms), SL_ADMIT_FULL);
}

static void init__refuses_what_is_no_queue(void **state)
{
    struct sl_discipline d;
    static const struct sl_discipline_params bad[] = {{0}, {.kind = SL_DISCIPLINE_CODEL},
        {.kind = SL_DISCIPLINE_COUNT, .bytes = 1},
        {.kind = SL_DISCIPLINE_CODEL, .bytes = 1000, .target_ns = 2, .interval_ns = 1}};

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(sl_discipline_init(&d, &bad[i], 0), -EINVAL);
    assert_string_equal(sl_discipline_name(SL_DISCIPLINE_CODEL), "codel");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(droptail__counts_bytes_or_packets),
        cmocka_unit_test(none__takes_everything),
        cmocka_unit_test(codel__drops_at_its_target_and_is_full),
        cmocka_unit_test(pie__drops_early_and_is_full),
        cmocka_unit_test(init__refuses_what_is_no_queue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
