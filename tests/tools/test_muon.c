/* Muon against its closed form: with x = U diag(s) V', every iteration acts on the singular values alone. */
#include "trainer/tools/muon.h"

#include "tests/data/scratch.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* Entry (i, j) of the reflection I - 2 v v'/|v|^2 with v = (1, 1/2, 1/3, ...) (or backwards): an orthogonal
 * matrix. */
static double reflection(uint32_t n, uint32_t i, uint32_t j, bool backwards)
{
    double square = 0;
    for (uint32_t k = 0; k < n; k++)
        square += 1.0 / ((k + 1.0) * (k + 1.0));
    double a = backwards ? n - i : i + 1.0, b = backwards ? n - j : j + 1.0;
    return (i == j) - 2 / (a * b * square);
}

static double singular(uint32_t k)
{
    return 0.5 / (1 + 0.7 * k);
}

static double iterated(double s)
{
    for (int i = 0; i < 5; i++)
        s = s * (3.4445 + s * s * (-4.7750 + s * s * 2.0315));
    return s;
}

/* U diag(f(s)) V' [rows, cols] */
static double entry(uint32_t rows, uint32_t cols, uint32_t i, uint32_t j, double (*f)(double))
{
    double sum = 0;
    for (uint32_t k = 0; k < rows && k < cols; k++)
        sum += reflection(rows, i, k, false) * f(singular(k)) * reflection(cols, j, k, true);
    return sum;
}

static double same(double s)
{
    return s;
}

static void check_shape(uint32_t rows, uint32_t cols)
{
    uint32_t side = rows < cols ? rows : cols;
    float *x = test_malloc(rows * cols * sizeof *x);
    float *scratch = test_malloc((rows * cols + 2 * side * side) * sizeof *scratch);
    for (uint32_t i = 0; i < rows; i++) {
        for (uint32_t j = 0; j < cols; j++)
            x[i * cols + j] = (float)entry(rows, cols, i, j, same);
    }
    sl_muon_orthogonalise(x, rows, cols, scratch);
    for (uint32_t i = 0; i < rows; i++) {
        for (uint32_t j = 0; j < cols; j++)
            assert_float_equal(x[i * cols + j], entry(rows, cols, i, j, iterated), 2e-4);
    }
    test_free(x);
    test_free(scratch);
}

static void orthogonalise__any_shape_as_the_closed_form(void **state)
{
    check_shape(5, 5);
    check_shape(4, 9);
    check_shape(11, 3);
    check_shape(1, 6);
}

static void step__size_is_adamws_and_momentum_stays(void **state)
{
    enum { ROWS = 6, COLS = 4 };
    struct sl_muon muon;
    float w[ROWS * COLS], grad[ROWS * COLS], before[ROWS * COLS];
    assert_int_equal(sl_muon_create(ROWS, COLS, &muon), 0);
    for (int i = 0; i < ROWS * COLS; i++) {
        before[i] = w[i] = 1;
        grad[i] = (float)(1000 * entry(ROWS, COLS, (uint32_t)i / COLS, (uint32_t)i % COLS, same));
    }
    /* The gradient's size does not matter, only its directions: after one step w moves by lr 0.2 sqrt(6) U
     * f(s) V'. */
    sl_muon_step(&muon, w, grad, 50, 0.1f, 0.5f);
    double norm = 0;
    for (uint32_t k = 0; k < COLS; k++)
        norm += singular(k) * singular(k);
    norm = sqrt(norm);
    for (uint32_t i = 0; i < ROWS; i++) {
        for (uint32_t j = 0; j < COLS; j++) {
            double want = 0;
            for (uint32_t k = 0; k < COLS; k++)
                want += reflection(ROWS, i, k, false) * iterated(singular(k) / norm) *
                        reflection(COLS, j, k, true);
            double moved = before[i * COLS + j] - w[i * COLS + j] - 0.1 * 0.5;
            assert_float_equal(moved, 0.1 * 0.2 * sqrt(6) * want, 1e-4);
        }
    }
    /* Without a gradient it goes on in the same directions. */
    float again[ROWS * COLS], none[ROWS * COLS] = {0};
    for (int i = 0; i < ROWS * COLS; i++)
        again[i] = w[i];
    sl_muon_step(&muon, again, none, 50, 0.1f, 0);
    for (int i = 0; i < ROWS * COLS; i++)
        assert_float_equal(w[i] - again[i], before[i] - w[i] - 0.05f, 1e-4);
    sl_muon_free(&muon);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(orthogonalise__any_shape_as_the_closed_form),
        cmocka_unit_test(step__size_is_adamws_and_momentum_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
