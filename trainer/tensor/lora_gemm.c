#include "trainer/tensor/lora_gemm.h"
#include "trainer/tensor/lora_kernels.h"
#include "trainer/tensor/parallel.h"

enum { ROW_GRAIN = 8 /* a tile of rows */, LINE = 64 };

/* Where the parts of a packed adapter lie, in elements: A [n rank, ld], and for each target its Bᵀ [rank,
 * ld]; in bf16 both once plain and once with pairs of rows interleaved. */
struct layout {
    size_t a, a_pairs, ld_a;
    size_t b[SL_LORA_TARGETS], b_pairs[SL_LORA_TARGETS], ld_b[SL_LORA_TARGETS];
    size_t size;
};

static size_t padded(size_t n)
{
    return (n + SL_LORA_PAD - 1) / SL_LORA_PAD * SL_LORA_PAD;
}

static struct layout layout_of(const struct sl_lora_shape *s)
{
    struct layout l = {.ld_a = padded(s->in)};
    bool pairs = s->precision == SL_PRECISION_BF16;
    size_t ranks = (size_t)s->n * s->rank;
    l.a_pairs = ranks * l.ld_a;
    l.size = l.a_pairs + (pairs ? (ranks + 1) / 2 * 2 * l.ld_a : 0);
    for (uint32_t t = 0; t < s->n; t++) {
        l.ld_b[t] = padded(s->width[t]);
        l.b[t] = l.size;
        l.b_pairs[t] = l.b[t] + s->rank * l.ld_b[t];
        l.size = l.b_pairs[t] + (pairs ? (s->rank + 1) / 2 * 2 * l.ld_b[t] : 0);
    }
    return l;
}

size_t sl_lora_packed_size(const struct sl_lora_shape *s)
{
    size_t bytes = layout_of(s).size * sl_precision_size(s->precision);
    return (bytes + LINE - 1) / LINE * LINE;
}

void sl_lora_pack(const struct sl_lora_shape *s, const float *a, const float *const *b, void *packed)
{
    struct layout l = layout_of(s);
    uint32_t ranks = s->n * s->rank;
    if (s->precision == SL_PRECISION_F32) {
        float *to = packed;
        sl_lora_pack_f32(a, ranks, s->in, l.ld_a, to + l.a);
        for (uint32_t t = 0; t < s->n; t++)
            sl_lora_pack_transposed_f32(b[t], s->rank, s->width[t], l.ld_b[t], to + l.b[t]);
    } else {
        sl_bf16 *to = packed;
        sl_lora_pack_bf16(a, ranks, s->in, l.ld_a, to + l.a, to + l.a_pairs);
        for (uint32_t t = 0; t < s->n; t++)
            sl_lora_pack_transposed_bf16(
                b[t], s->rank, s->width[t], l.ld_b[t], to + l.b[t], to + l.b_pairs[t]);
    }
}

/* One call, as every thread reads it. */
struct job {
    const struct sl_lora_shape *shape;
    struct layout layout;
    const struct sl_lora_segment *segments;
    uint32_t n_segments;
    const void *x, *dy;
    float *u, *du;
    void *y; /* dx on the way back */
    uint32_t ld_x, ld_y, ld_dy;
    enum sl_precision y_type;
    uint32_t target; /* whose columns are shared out, in column ranges */
};

static const void *at(enum sl_precision p, const void *x, size_t element)
{
    return (const char *)x + element * sl_precision_size(p);
}

static void dots(const struct job *j, const void *x, size_t ld_x, uint32_t rows, uint32_t k,
    const void *packed, size_t m, size_t ld_m, uint32_t ranks, float scale, float *u, size_t ld_u)
{
    if (j->shape->precision == SL_PRECISION_F32)
        sl_lora_dots_f32(x, ld_x, rows, k, (const float *)packed + m, ld_m, ranks, scale, u, ld_u);
#if defined(__x86_64__)
    else
        sl_lora_dots_bf16(x, ld_x, rows, k, (const sl_bf16 *)packed + m, ld_m, ranks, scale, u, ld_u);
#endif
}

static void spread(const struct job *j, const float *u, size_t ld_u, uint32_t rows, uint32_t ranks,
    float scale, const void *packed, size_t plain, size_t pairs, size_t ld_m, uint32_t n, size_t element)
{
    void *y = (void *)at(j->y_type, j->y, element);
    if (j->shape->precision == SL_PRECISION_F32)
        sl_lora_spread_f32(u, ld_u, rows, ranks, scale, (const float *)packed + plain, ld_m, n, y, j->ld_y);
#if defined(__x86_64__)
    else
        sl_lora_spread_bf16(u, ld_u, rows, ranks, scale, (const sl_bf16 *)packed + pairs, ld_m, n, y, j->ld_y,
            j->y_type == SL_PRECISION_BF16);
#endif
}

static void outer(const struct job *j, const float *u, size_t ld_u, uint32_t rows, uint32_t ranks,
    float scale, const void *x, size_t ld_x, uint32_t n, float *g, size_t g_rank, size_t g_col)
{
    if (j->shape->precision == SL_PRECISION_F32)
        sl_lora_outer_f32(u, ld_u, rows, ranks, scale, x, ld_x, n, g, g_rank, g_col);
#if defined(__x86_64__)
    else
        sl_lora_outer_bf16(u, ld_u, rows, ranks, scale, x, ld_x, n, g, g_rank, g_col);
#endif
}

