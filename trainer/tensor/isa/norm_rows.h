/* Norms, compiled per instruction set (included by rows.c). A row is read two or three times, from the first
 * level's cache but for the first. */
#pragma once

#include "trainer/tensor/isa/vec.h"
#include "trainer/tensor/norm.h"

#include <math.h>

enum { NORM_LANES = 4 }; /* vectors summed side by side: an addition takes four cycles */

SL_INLINE uint32_t v_n(uint32_t d, uint32_t j)
{
    return d - j < VL ? d - j : VL;
}

/* Runs body(j, n, lane) over a row: n elements at j, into partial sum `lane`. */
#define NORM_OVER_ROW(d, body)                                                                               \
    do {                                                                                                     \
        uint32_t at_ = 0;                                                                                    \
        for (; at_ + NORM_LANES * VL <= (d); at_ += NORM_LANES * VL)                                         \
            for (int lane_ = 0; lane_ < NORM_LANES; lane_++)                                                 \
                body(at_ + (uint32_t)lane_ * VL, VL, lane_);                                                 \
        for (; at_ + VL <= (d); at_ += VL)                                                                   \
            body(at_, VL, 0);                                                                                \
        if (at_ < (d))                                                                                       \
            body(at_, (d)-at_, 1);                                                                           \
    } while (0)

