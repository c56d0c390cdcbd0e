#include "tests/tensor/twin.h"
#include "trainer/tensor/norm.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { ROWS = 7, D = 61 };
static const float eps = 1e-5f;

struct data {
    float *x, *w, *b, y[ROWS * D], mean[ROWS], rstd[ROWS], meansq[ROWS];
};

static int setup(void **state)
{
    struct data *t = calloc(1, sizeof *t);
    t->x = twin_data("x", ROWS * D, 2);
    t->w = twin_data("w", D, 1);
    t->b = twin_data("b", D, 1);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct data *t = *state;
    free(t->x);
    free(t->w);
    free(t->b);
    free(t);
    return 0;
}

/* One norm in one storage of the stream (x, add, sum, dx) and of the operands (y, dy), against the definition
 * on the values as stored. */
static void check_norm(
    bool centred, uint32_t rows, uint32_t d, enum sl_precision stream, enum sl_precision operand, bool added)
{
    size_t n = (size_t)rows * d;
    struct twin_matrix x = twin_matrix("x", n, 2, stream), add = twin_matrix("add", n, 2, operand);
    struct twin_matrix dy = twin_matrix("dy", n, 1, operand), residual = twin_matrix("res", n, 1, stream);
    struct twin_matrix sum = twin_empty(n, stream), y = twin_empty(n, operand), dx = twin_empty(n, stream),
                       copy = twin_empty(n, SL_PRECISION_BF16);
    float *w = twin_data("w", d, 1), *b = twin_data("b", d, 1), *dw = calloc(2 * d, sizeof *dw);
    float *stats = malloc(3 * rows * sizeof *stats);
    struct sl_norm k = {centred, d, eps, w, b};
    struct sl_norm_stats st = {stats, stats + rows};
    double *ty = malloc(n * sizeof *ty), *tdx = malloc(n * sizeof *tdx), *tms = malloc(rows * sizeof *tms),
           *tdw = calloc(2 * d, sizeof *tdw), tms_row[256];
    for (uint32_t i = 0; i < rows; i++) {
        double m = 0, v = 0, gm = 0, gx = 0, *s = tms_row;
        for (uint32_t j = 0; j < d; j++) {
            size_t at = (size_t)i * d + j;
            float stored = x.value[at] + (added ? add.value[at] : 0);
            s[j] = stream == SL_PRECISION_BF16 ? sl_bf16_widen(sl_bf16_round(stored)) : stored;
            m += centred ? s[j] / d : 0;
        }
        for (uint32_t j = 0; j < d; j++)
            v += (s[j] - m) * (s[j] - m) / d;
        double r = 1 / sqrt(v + eps);
        tms[i] = v + m * m;
        for (uint32_t j = 0; j < d; j++) {
            size_t at = (size_t)i * d + j;
            double hat = (s[j] - m) * r;
            ty[at] = hat * w[j] + (centred ? b[j] : 0);
            gm += centred ? (double)dy.value[at] * w[j] / d : 0;
            gx += (double)dy.value[at] * w[j] * hat / d;
            tdw[j] += dy.value[at] * hat;
            tdw[d + j] += dy.value[at];
        }
        for (uint32_t j = 0; j < d; j++) {
            size_t at = (size_t)i * d + j;
            tdx[at] = residual.value[at] + r * (dy.value[at] * (double)w[j] - gm - (s[j] - m) * r * gx);
        }
    }
    sl_norm_forward(&k, twin_src(&x), added ? twin_src(&add) : sl_src_f32(NULL), rows,
        added ? twin_dst(&sum) : sl_dst_f32(NULL), twin_dst(&y), st, stats + 2 * rows);
    sl_norm_backward(&k, twin_src(&dy), twin_src(added ? &sum : &x), st, twin_src(&residual), rows,
        twin_dst(&dx), copy.p, dw, dw + d);
    twin_matrix_close(&y, ty, 2e-6, "y");
    twin_close(stats + 2 * rows, tms, rows, 1e-6, "mean square");
    /* One column: the gradient through LayerNorm is zero, and what is left of it rounding. */
    twin_matrix_close(&dx, tdx, d == 1 ? 1e-3 : 2e-6, "dx");
    twin_matrix_close(&copy, tdx, d == 1 ? 1e-3 : 2e-6, "rounded dx");
    if (d > 1)
        twin_close(dw, tdw, d, 2e-6, "dw");
    if (centred)
        twin_close(dw + d, tdw + d, d, 2e-6, "db");
    sl_norm_backward(&k, twin_src(&dy), twin_src(added ? &sum : &x), st, twin_src(&residual), rows,
        twin_dst(&residual), NULL, NULL, NULL);
    assert_memory_equal(residual.p, dx.p, n * sl_precision_size(stream));
    struct twin_matrix *all[] = {&x, &add, &dy, &residual, &sum, &y, &dx, &copy};
    for (unsigned i = 0; i < 8; i++)
        twin_free(all[i]);
    void *rest[] = {w, b, dw, stats, ty, tdx, tms, tdw};
    for (unsigned i = 0; i < 8; i++)
        free(rest[i]);
}

