/* Cross-entropy over a tile of the vocabulary, compiled per instruction set (included by rows.c). */
#pragma once

#include "trainer/tensor/isa/vec.h"
#include "trainer/tensor/view.h"

#include <math.h>

enum { LOSS_LANES = 4 };

static float highest(const float *x, uint32_t n)
{
    vf m[LOSS_LANES];
    for (int u = 0; u < LOSS_LANES; u++)
        m[u] = v_set(x[0]);
    uint32_t j = 0;
    for (; j + LOSS_LANES * VL <= n; j += LOSS_LANES * VL)
        for (int u = 0; u < LOSS_LANES; u++)
            m[u] = v_max(m[u], v_load(x + j + u * VL, VL));
    float top = v_highest(v_max(v_max(m[0], m[1]), v_max(m[2], m[3])));
    for (; j < n; j++)
        top = x[j] > top ? x[j] : top;
    return top;
}

/* p = 2^(x log2(e) - max2); the sum. */
SL_INLINE float exponentiate(const float *x, uint32_t n, float max2, void *p, bool bf16)
{
    vf sum[LOSS_LANES] = {{0}};
    uint32_t j = 0;
    for (; j + LOSS_LANES * VL <= n; j += LOSS_LANES * VL)
        for (int u = 0; u < LOSS_LANES; u++) {
            vf e = v_exp2(v_load(x + j + u * VL, VL) * v_log2e - max2, bf16);
            sum[u] += e;
            if (p)
                v_put(p, bf16, j + (uint32_t)u * VL, e, VL);
        }
    for (; j < n; j += VL) {
        uint32_t some = n - j < VL ? n - j : VL;
        vf e = v_exp2(v_load(x + j, some) * v_log2e - max2, bf16);
        sum[0] += some == VL ? e : v_select(v_lanes() < (int)some, e, (vf){0});
        if (p)
            v_put(p, bf16, j, e, some);
    }
    return v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

static void softmax_tile(
    const float *logits, uint32_t rows, uint32_t n, float *max2, double *sum, float *factor, struct sl_dst p)
{
    for (uint32_t i = 0; i < rows; i++, logits += n) {
        float top = highest(logits, n) * v_log2e;
        factor[i] = 1;
        if (top > max2[i]) {
            factor[i] = exp2f(max2[i] - top); /* 0 from -INFINITY */
            sum[i] *= factor[i];
            max2[i] = top;
        }
        void *out = sl_dst_at(p, (size_t)i * n).p;
        if (p.precision == SL_PRECISION_BF16)
            sum[i] += exponentiate(logits, n, max2[i], out, true);
        else
            sum[i] += exponentiate(logits, n, max2[i], out, false);
    }
}

static void scale_row(float *y, uint32_t d, float scale, struct sl_src t)
{
    bool bf16 = t.precision == SL_PRECISION_BF16;
    for (uint32_t j = 0; j < d; j += VL) {
        uint32_t n = d - j < VL ? d - j : VL;
        vf x = v_load(y + j, n) * scale;
        if (t.p)
            x -= v_get(t.p, bf16, j, n);
        v_store(y + j, x, n);
    }
}
