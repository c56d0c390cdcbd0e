/* Against an SVD by one-sided Jacobi rotations of the whole matrix, which shares nothing with LAPACK. */
#include "tests/tensor/twin.h"
#include "trainer/tensor/lowrank.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static double *doubles(const char *name, size_t n)
{
    float *f = twin_data(name, n, 1);
    double *d = malloc(n * sizeof *d);
    for (size_t i = 0; i < n; i++)
        d[i] = f[i];
    free(f);
    return d;
}

/* M [m, n] = L Rᵀ, column-major. */
static double *product(uint32_t m, uint32_t n, uint32_t k, const double *l, const double *r)
{
    double *p = calloc((size_t)m * n, sizeof *p);
    for (uint32_t j = 0; j < n; j++)
        for (uint32_t c = 0; c < k; c++)
            for (uint32_t i = 0; i < m; i++)
                p[(size_t)j * m + i] += l[(size_t)c * m + i] * r[(size_t)c * n + j];
    return p;
}

static int descending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Rotates columns of p until all are orthogonal (Hestenes, 1958); their lengths are the singular values. */
static void jacobi(double *p, uint32_t m, uint32_t n, double *values)
{
    for (unsigned sweep = 0; sweep < 60; sweep++) {
        bool rotated = false;
        for (uint32_t a = 0; a < n; a++) {
            for (uint32_t b = a + 1; b < n; b++) {
                double *x = p + (size_t)a * m, *y = p + (size_t)b * m, aa = 0, bb = 0, ab = 0;
                for (uint32_t i = 0; i < m; i++) {
                    aa += x[i] * x[i];
                    bb += y[i] * y[i];
                    ab += x[i] * y[i];
                }
                if (fabs(ab) <= 1e-15 * sqrt(aa * bb))
                    continue;
                rotated = true;
                double z = (bb - aa) / (2 * ab);
                double t = (z >= 0 ? 1 : -1) / (fabs(z) + sqrt(1 + z * z)), c = 1 / sqrt(1 + t * t),
                       s = c * t;
                for (uint32_t i = 0; i < m; i++) {
                    double xi = x[i];
                    x[i] = c * xi - s * y[i];
                    y[i] = s * xi + c * y[i];
                }
            }
        }
        if (!rotated)
            break;
    }
    for (uint32_t j = 0; j < n; j++) {
        double square = 0;
        for (uint32_t i = 0; i < m; i++)
            square += p[(size_t)j * m + i] * p[(size_t)j * m + i];
        values[j] = sqrt(square);
    }
    qsort(values, n, sizeof *values, descending);
}

static double norm(const double *x, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += x[i] * x[i];
    return sqrt(s);
}

/* |M - U S Vᵀ| for the first `rank`. */
static double residual(uint32_t m, uint32_t n, const double *whole, uint32_t rank, const double *u,
    const double *v, const double *sigma, uint32_t values)
{
    double *rest = malloc((size_t)m * n * sizeof *rest);
    memcpy(rest, whole, (size_t)m * n * sizeof *rest);
    for (uint32_t c = 0; c < rank && c < values; c++)
        for (uint32_t j = 0; j < n; j++)
            for (uint32_t i = 0; i < m; i++)
                rest[(size_t)j * m + i] -= sigma[c] * u[(size_t)c * m + i] * v[(size_t)c * n + j];
    double r = norm(rest, (size_t)m * n);
    free(rest);
    return r;
}

static void check(uint32_t m, uint32_t n, uint32_t k, uint32_t rank)
{
    double *l = doubles("left", (size_t)m * k), *r = doubles("right", (size_t)n * k);
    double *whole = product(m, n, k, l, r), *scratch = product(m, n, k, l, r);
    double *u = malloc((size_t)m * rank * sizeof *u), *v = malloc((size_t)n * rank * sizeof *v);
    double *sigma = malloc(k * sizeof *sigma), *twin = malloc(n * sizeof *twin), best = 0;
    uint32_t values = k < m ? k : m;
    values = values < n ? values : n;
    struct sl_lowrank *w = sl_lowrank_create(m, n, k);
    assert_non_null(w);
    double size = norm(whole, (size_t)m * n);
    assert_int_equal(sl_lowrank_factor(w, m, n, k, l, r, rank, u, v, sigma), 0);
    jacobi(scratch, m, n, twin);
    for (uint32_t i = 0; i < values; i++)
        assert_true(fabs(sigma[i] - twin[i]) <= 1e-12 * size);
    for (uint32_t i = rank; i < n; i++)
        best += twin[i] * twin[i];
    /* Eckart and Young: the nearest of that rank is this far away, and no nearer. */
    assert_true(fabs(residual(m, n, whole, rank, u, v, sigma, values) - sqrt(best)) <= 1e-12 * size);
    for (uint32_t c = 0; c < rank && c < values; c++) {
        uint32_t at = 0;
        for (uint32_t i = 1; i < n; i++)
            at = fabs(v[(size_t)c * n + i]) > fabs(v[(size_t)c * n + at]) ? i : at;
        assert_true(v[(size_t)c * n + at] > 0);
        assert_true(
            fabs(norm(u + (size_t)c * m, m) - 1) < 1e-12 && fabs(norm(v + (size_t)c * n, n) - 1) < 1e-12);
    }
    for (uint32_t c = values; c < rank; c++)
        assert_true(norm(u + (size_t)c * m, m) == 0 && norm(v + (size_t)c * n, n) == 0);
    sl_lowrank_free(w);
    free(l);
    free(r);
    free(whole);
    free(scratch);
    free(u);
    free(v);
    free(sigma);
    free(twin);
}

