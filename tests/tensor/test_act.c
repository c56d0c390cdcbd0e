#include "tests/tensor/twin.h"
#include "trainer/tensor/act.h"

#include <math.h>
#include <stdlib.h>

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static double gelu_new(double x)
{
    return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
}

/* The derivative by a central difference in double. */
static double slope(double (*f)(double), double x)
{
    return (f(x + 1e-5) - f(x - 1e-5)) / 2e-5;
}

static void check_act(
    enum sl_act kind, uint32_t rows, uint32_t ff, enum sl_precision in, enum sl_precision out)
{
    uint32_t wide = kind == SL_ACT_SWIGLU ? 2 : 1;
    size_t n = (size_t)rows * ff;
    struct twin_matrix x = twin_matrix("x", wide * n, 8, in), dact = twin_matrix("dact", n, 1, out);
    struct twin_matrix act = twin_empty(n, out), dx = twin_empty(wide * n, in);
    double *y = malloc(n * sizeof *y), *dy = malloc(wide * n * sizeof *dy);
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < ff; j++) {
            size_t at = wide * i * ff + j, o = i * ff + j;
            double v = x.value[at], up = wide == 2 ? x.value[at + ff] : 1, g = dact.value[o];
            y[o] = (wide == 2 ? silu(v) : gelu_new(v)) * up;
            dy[at] = g * up * slope(wide == 2 ? silu : gelu_new, v);
            if (wide == 2)
                dy[at + ff] = g * silu(v);
        }
    }
    sl_act_forward(kind, twin_src(&x), rows, ff, twin_dst(&act));
    sl_act_backward(kind, twin_src(&x), twin_src(&dact), rows, ff, twin_dst(&dx));
    twin_matrix_close(&act, y, 1e-6, "forward");
    twin_matrix_close(&dx, dy, 1e-6, "backward");
    sl_act_backward(kind, twin_src(&x), twin_src(&dact), rows, ff, twin_dst(&x));
    assert_memory_equal(x.p, dx.p, wide * n * sl_precision_size(in));
    free(y);
    free(dy);
    twin_free(&x);
    twin_free(&dact);
    twin_free(&act);
    twin_free(&dx);
}

static void check_all(void)
{
    static const uint32_t rows[] = {1, 7, 129}, width[] = {1, 15, 64, 100};
    for (unsigned i = 0; i < 3 * 4 * 8; i++)
        check_act(i & 1 ? SL_ACT_GELU : SL_ACT_SWIGLU, rows[i / 8 % 3], width[i / 24],
            i & 2 ? SL_PRECISION_BF16 : SL_PRECISION_F32, i & 4 ? SL_PRECISION_BF16 : SL_PRECISION_F32);
}

static void activations__agree_with_their_definition_in_every_storage_and_instruction_set(void **state)
{
    twin_every_isa(check_all);
}

/* Far out the exponential saturates; the functions must not. */
static void activations__are_finite_far_out(void **state)
{
    float x[] = {-200, 200, -200, 200}, one[] = {1, 1}, y[2], dx[4];
    struct sl_src in = sl_src_f32(x), by = sl_src_f32(one);
    sl_act_forward(SL_ACT_SWIGLU, in, 1, 2, sl_dst_f32(y));
    assert_true(fabsf(y[0]) < 1e-30f && y[1] == 200.0f * 200.0f);
    sl_act_backward(SL_ACT_SWIGLU, in, by, 1, 2, sl_dst_f32(dx));
    assert_true(fabsf(dx[0]) < 1e-30f && dx[1] == 200.0f);
    sl_act_forward(SL_ACT_GELU, in, 1, 2, sl_dst_f32(y));
    assert_true(fabsf(y[0]) < 1e-30f && y[1] == 200.0f);
    sl_act_backward(SL_ACT_GELU, in, by, 1, 2, sl_dst_f32(dx));
    assert_true(fabsf(dx[0]) < 1e-20f && dx[1] == 1.0f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations__agree_with_their_definition_in_every_storage_and_instruction_set),
        cmocka_unit_test(activations__are_finite_far_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
