/* What the element-wise kernels read and write: dense row-major matrices in f32 or bf16. Arithmetic is f32
 * whatever the storage. */
#pragma once

#include "trainer/tensor/packed.h"

/* p may be NULL where a function says so. */
struct sl_src {
    const void *p;
    enum sl_precision precision;
};
struct sl_dst {
    void *p;
    enum sl_precision precision;
};

static inline struct sl_src sl_src_f32(const float *p)
{
    return (struct sl_src){p, SL_PRECISION_F32};
}

static inline struct sl_src sl_src_bf16(const sl_bf16 *p)
{
    return (struct sl_src){p, SL_PRECISION_BF16};
}

static inline struct sl_dst sl_dst_f32(float *p)
{
    return (struct sl_dst){p, SL_PRECISION_F32};
}

static inline struct sl_dst sl_dst_bf16(sl_bf16 *p)
{
    return (struct sl_dst){p, SL_PRECISION_BF16};
}

/* The matrix from element `at` on. */
static inline struct sl_src sl_src_at(struct sl_src s, size_t at)
{
    if (s.p)
        s.p = (const char *)s.p + at * sl_precision_size(s.precision);
    return s;
}

static inline struct sl_dst sl_dst_at(struct sl_dst d, size_t at)
{
    if (d.p)
        d.p = (char *)d.p + at * sl_precision_size(d.precision);
    return d;
}

static inline struct sl_src sl_src_of(struct sl_dst d)
{
    return (struct sl_src){d.p, d.precision};
}
