/* The clock offset against a model in which it is known: delays drawn at random, unequal both ways. */
#include "device-sim/fleet/clock_offset.h"

#include "tests/wire/test.h"

#include <stdlib.h>

static const int64_t ms = 1000000;
static const uint64_t start = UINT64_C(1795000000000000000);

static void exchange(struct sl_clock_offset *c, uint64_t at, int64_t ahead, int64_t there, int64_t back)
{
    uint64_t t2 = at + (uint64_t)there, t3 = t2 + (uint64_t)ms, t4 = t3 + (uint64_t)back;
    sl_clock_offset_add(c, at, t2 + (uint64_t)ahead, t3 + (uint64_t)ahead, t4);
}

static void best__of_equal_delays_is_exact(void **state)
{
    struct sl_clock_offset c = {0};
    int64_t offset;
    uint64_t uncertainty;
    assert_false(sl_clock_offset_best(&c, &offset, &uncertainty));
    exchange(&c, start, -7 * ms, 3 * ms, 3 * ms);
    assert_true(sl_clock_offset_best(&c, &offset, &uncertainty));
    assert_int_equal(offset, -7 * ms);
    assert_int_equal(uncertainty, 3 * ms);
}

static void best__is_within_its_uncertainty(void **state)
{
    unsigned seed = 1;
    for (int run = 0; run < 1000; run++) {
        struct sl_clock_offset c = {0};
        int64_t ahead = (int64_t)(rand_r(&seed) % 2000000000) - 1000000000, offset;
        uint64_t uncertainty, least = UINT64_MAX;
        for (int i = 0; i < 100; i++) {
            int64_t there = rand_r(&seed) % (20 * ms), back = rand_r(&seed) % (20 * ms);
            exchange(&c, start + (uint64_t)(i * 1000 * ms), ahead, there, back);
            uint64_t half = (uint64_t)(there + back) / 2;
            if (i >= 100 - SL_CLOCK_SAMPLES && half < least)
                least = half;
        }
        assert_true(sl_clock_offset_best(&c, &offset, &uncertainty));
        assert_true((uint64_t)llabs(offset - ahead) <= uncertainty + 1);
        assert_int_equal(uncertainty, least); /* old samples are forgotten, the shortest is taken */
    }
}

static void add__what_cannot_be_true(void **state)
{
    struct sl_clock_offset c = {0};
    int64_t offset;
    uint64_t uncertainty;
    sl_clock_offset_add(&c, start, start, start + 10 * (uint64_t)ms, start + (uint64_t)ms);
    assert_false(sl_clock_offset_best(&c, &offset, &uncertainty));
    sl_clock_offset_add(&c, start, 0, 0, start + (uint64_t)ms); /* an edge in 1970 */
    assert_true(sl_clock_offset_best(&c, &offset, &uncertainty));
    assert_int_equal(offset, -(int64_t)start - ms / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(best__of_equal_delays_is_exact),
        cmocka_unit_test(best__is_within_its_uncertainty),
        cmocka_unit_test(add__what_cannot_be_true),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
