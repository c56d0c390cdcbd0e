#include "tests/tensor/twin.h"
#include "trainer/tensor/gemm.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { M = 61, N = 37, K = 129, LD = 140 };

/* a(i, k), b(k, j) by their strides. */
static void multiply(
    const float *a, size_t ai, size_t ak, const float *b, size_t bk, size_t bj, const float *c0, double *twin)
{
    for (int i = 0; i < M; i++) {
        for (int j = 0; j < N; j++) {
            double sum = 0;
            for (int k = 0; k < K; k++)
                sum += (double)a[i * ai + k * ak] * b[k * bk + j * bj];
            twin[i * N + j] = 0.5 * sum + c0[i * N + j];
        }
    }
}

/* All three products on matrices inside wider ones. */
static void gemm__agrees_with_sums_in_double(void **state)
{
    float *a = twin_data("a", K * LD, 1), *b = twin_data("b", K * LD, 1), *c0 = twin_data("c", M * N, 1);
    float *c = malloc(M * N * sizeof *c);
    double *twin = malloc(M * N * sizeof *twin);

    memcpy(c, c0, M * N * sizeof *c);
    sl_gemm(false, M, N, K, 0.5f, a, LD, b, LD, 1, c, N);
    multiply(a, LD, 1, b, LD, 1, c0, twin);
    twin_close(c, twin, M * N, 1e-6, "a b");

    memcpy(c, c0, M * N * sizeof *c);
    sl_gemm(true, M, N, K, 0.5f, a, LD, b, LD, 1, c, N);
    multiply(a, LD, 1, b, 1, LD, c0, twin);
    twin_close(c, twin, M * N, 1e-6, "a bT");

    memcpy(c, c0, M * N * sizeof *c);
    sl_gemm_at(M, N, K, 0.5f, a, LD, b, LD, 1, c, N);
    multiply(a, 1, LD, b, LD, 1, c0, twin);
    twin_close(c, twin, M * N, 1e-6, "aT b");
    free(a);
    free(b);
    free(c0);
    free(c);
    free(twin);
}

static void gemm_kernel_name__is_told(void **state)
{
    assert_true(strlen(sl_gemm_kernel_name()) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm__agrees_with_sums_in_double),
        cmocka_unit_test(gemm_kernel_name__is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
