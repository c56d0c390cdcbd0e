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

/* p = 2^(x log2(e) - max2); returns the sum, and the highest x log2(e) - max2. */
SL_INLINE float exponentiate(const float *x, uint32_t n, float max2, void *p, bool bf16, float *over)
{
    vf sum[LOSS_LANES] = {{0}}, top[LOSS_LANES];
    uint32_t j = 0;
    for (int u = 0; u < LOSS_LANES; u++)
        top[u] = v_set(-INFINITY);
    for (; j + LOSS_LANES * VL <= n; j += LOSS_LANES * VL)
        for (int u = 0; u < LOSS_LANES; u++) {
            vf y = v_load(x + j + u * VL, VL) * v_log2e - max2;
            vf e = v_exp2(y, bf16);
            top[u] = v_max(top[u], y);
            sum[u] += e;
            if (p)
                v_put(p, bf16, j + (uint32_t)u * VL, e, VL);
        }
    for (; j < n; j += VL) {
        uint32_t some = n - j < VL ? n - j : VL;
        vf y = v_load(x + j, some) * v_log2e - max2;
        if (some != VL)
            y = v_select(v_lanes() < (int)some, y, v_set(-INFINITY));
        vf e = v_exp2(y, bf16);
        top[0] = v_max(top[0], y);
        sum[0] += e;
        if (p)
            v_put(p, bf16, j, e, some);
    }
    *over = v_highest(v_max(v_max(top[0], top[1]), v_max(top[2], top[3])));
    return v_sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

/* One row. A maximum that is a little too low does no harm, as long as nothing overflows: only where the row
 * rises by more than 2^SLACK above it is it moved and the tile done again, so that nearly every tile is read
 * once. (Not in f32, where the exponentials overwrite
 * the logits.) */
SL_INLINE void softmax_row(
    const float *x, uint32_t n, float *max2, double *sum, float *factor, void *p, bool bf16)
{
    enum { SLACK = 10 };
    float over, added;
    *factor = 1;
    if (bf16 && *max2 > -INFINITY) {
        added = exponentiate(x, n, *max2, p, bf16, &over);
        if (!(over > SLACK)) {
            *sum += added;
            return;
        }
    }
    float top = highest(x, n) * v_log2e;
    if (top > *max2) {
        *factor = exp2f(*max2 - top); /* 0 from -INFINITY */
        *max2 = top;
    }
    *sum = *sum * *factor + exponentiate(x, n, *max2, p, bf16, &over);
}

static void softmax_tile(
    const float *logits, uint32_t rows, uint32_t n, float *max2, double *sum, float *factor, struct sl_dst p)
{
    for (uint32_t i = 0; i < rows; i++, logits += n) {
        void *out = sl_dst_at(p, (size_t)i * n).p;
        if (p.precision == SL_PRECISION_BF16)
            softmax_row(logits, n, &max2[i], &sum[i], &factor[i], out, true);
        else
            softmax_row(logits, n, &max2[i], &sum[i], &factor[i], out, false);
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
