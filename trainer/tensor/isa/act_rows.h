/* Activations, compiled per instruction set (included by rows.c). */
#pragma once

#include "trainer/tensor/act.h"
#include "trainer/tensor/isa/vec.h"

/* Runs body(j, n) over n_ elements: n of them at j. */
#define ACT_OVER(n_, body)                                                                                   \
    do {                                                                                                     \
        size_t at_ = 0, end_ = (n_);                                                                         \
        for (; at_ + VL <= end_; at_ += VL)                                                                  \
            body(at_, VL);                                                                                   \
        if (at_ < end_)                                                                                      \
            body(at_, (uint32_t)(end_ - at_));                                                               \
    } while (0)

/* (1 + tanh z)/2 is the logistic function of 2z. Powers are of 2, so log2(e) is in the constants. */
static const float gelu_a = 2 * 0.7978845608028654f, gelu_ab = 2 * 0.7978845608028654f * 0.044715f;

/* The logistic function of z(x); q = x². */
SL_INLINE vf gelu_weight(vf x, vf q, bool rough)
{
    return v_logistic2(x * (-v_log2e * gelu_a - v_log2e * gelu_ab * q), rough);
}

SL_INLINE void gelu_forward_as(const void *x, bool x_bf16, size_t n_all, void *y, bool y_bf16)
{
#define BODY(j, n)                                                                                           \
    do {                                                                                                     \
        vf x_ = v_get(x, x_bf16, (j), (n));                                                                  \
        v_put(y, y_bf16, (j), x_ *gelu_weight(x_, x_ *x_, y_bf16), (n));                                     \
    } while (0)
    ACT_OVER(n_all, BODY);
#undef BODY
}

/* d/dx x·s(z(x)) = s + x s (1 - s) z'. */
SL_INLINE void gelu_backward_as(
    const void *x, bool x_bf16, const void *dy, bool dy_bf16, size_t n_all, void *dx, bool dx_bf16)
{
#define BODY(j, n)                                                                                           \
    do {                                                                                                     \
        vf x_ = v_get(x, x_bf16, (j), (n)), q_ = x_ * x_;                                                    \
        vf s_ = gelu_weight(x_, q_, dx_bf16);                                                                \
        vf slope_ = gelu_a + 3 * gelu_ab * q_;                                                               \
        vf g_ = s_ + x_ * slope_ * (s_ * (1.0f - s_));                                                       \
        v_put(dx, dx_bf16, (j), v_get(dy, dy_bf16, (j), (n)) * g_, (n));                                     \
    } while (0)
    ACT_OVER(n_all, BODY);
#undef BODY
}

SL_INLINE void swiglu_forward_as(const void *x, bool x_bf16, uint32_t rows, uint32_t ff, void *y, bool y_bf16)
{
    for (uint32_t i = 0; i < rows; i++) {
        size_t gate = 2 * (size_t)i * ff, up = gate + ff, out = (size_t)i * ff;
#define BODY(j, n)                                                                                           \
    do {                                                                                                     \
        vf g_ = v_get(x, x_bf16, gate + (j), (n)), u_ = v_get(x, x_bf16, up + (j), (n));                     \
        v_put(y, y_bf16, out + (j), g_ * v_logistic2(-v_log2e * g_, y_bf16) * u_, (n));                      \
    } while (0)
        ACT_OVER(ff, BODY);
#undef BODY
    }
}

SL_INLINE void swiglu_backward_as(const void *x, bool x_bf16, const void *dy, bool dy_bf16, uint32_t rows,
    uint32_t ff, void *dx, bool dx_bf16)
{
    for (uint32_t i = 0; i < rows; i++) {
        size_t gate = 2 * (size_t)i * ff, up = gate + ff, in = (size_t)i * ff;
#define BODY(j, n)                                                                                           \
    do {                                                                                                     \
        vf g_ = v_get(x, x_bf16, gate + (j), (n)), u_ = v_get(x, x_bf16, up + (j), (n));                     \
        vf d_ = v_get(dy, dy_bf16, in + (j), (n)), s_ = v_logistic2(-v_log2e * g_, dx_bf16),                 \
           silu_ = g_ * s_;                                                                                  \
        v_put(dx, dx_bf16, gate + (j), d_ * u_ * (s_ + silu_ * (1.0f - s_)), (n));                           \
        v_put(dx, dx_bf16, up + (j), d_ * silu_, (n));                                                       \
    } while (0)
        ACT_OVER(ff, BODY);
#undef BODY
    }
}

/* The storage is told apart out here, so that the loops inside know it. */
static void gelu_forward(struct sl_src x, uint32_t rows, uint32_t ff, struct sl_dst y)
{
    bool from = x.precision == SL_PRECISION_BF16, to = y.precision == SL_PRECISION_BF16;
    size_t n = (size_t)rows * ff;
    if (from && to)
        gelu_forward_as(x.p, true, n, y.p, true);
    else if (!from && !to)
        gelu_forward_as(x.p, false, n, y.p, false);
    else
        gelu_forward_as(x.p, from, n, y.p, to);
}

static void gelu_backward(struct sl_src x, struct sl_src dy, uint32_t rows, uint32_t ff, struct sl_dst dx)
{
    bool from = x.precision == SL_PRECISION_BF16, by = dy.precision == SL_PRECISION_BF16,
         to = dx.precision == SL_PRECISION_BF16;
    size_t n = (size_t)rows * ff;
    if (from && by && to)
        gelu_backward_as(x.p, true, dy.p, true, n, dx.p, true);
    else if (!from && !by && !to)
        gelu_backward_as(x.p, false, dy.p, false, n, dx.p, false);
    else
        gelu_backward_as(x.p, from, dy.p, by, n, dx.p, to);
}

static void swiglu_forward(struct sl_src x, uint32_t rows, uint32_t ff, struct sl_dst y)
{
    bool from = x.precision == SL_PRECISION_BF16, to = y.precision == SL_PRECISION_BF16;
    if (from && to)
        swiglu_forward_as(x.p, true, rows, ff, y.p, true);
    else if (!from && !to)
        swiglu_forward_as(x.p, false, rows, ff, y.p, false);
    else
        swiglu_forward_as(x.p, from, rows, ff, y.p, to);
}

static void swiglu_backward(struct sl_src x, struct sl_src dy, uint32_t rows, uint32_t ff, struct sl_dst dx)
{
    bool from = x.precision == SL_PRECISION_BF16, by = dy.precision == SL_PRECISION_BF16,
         to = dx.precision == SL_PRECISION_BF16;
    if (from && by && to)
        swiglu_backward_as(x.p, true, dy.p, true, rows, ff, dx.p, true);
    else if (!from && !by && !to)
        swiglu_backward_as(x.p, false, dy.p, false, rows, ff, dx.p, false);
    else
        swiglu_backward_as(x.p, from, dy.p, by, rows, ff, dx.p, to);
}
