#include "trainer/experiment/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sl_histogram h;

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

static void quantile__within_resolution_of_the_sorted_values(void **state)
{
    enum { N = 20000 };
    static uint64_t v[N];
    static const double q[] = {0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0};
    uint64_t x = 88172645463325252u;

    sl_histogram_reset(&h);
    for (int i = 0; i < N; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        v[i] = x >> (x % 60 + 1);
        sl_histogram_record(&h, v[i]);
    }
    qsort(v, N, sizeof v[0], by_value);
    for (size_t i = 0; i < sizeof q / sizeof q[0]; i++) {
        size_t rank = (size_t)(q[i] * N + 0.5);
        uint64_t exact = v[rank < 1 ? 0 : rank - 1], got = sl_histogram_quantile(&h, q[i]);
        assert_true(got >= exact);
        assert_true((double)(got - exact) <= (double)exact / 128 + 1);
    }
    assert_true(h.count == N && h.min == v[0] && h.max == v[N - 1]);
}

static void record__the_largest_value_has_a_bucket(void **state)
{
    sl_histogram_reset(&h);
    sl_histogram_record(&h, UINT64_MAX);
    assert_true(sl_histogram_quantile(&h, 1) == INT64_MAX);
}

static void quantile__empty(void **state)
{
    sl_histogram_reset(&h);
    assert_true(sl_histogram_quantile(&h, 0.5) == 0);
}

/* Decoding by the format's description, in another language: tests/experiment/decode_hlog.py. */
static void log__decodes_independently(void **state)
{
    char path[] = "/tmp/sluice-hlog-XXXXXX", command[512];
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");

    sl_histogram_reset(&h);
    for (uint64_t i = 0; i < 1000; i++)
        sl_histogram_record(&h, i * i * 1000);
    assert_int_equal(sl_histogram_log(&h, f, "message", 12.5, 3.0, 1), 0);
    fclose(f);
    snprintf(
        command, sizeof command, "/usr/bin/python3 " SOURCE_ROOT "/tests/experiment/decode_hlog.py %s", path);
    int status = system(command);
    remove(path);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantile__within_resolution_of_the_sorted_values),
        cmocka_unit_test(record__the_largest_value_has_a_bucket),
        cmocka_unit_test(quantile__empty),
        cmocka_unit_test(log__decodes_independently),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
