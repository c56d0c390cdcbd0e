#include "tests/bench/sample.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void quantile__nearest_rank(void **state)
{
    struct bench_sample s;
    assert_int_equal(bench_sample_init(&s, 1000), 0);
    assert_true(bench_sample_median(&s) == 0);
    for (int i = 0; i < 1000; i++)
        bench_sample_add(&s, (double)((i * 7919) % 1000)); /* a permutation of 0..999 */
    assert_true(bench_sample_quantile(&s, 0) == 0);
    assert_true(bench_sample_median(&s) == 500);
    assert_true(bench_sample_quantile(&s, 0.99) == 990);
    assert_true(bench_sample_quantile(&s, 0.999) == 999);
    assert_true(bench_sample_quantile(&s, 1) == 999);
    bench_sample_add(&s, 5000); /* beyond its room */
    assert_true(bench_sample_quantile(&s, 1) == 999);
    bench_sample_clear(&s);
    bench_sample_add(&s, 3);
    assert_true(bench_sample_median(&s) == 3);
    bench_sample_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantile__nearest_rank)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