static void factor__is_the_svd_of_the_sum(void **state)
{
    static const uint32_t sizes[][4] = {{40, 24, 8, 8}, {40, 24, 8, 3}, {24, 40, 17, 4}, {7, 9, 5, 2},
        {8, 8, 30, 4}, {30, 6, 12, 4}, {6, 30, 12, 4}, {1, 5, 3, 1}, {5, 1, 3, 2}, {4, 4, 2, 6}};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        check(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
}

static void factor__again_gives_the_same_bytes(void **state)
{
    enum { M = 33, N = 21, K = 12, R = 4 };
    double u[2][M * R], v[2][N * R], sigma[2][K];
    struct sl_lowrank *w = sl_lowrank_create(M, N, K);
    assert_non_null(w);
    for (unsigned i = 0; i < 2; i++) {
        double *l = doubles("l", M * K), *r = doubles("r", N * K);
        assert_int_equal(sl_lowrank_factor(w, M, N, K, l, r, R, u[i], v[i], sigma[i]), 0);
        free(l);
        free(r);
    }
    assert_memory_equal(u[0], u[1], sizeof u[0]);
    assert_memory_equal(v[0], v[1], sizeof v[0]);
    sl_lowrank_free(w);
}

static void factor__of_what_is_not_finite_is_refused(void **state)
{
    double l[4] = {1, NAN, 2, 3}, r[4] = {1, 2, 3, 4}, u[2], v[2], sigma[2];
    struct sl_lowrank *w = sl_lowrank_create(2, 2, 2);
    assert_int_equal(sl_lowrank_factor(w, 2, 2, 2, l, r, 1, u, v, sigma), -EDOM);
    sl_lowrank_free(w);
}

static void factor__of_nought_is_nought(void **state)
{
    double l[6] = {0}, r[6] = {1, 2, 3, 4, 5, 6}, u[4], v[4], sigma[2];
    struct sl_lowrank *w = sl_lowrank_create(3, 3, 2);
    assert_int_equal(sl_lowrank_factor(w, 3, 3, 2, l, r, 1, u, v, sigma), 0);
    assert_true(sigma[0] == 0 && sigma[1] == 0 && fabs(norm(v, 3) - 1) < 1e-12);
    sl_lowrank_free(w);
}

static void dot__is_that_of_the_whole_matrices(void **state)
{
    enum { M = 11, N = 13, K = 5, R = 3 };
    double *l = doubles("l", M * K), *r = doubles("r", N * K), *b = doubles("b", M * R),
           *a = doubles("a", N * R);
    double *x = product(M, N, K, l, r), *y = product(M, N, R, b, a), scratch[2 * K * R], expected = 0;
    for (unsigned i = 0; i < M * N; i++)
        expected += x[i] * y[i];
    double got = sl_lowrank_dot(M, N, K, l, r, R, b, a, scratch);
    assert_true(fabs(got - expected) < 1e-12 * fabs(expected) + 1e-12);
    free(l);
    free(r);
    free(b);
    free(a);
    free(x);
    free(y);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factor__is_the_svd_of_the_sum),
        cmocka_unit_test(factor__again_gives_the_same_bytes),
        cmocka_unit_test(factor__of_what_is_not_finite_is_refused),
        cmocka_unit_test(factor__of_nought_is_nought),
        cmocka_unit_test(dot__is_that_of_the_whole_matrices),
    };
    return cmocka_run_group_tests_name("tensor/lowrank", tests, NULL, NULL);
}
