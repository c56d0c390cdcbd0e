/* Outages against their distributions and by hand. */
#include "device-sim/link/outage.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

static const uint64_t s_ns = 1000000000;

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* Kolmogorov and Smirnov's distance to the exponential with mean 1; 1.95 / sqrt(n) is exceeded once in a
 * thousand. */
static void assert_exponential(double *x, size_t n)
{
    double worst = 0;

    qsort(x, n, sizeof *x, ascending);
    for (size_t i = 0; i < n; i++) {
        double f = 1 - exp(-x[i]);
        worst = fmax(worst, fmax(fabs(f - (double)i / (double)n), fabs(f - (double)(i + 1) / (double)n)));
    }
    assert_true(worst < 1.95 / sqrt((double)n));
}

static void outage__gaps_and_lengths_are_exponential(void **state)
{
    enum { N = 5000 };
    struct sl_outage_params p = {.every_ns = 30 * s_ns, .for_ns = 4 * s_ns, .zero_ns = 7 * s_ns};
    struct sl_outage o;
    double *gap = calloc(N, sizeof *gap), *length = calloc(N, sizeof *length);
    uint64_t end = p.zero_ns;

    assert_int_equal(sl_outage_init(&o, &p, sl_rng_key(3, "phone")), 0);
    for (size_t i = 0; i < N; i++) {
        gap[i] = (double)(o.start_ns - end) / 30e9;
        length[i] = (double)(o.end_ns - o.start_ns) / 4e9;
        end = o.end_ns;
        assert_true(sl_outage_clear(&o, o.start_ns - 1) == o.start_ns - 1);
        assert_true(sl_outage_clear(&o, o.start_ns) == end);
        assert_true(sl_outage_clear(&o, end) >= end);
    }
    assert_exponential(gap, N);
    assert_exponential(length, N);
    free(gap);
    free(length);
}

static void outage__regular_ones_end_each_period(void **state)
{
    struct sl_outage_params p = {
        .every_ns = 10 * s_ns, .for_ns = 2 * s_ns, .regular = true, .zero_ns = 100 * s_ns};
    struct sl_outage o;

    assert_int_equal(sl_outage_init(&o, &p, 1), 0);
    assert_true(sl_outage_clear(&o, 100 * s_ns) == 100 * s_ns);
    assert_true(sl_outage_clear(&o, 108 * s_ns) == 110 * s_ns);
    assert_true(sl_outage_clear(&o, 110 * s_ns) == 110 * s_ns);
    assert_true(sl_outage_clear(&o, 139 * s_ns) == 140 * s_ns);
}

static void init__refuses_what_never_ends(void **state)
{
    struct sl_outage o;

    assert_int_equal(sl_outage_init(&o, &(struct sl_outage_params){.every_ns = 5}, 1), -EINVAL);
    assert_int_equal(
        sl_outage_init(&o, &(struct sl_outage_params){.every_ns = 5, .for_ns = 5, .regular = true}, 1),
        -EINVAL);
    assert_int_equal(sl_outage_init(&o, &(struct sl_outage_params){0}, 1), 0);
    assert_true(sl_outage_clear(&o, 99) == 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(outage__gaps_and_lengths_are_exponential),
        cmocka_unit_test(outage__regular_ones_end_each_period),
        cmocka_unit_test(init__refuses_what_never_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