SL_INLINE float norm_total(const vf *lanes)
{
    return v_sum((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
}

SL_INLINE void row_add(
    const void *x, bool x_bf16, const void *add, bool add_bf16, void *sum, bool sum_bf16, uint32_t d)
{
#define BODY(j, n, lane)                                                                                     \
    v_put(sum, sum_bf16, (j), v_get(x, x_bf16, (j), (n)) + v_get(add, add_bf16, (j), (n)), (n))
    NORM_OVER_ROW(d, BODY);
#undef BODY
}

SL_INLINE void row_copy(const void *x, bool x_bf16, void *sum, bool sum_bf16, uint32_t d)
{
#define BODY(j, n, lane) v_put(sum, sum_bf16, (j), v_get(x, x_bf16, (j), (n)), (n))
    NORM_OVER_ROW(d, BODY);
#undef BODY
}

SL_INLINE float row_mean(const void *x, bool bf16, uint32_t d)
{
    vf s[NORM_LANES] = {{0}};
#define BODY(j, n, lane) s[lane] += v_get(x, bf16, (j), (n))
    NORM_OVER_ROW(d, BODY);
#undef BODY
    return norm_total(s) / (float)d;
}

/* Mean of (x - m)²: in a tail the lanes beyond the row count nothing. */
SL_INLINE float row_variance(const void *x, bool bf16, uint32_t d, float m)
{
    vf s[NORM_LANES] = {{0}};
    vi lanes = v_lanes();
#define BODY(j, n, lane)                                                                                     \
    do {                                                                                                     \
        vf c_ = v_get(x, bf16, (j), (n)) - m;                                                                \
        if ((n) != VL)                                                                                       \
            c_ = v_select(lanes < (int)(n), c_, (vf){0});                                                    \
        s[lane] += c_ * c_;                                                                                  \
    } while (0)
    NORM_OVER_ROW(d, BODY);
#undef BODY
    return norm_total(s) / (float)d;
}

SL_INLINE void row_normalise(
    const struct sl_norm *k, const void *x, bool x_bf16, void *y, bool y_bf16, float m, float r)
{
    const float *w = k->w, *b = k->b;
    if (k->centred) {
#define BODY(j, n, lane)                                                                                     \
    v_put(y, y_bf16, (j),                                                                                    \
        (v_get(x, x_bf16, (j), (n)) - m) * r * v_load(w + (j), (n)) + v_load(b + (j), (n)), (n))
        NORM_OVER_ROW(k->d, BODY);
#undef BODY
    } else {
#define BODY(j, n, lane) v_put(y, y_bf16, (j), v_get(x, x_bf16, (j), (n)) * r * v_load(w + (j), (n)), (n))
        NORM_OVER_ROW(k->d, BODY);
#undef BODY
    }
}

SL_INLINE bool is_bf16(enum sl_precision p)
{
    return p == SL_PRECISION_BF16;
}

static void norm_forward(const struct sl_norm *k, struct sl_src x, struct sl_src add, uint32_t rows,
    struct sl_dst sum, struct sl_dst y, struct sl_norm_stats stats, float *meansq)
{
    for (uint32_t i = 0; i < rows; i++) {
        size_t at = (size_t)i * k->d;
        struct sl_src s = sl_src_at(x, at), a = sl_src_at(add, at);
        struct sl_dst t = sl_dst_at(sum, at), out = sl_dst_at(y, at);
        if (t.p && a.p)
            row_add(s.p, is_bf16(s.precision), a.p, is_bf16(a.precision), t.p, is_bf16(t.precision), k->d);
        else if (t.p)
            row_copy(s.p, is_bf16(s.precision), t.p, is_bf16(t.precision), k->d);
        if (t.p)
            s = sl_src_of(t);
        bool bf16 = is_bf16(s.precision);
        float m = k->centred ? row_mean(s.p, bf16, k->d) : 0;
        float v = row_variance(s.p, bf16, k->d, m), r = 1.0f / sqrtf(v + k->eps);
        row_normalise(k, s.p, bf16, out.p, is_bf16(out.precision), m, r);
        if (k->centred)
            stats.mean[i] = m;
        stats.rstd[i] = r;
        if (meansq)
            meansq[i] = v + m * m;
    }
}

/* dx = residual + r (dy w - mean(dy w) - xhat mean(dy w xhat)); RMSNorm: without the first mean. */
SL_INLINE void row_gradient(const struct sl_norm *k, struct sl_src dy, struct sl_src x, float m, float r,
    struct sl_src residual, struct sl_dst dx, sl_bf16 *dx_bf16)
{
    const float *w = k->w;
    bool dy_bf16 = is_bf16(dy.precision), x_bf16 = is_bf16(x.precision), out_bf16 = is_bf16(dx.precision),
         res_bf16 = is_bf16(residual.precision);
    vf sum[NORM_LANES] = {{0}}, dot[NORM_LANES] = {{0}};
#define BODY(j, n, lane)                                                                                     \
    do {                                                                                                     \
        vf g_ = v_get(dy.p, dy_bf16, (j), (n)) * v_load(w + (j), (n));                                       \
        sum[lane] += g_;                                                                                     \
        dot[lane] += g_ * (v_get(x.p, x_bf16, (j), (n)) - m);                                                \
    } while (0)
    NORM_OVER_ROW(k->d, BODY);
#undef BODY
    float c = norm_total(dot) * r * r * r / (float)k->d;
    float a = k->centred ? norm_total(sum) * r / (float)k->d : 0;
#define BODY(j, n, lane)                                                                                     \
    do {                                                                                                     \
        vf g_ = v_get(dy.p, dy_bf16, (j), (n)) * v_load(w + (j), (n)) * r - a;                               \
        g_ -= (v_get(x.p, x_bf16, (j), (n)) - m) * c;                                                        \
        if (residual.p)                                                                                      \
            g_ += v_get(residual.p, res_bf16, (j), (n));                                                     \
        v_put(dx.p, out_bf16, (j), g_, (n));                                                                 \
        if (dx_bf16)                                                                                         \
            v_store_bf16(dx_bf16 + (j), g_, (n));                                                            \
    } while (0)
    NORM_OVER_ROW(k->d, BODY);
#undef BODY
}

SL_INLINE void row_weight_gradient(
    const struct sl_norm *k, struct sl_src dy, struct sl_src x, float m, float r, float *dw, float *db)
{
    bool dy_bf16 = is_bf16(dy.precision), x_bf16 = is_bf16(x.precision);
#define BODY(j, n, lane)                                                                                     \
    do {                                                                                                     \
        vf g_ = v_get(dy.p, dy_bf16, (j), (n)), c_ = (v_get(x.p, x_bf16, (j), (n)) - m) * r;                 \
        v_store(dw + (j), v_load(dw + (j), (n)) + g_ * c_, (n));                                             \
        if (k->centred)                                                                                      \
            v_store(db + (j), v_load(db + (j), (n)) + g_, (n));                                              \
    } while (0)
    NORM_OVER_ROW(k->d, BODY);
#undef BODY
}

static void norm_backward(const struct sl_norm *k, struct sl_src dy, struct sl_src x,
    struct sl_norm_stats stats, struct sl_src residual, uint32_t rows, struct sl_dst dx, sl_bf16 *dx_bf16,
    float *dw, float *db)
{
    for (uint32_t i = 0; i < rows; i++) {
        size_t at = (size_t)i * k->d;
        struct sl_src g = sl_src_at(dy, at), s = sl_src_at(x, at);
        float m = k->centred ? stats.mean[i] : 0, r = stats.rstd[i];
        row_gradient(
            k, g, s, m, r, sl_src_at(residual, at), sl_dst_at(dx, at), dx_bf16 ? dx_bf16 + at : NULL);
        if (dw)
            row_weight_gradient(k, g, s, m, r, dw, db);
    }
}
