#include "tests/tensor/twin.h"
#include "trainer/tensor/rng.h"

#include <math.h>

/* SplitMix64 from seed 0, first outputs (the generator's published reference stream). */
static void rng_u64__is_splitmix64(void **state)
{
    assert_int_equal(sl_rng_u64(0, 0), 0xE220A8397B1DCDAFu);
    assert_int_equal(sl_rng_u64(0, 1), 0x6E789E6AA1B965F4u);
    assert_int_equal(sl_rng_u64(0, 2), 0x06C45D188009454Fu);
}

static void rng_key__depends_on_seed_and_name(void **state)
{
    assert_int_not_equal(sl_rng_key(1, "a"), sl_rng_key(2, "a"));
    assert_int_not_equal(sl_rng_key(1, "a"), sl_rng_key(1, "b"));
}

/* Mean 0, variance 1, fourth moment 3, each within five standard errors. */
static void rng_normal__has_the_moments_of_a_normal(void **state)
{
    enum { N = 200000 };
    double m1 = 0, m2 = 0, m4 = 0;
    for (uint64_t i = 0; i < N; i++) {
        double z = sl_rng_normal(42, i);
        m1 += z / N;
        m2 += z * z / N;
        m4 += z * z * z * z / N;
    }
    assert_true(fabs(m1) < 5 / sqrt(N));
    assert_true(fabs(m2 - 1) < 5 * sqrt(2.0 / N));
    assert_true(fabs(m4 - 3) < 5 * sqrt(96.0 / N));
}

static void rng_uniform__fills_its_interval(void **state)
{
    float min = 1, max = -1;
    double mean = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        float u = sl_rng_uniform(7, i);
        min = fminf(min, u);
        max = fmaxf(max, u);
        mean += u / 100000;
    }
    assert_true(min >= -1 && min < -0.999f && max < 1 && max > 0.999f);
    assert_true(fabs(mean) < 5 / sqrt(3.0 * 100000));
}

/* Its ends never come, even where all bits are 0 or 1; mean and variance within five standard errors. */
static void rng_open__is_uniform_without_its_ends(void **state)
{
    enum { N = 100000 };
    double m1 = 0, m2 = 0;
    assert_true(((double)(0 >> 12) + 0.5) * 0x1p-52 > 0);
    assert_true(((double)(UINT64_MAX >> 12) + 0.5) * 0x1p-52 < 1);
    for (uint64_t i = 0; i < N; i++) {
        double u = sl_rng_open(42, i);
        assert_true(u > 0 && u < 1);
        m1 += u / N;
        m2 += (u - 0.5) * (u - 0.5) / N;
    }
    assert_true(fabs(m1 - 0.5) < 5 / sqrt(12.0 * N));
    assert_true(fabs(m2 - 1.0 / 12) < 5 * sqrt(1.0 / 180 / N));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rng_u64__is_splitmix64),
        cmocka_unit_test(rng_key__depends_on_seed_and_name),
        cmocka_unit_test(rng_normal__has_the_moments_of_a_normal),
        cmocka_unit_test(rng_uniform__fills_its_interval),
        cmocka_unit_test(rng_open__is_uniform_without_its_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