/* The part of a segment that lies in [first, first + n). */
static uint32_t clip(const struct sl_lora_segment *s, uint32_t first, uint32_t n, uint32_t *start)
{
    uint32_t from = s->first > first ? s->first : first;
    uint32_t end = s->first + s->rows < first + n ? s->first + s->rows : first + n;
    *start = from;
    return end > from ? end - from : 0;
}

static void forward_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct job *j = ctx;
    const struct sl_lora_shape *s = j->shape;
    const struct layout *l = &j->layout;
    uint32_t ranks = s->n * s->rank, row;
    for (uint32_t i = 0; i < j->n_segments; i++) {
        const struct sl_lora_segment *segment = &j->segments[i];
        uint32_t rows = clip(segment, first, n, &row);
        if (!rows)
            continue;
        float *u = j->u + (size_t)row * ranks;
        dots(j, at(s->precision, j->x, (size_t)row * j->ld_x), j->ld_x, rows, s->in, segment->packed, l->a,
            l->ld_a, ranks, 1, u, ranks);
        for (uint32_t t = 0; t < s->n; t++)
            spread(j, u + t * s->rank, ranks, rows, s->rank, s->scale, segment->packed, l->b[t],
                l->b_pairs[t], l->ld_b[t], s->width[t], (size_t)row * j->ld_y + s->col[t]);
    }
}

static uint32_t last_row(const struct sl_lora_segment *segments, uint32_t n)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < n; i++)
        if (segments[i].first + segments[i].rows > end)
            end = segments[i].first + segments[i].rows;
    return end;
}

void sl_lora_forward(const struct sl_lora_shape *s, const struct sl_lora_segment *segments,
    uint32_t n_segments, const void *x, uint32_t ld_x, float *u, void *y, uint32_t ld_y,
    enum sl_precision y_type)
{
    struct job job = {.shape = s,
        .layout = layout_of(s),
        .segments = segments,
        .n_segments = n_segments,
        .x = x,
        .ld_x = ld_x,
        .u = u,
        .y = y,
        .ld_y = ld_y,
        .y_type = y_type};
    sl_parallel(last_row(segments, n_segments), ROW_GRAIN, forward_rows, &job);
}

/* du, and what it adds to dx. */
static void backward_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct job *j = ctx;
    const struct sl_lora_shape *s = j->shape;
    const struct layout *l = &j->layout;
    uint32_t ranks = s->n * s->rank, row;
    for (uint32_t i = 0; i < j->n_segments; i++) {
        const struct sl_lora_segment *segment = &j->segments[i];
        uint32_t rows = clip(segment, first, n, &row);
        if (!rows || !(segment->grad_a || j->y))
            continue;
        float *du = j->du + (size_t)row * ranks;
        for (uint32_t t = 0; t < s->n; t++)
            dots(j, at(s->precision, j->dy, (size_t)row * j->ld_dy + s->col[t]), j->ld_dy, rows, s->width[t],
                segment->packed, l->b[t], l->ld_b[t], s->rank, s->scale, du + t * s->rank, ranks);
        if (j->y)
            spread(j, du, ranks, rows, ranks, 1, segment->packed, l->a, l->a_pairs, l->ld_a, s->in,
                (size_t)row * j->ld_y);
    }
}

/* Gradients are shared out by columns, so that every sum over rows is one thread's. */
static void grad_a_columns(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct job *j = ctx;
    const struct sl_lora_shape *s = j->shape;
    uint32_t ranks = s->n * s->rank;
    for (uint32_t i = 0; i < j->n_segments; i++) {
        const struct sl_lora_segment *segment = &j->segments[i];
        if (segment->grad_a)
            outer(j, j->du + (size_t)segment->first * ranks, ranks, segment->rows, ranks, 1,
                at(s->precision, j->x, (size_t)segment->first * j->ld_x + first), j->ld_x, n,
                segment->grad_a + first, s->in, 1);
    }
}

static void grad_b_columns(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct job *j = ctx;
    const struct sl_lora_shape *s = j->shape;
    uint32_t ranks = s->n * s->rank, t = j->target;
    for (uint32_t i = 0; i < j->n_segments; i++) {
        const struct sl_lora_segment *segment = &j->segments[i];
        outer(j, j->u + (size_t)segment->first * ranks + t * s->rank, ranks, segment->rows, s->rank, s->scale,
            at(s->precision, j->dy, (size_t)segment->first * j->ld_dy + s->col[t] + first), j->ld_dy, n,
            segment->grad_b[t] + (size_t)first * s->rank, 1, s->rank);
    }
}

void sl_lora_backward(const struct sl_lora_shape *s, const struct sl_lora_segment *segments,
    uint32_t n_segments, const void *x, uint32_t ld_x, const float *u, const void *dy, uint32_t ld_dy,
    float *du, void *dx, uint32_t ld_dx, enum sl_precision dx_type)
{
    struct job job = {.shape = s,
        .layout = layout_of(s),
        .segments = segments,
        .n_segments = n_segments,
        .x = x,
        .ld_x = ld_x,
        .u = (float *)u,
        .du = du,
        .dy = dy,
        .ld_dy = ld_dy,
        .y = dx,
        .ld_y = ld_dx,
        .y_type = dx_type};
    sl_parallel(last_row(segments, n_segments), ROW_GRAIN, backward_rows, &job);
    for (job.target = 0; job.target < s->n; job.target++)
        sl_parallel(s->width[job.target], SL_LORA_PAD, grad_b_columns, &job);
    sl_parallel(s->in, SL_LORA_PAD, grad_a_columns, &job);
}