static void check_all(void)
{
    static const uint32_t rows[] = {1, 7, 129}, width[] = {1, 15, 61, 64, 200};
    for (unsigned i = 0; i < 3 * 5 * 16; i++)
        check_norm(i & 1, rows[i / 16 % 3], width[i / 48], i & 2 ? SL_PRECISION_BF16 : SL_PRECISION_F32,
            i & 4 ? SL_PRECISION_BF16 : SL_PRECISION_F32, i & 8);
}

static void norm__agrees_with_its_definition_in_every_storage_and_instruction_set(void **state)
{
    twin_every_isa(check_all);
}

/* A received bf16 message, and an f32 stream: forward widens as it reads. */
static void norm__widens_what_it_reads(void **state)
{
    struct twin_matrix x = twin_matrix("x", ROWS * D, 2, SL_PRECISION_BF16);
    struct data *t = *state;
    float wide[ROWS * D], y[ROWS * D], rstd[ROWS];
    struct sl_norm k = {false, D, eps, t->w, NULL};
    sl_norm_forward(&k, twin_src(&x), sl_src_f32(NULL), ROWS, sl_dst_f32(wide), sl_dst_f32(t->y),
        (struct sl_norm_stats){NULL, t->rstd}, NULL);
    assert_memory_equal(wide, x.value, sizeof wide);
    sl_norm_forward(&k, sl_src_f32(wide), sl_src_f32(NULL), ROWS, sl_dst_f32(NULL), sl_dst_f32(y),
        (struct sl_norm_stats){NULL, rstd}, NULL);
    assert_memory_equal(y, t->y, sizeof y);
    twin_free(&x);
}

/* Rules T15: the first norm is where hostile rows are seen. */
static void norm__mean_square_of_a_row_that_is_not_finite_is_not_finite(void **state)
{
    struct data *t = *state;
    t->x[3] = INFINITY;
    t->x[D + 3] = NAN;
    t->x[2 * D + 3] = 1e30f; /* its square is beyond f32 */
    for (int centred = 0; centred < 2; centred++) {
        struct sl_norm k = {centred, D, eps, t->w, t->b};
        sl_norm_forward(&k, sl_src_f32(t->x), sl_src_f32(NULL), ROWS, sl_dst_f32(NULL), sl_dst_f32(t->y),
            (struct sl_norm_stats){t->mean, t->rstd}, t->meansq);
        for (int i = 0; i < ROWS; i++)
            assert_int_equal(isfinite(t->meansq[i]) != 0, i > 2);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm__agrees_with_its_definition_in_every_storage_and_instruction_set),
        cmocka_unit_test_setup_teardown(norm__widens_what_it_reads, setup, teardown),
        cmocka_unit_test_setup_teardown(
            norm__mean_square_of_a_row_that_is_not_finite_is_not_finite, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
