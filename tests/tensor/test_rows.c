#include "tests/tensor/twin.h"
#include "trainer/tensor/rows.h"

#include <math.h>
#include <stdlib.h>

enum { ROWS = 7, D = 61 };

static void rows__bias_sum_and_add(void **state)
{
    float *x = twin_data("x", ROWS * D, 1), *bias = twin_data("bias", D, 1), y[ROWS * D], sum[D];
    for (int j = 0; j < D; j++)
        sum[j] = bias[j];
    sl_rows_bias(NULL, bias, ROWS, D, y);
    for (int i = 0; i < ROWS * D; i++)
        assert_true(y[i] == bias[i % D]);
    sl_add(x, ROWS * D, y);
    for (int i = 0; i < ROWS * D; i++)
        assert_true(y[i] == bias[i % D] + x[i]);
    sl_rows_bias(x, bias, ROWS, D, x);
    assert_memory_equal(x, y, sizeof y);
    sl_rows_sum(x, ROWS, D, sum);
    for (int j = 0; j < D; j++) {
        float expected = bias[j];
        for (int i = 0; i < ROWS; i++)
            expected += x[i * D + j];
        assert_true(sum[j] == expected);
    }
    free(x);
    free(bias);
}

static void all_finite__sees_each_element(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    float x[D];
    for (int j = 0; j < D; j++)
        x[j] = j % 2 ? 3.4e38f : -3.4e38f; /* whose sum would overflow */
    assert_true(sl_all_finite(x, 0));
    assert_true(sl_all_finite(x, D));
    for (int j = 0; j < D; j++) {
        float kept = x[j];
        x[j] = bad[j % 3];
        assert_false(sl_all_finite(x, D));
        assert_true(sl_all_finite(x, (size_t)j));
        x[j] = kept;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows__bias_sum_and_add),
        cmocka_unit_test(all_finite__sees_each_element),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
