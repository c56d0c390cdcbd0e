#include "tests/tensor/twin.h"
#include "trainer/tensor/norm.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { ROWS = 7, D = 61 };
static const float eps = 1e-5f;

struct data {
    float *x, *w, *b, *dy, *dx, *dx0, y[ROWS * D], dw[D], db[D], mean[ROWS], rstd[ROWS], meansq[ROWS];
};

static int setup(void **state)
{
    struct data *t = calloc(1, sizeof *t);
    t->x = twin_data("x", ROWS * D, 2);
    t->w = twin_data("w", D, 1);
    t->b = twin_data("b", D, 1);
    t->dy = twin_data("dy", ROWS * D, 1);
    t->dx = twin_data("dx", ROWS * D, 1);
    t->dx0 = twin_data("dx", ROWS * D, 1);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct data *t = *state;
    free(t->x);
    free(t->w);
    free(t->b);
    free(t->dy);
    free(t->dx);
    free(t->dx0);
    free(t);
    return 0;
}

/* Backward of y = z·w (+ b), z = (x - m) r: dx = J^T (dy w), with J written out element by element. */
static void twin_backward(const struct data *t, bool centred, double *dx, double *dw, double *db)
{
    for (int j = 0; j < D; j++)
        dw[j] = db[j] = 0;
    for (int i = 0; i < ROWS; i++) {
        const float *x = t->x + i * D, *dy = t->dy + i * D;
        double m = 0, v = 0;
        for (int j = 0; centred && j < D; j++)
            m += (double)x[j] / D;
        for (int j = 0; j < D; j++)
            v += (x[j] - m) * (x[j] - m) / D;
        double r = 1 / sqrt(v + eps);
        for (int k = 0; k < D; k++) {
            double sum = t->dx0[i * D + k];
            for (int j = 0; j < D; j++) { /* dz_j/dx_k */
                double direct = (j == k ? 1.0 : 0.0) - (centred ? 1.0 / D : 0.0);
                double jacobian = r * direct - (x[j] - m) * (x[k] - m) * r * r * r / D;
                sum += jacobian * dy[j] * t->w[j];
            }
            dx[i * D + k] = sum;
            dw[k] += dy[k] * (x[k] - m) * r;
            db[k] += dy[k];
        }
    }
}

static void rmsnorm__agrees_with_its_definition(void **state)
{
    struct data *t = *state;
    double y[ROWS * D], dx[ROWS * D], dw[D], db[D];
    for (int i = 0; i < ROWS; i++) {
        double ms = 0;
        for (int j = 0; j < D; j++)
            ms += (double)t->x[i * D + j] * t->x[i * D + j] / D;
        for (int j = 0; j < D; j++)
            y[i * D + j] = t->x[i * D + j] / sqrt(ms + eps) * t->w[j];
    }
    sl_rmsnorm_forward(t->x, t->w, eps, ROWS, D, t->y, t->rstd, t->meansq);
    twin_close(t->y, y, ROWS * D, 1e-6, "y");
    sl_rmsnorm_backward(t->dy, t->x, t->w, t->rstd, ROWS, D, t->dx, t->dw);
    twin_backward(t, false, dx, dw, db);
    twin_close(t->dx, dx, ROWS * D, 1e-6, "dx");
    twin_close(t->dw, dw, D, 1e-6, "dw");
}

static void layernorm__agrees_with_its_definition(void **state)
{
    struct data *t = *state;
    double y[ROWS * D], meansq[ROWS], dx[ROWS * D], dw[D], db[D];
    for (int i = 0; i < ROWS; i++) {
        double m = 0, v = 0;
        for (int j = 0; j < D; j++)
            m += (double)t->x[i * D + j] / D;
        for (int j = 0; j < D; j++)
            v += (t->x[i * D + j] - m) * (t->x[i * D + j] - m) / D;
        for (int j = 0; j < D; j++)
            y[i * D + j] = (t->x[i * D + j] - m) / sqrt(v + eps) * t->w[j] + t->b[j];
        meansq[i] = v + m * m;
    }
    sl_layernorm_forward(t->x, t->w, t->b, eps, ROWS, D, t->y, t->mean, t->rstd, t->meansq);
    twin_close(t->y, y, ROWS * D, 1e-6, "y");
    twin_close(t->meansq, meansq, ROWS, 1e-6, "mean square");
    sl_layernorm_backward(t->dy, t->x, t->w, t->mean, t->rstd, ROWS, D, t->dx, t->dw, t->db);
    twin_backward(t, true, dx, dw, db);
    twin_close(t->dx, dx, ROWS * D, 1e-6, "dx");
    twin_close(t->dw, dw, D, 1e-6, "dw");
    twin_close(t->db, db, D, 1e-6, "db");
}

/* Rules T15: the first norm is where hostile rows are seen. */
static void norm__mean_square_of_a_row_that_is_not_finite_is_not_finite(void **state)
{
    struct data *t = *state;
    t->x[3] = INFINITY;
    t->x[D + 3] = NAN;
    t->x[2 * D + 3] = 1e30f; /* its square is beyond f32 */
    sl_rmsnorm_forward(t->x, t->w, eps, ROWS, D, t->y, t->rstd, t->meansq);
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(isfinite(t->meansq[i]) != 0, i > 2);
    sl_layernorm_forward(t->x, t->w, t->b, eps, ROWS, D, t->y, t->mean, t->rstd, t->meansq);
    for (int i = 0; i < ROWS; i++)
        assert_int_equal(isfinite(t->meansq[i]) != 0, i > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(rmsnorm__agrees_with_its_definition, setup, teardown),
        cmocka_unit_test_setup_teardown(layernorm__agrees_with_its_definition, setup, teardown),
        cmocka_unit_test_setup_teardown(
            norm__mean_square_of_a_row_that_is_not_finite_is_not_finite, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
