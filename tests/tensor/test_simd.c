#include "tests/tensor/twin.h"
#include "trainer/tensor/simd.h"

#include <float.h>
#include <math.h>

SL_CLONES static void exp_all(const float *x, float *y, int n)
{
#pragma omp simd
    for (int i = 0; i < n; i++)
        y[i] = sl_expf(x[i]);
}

/* Every float of a fine grid over the whole range, against libm in double. */
static void expf__within_two_ulp_of_libm(void **state)
{
    enum { N = 1024 };
    float x[N], y[N];
    double worst = 0;
    for (double at = -87.29; at < 88.6; at += N * 1e-4) {
        for (int i = 0; i < N; i++)
            x[i] = (float)fmin(at + i * 1e-4, 88.69);
        exp_all(x, y, N);
        for (int i = 0; i < N; i++) {
            double exact = exp((double)x[i]), ulp = ldexp(1, ilogb(exact) - 23);
            worst = fmax(worst, fabs(y[i] - exact) / ulp);
        }
    }
    print_message("worst: %.2f ulp\n", worst);
    assert_true(worst < 2);
}

static void expf__edges(void **state)
{
    float x[] = {0, -0.0f, -88, -1e30f, -INFINITY, 1e30f, INFINITY, NAN}, y[8];
    exp_all(x, y, 8);
    assert_true(y[0] == 1 && y[1] == 1);
    assert_true(y[2] == 0 && y[3] == 0 && y[4] == 0);
    assert_true(y[5] > 3e38f && isfinite(y[5]) && y[6] == y[5]);
    assert_true(isnan(y[7]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(expf__within_two_ulp_of_libm),
        cmocka_unit_test(expf__edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
