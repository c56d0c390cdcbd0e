/* The linear layers of a block with their LoRA: forward and backward. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/rows.h"

#include <string.h>

/* Rows [row0, row0 + n) of a product that carry an adapter at this block. */
struct adapted_rows {
    struct sl_adapter *adapter;
    uint32_t row0, n;
    float scale;
};

/* The i-th segment as far as it reaches into [0, rows); n is 0 where it has no adapter at this block. */
static struct adapted_rows adapted_rows(const struct sl_half *h, uint32_t layer, uint32_t i, uint32_t rows)
{
    const struct segment *s = &h->segments[i];
    uint32_t end = s->row1 < rows ? s->row1 : rows;
    struct adapted_rows r = {.adapter = s->adapter, .row0 = s->row0};
    if (s->row0 >= rows || !sl_adapter_covers(s->adapter, layer))
        return r;
    const struct sl_lora_config *lora = sl_adapter_lora(s->adapter);
    r.n = end - s->row0;
    r.scale = lora->alpha / (float)lora->rank;
    return r;
}

/* Rows [row0, ...) of a tensor of the given width. */
static float *rows_of(struct sl_src t, uint32_t row0, uint32_t width)
{
    return (float *)t.p + (size_t)row0 * width;
}

/* u = x Aᵀ of a segment's rows, all adapted targets side by side. */
static void lora_down(
    struct sl_half *h, uint32_t layer, enum slot slot, const struct adapted_rows *r, struct sl_src x)
{
    const struct slot_shape *s = &h->slots[slot];
    uint32_t ld_u = s->n_lora * h->rank;
    float *u = (float *)sl_half_layer(h, layer)->u[slot].p + (size_t)r->row0 * ld_u;
    sl_gemm(true, r->n, ld_u, s->in, 1, rows_of(x, r->row0, s->in), s->in,
        sl_adapter_a(r->adapter, layer, s->lora[0]), s->in, 0, u, ld_u);
}

/* y += scale u Bᵀ, target by target. */
static void lora_up(
    struct sl_half *h, uint32_t layer, enum slot slot, const struct adapted_rows *r, struct sl_dst y)
{
    const struct slot_shape *s = &h->slots[slot];
    uint32_t rank = h->rank, ld_u = s->n_lora * rank;
    const float *u = (float *)sl_half_layer(h, layer)->u[slot].p + (size_t)r->row0 * ld_u;
    for (uint32_t t = 0; t < s->n_lora; t++)
        sl_gemm(true, r->n, s->width[t], rank, r->scale, u + t * rank, ld_u,
            sl_adapter_b(r->adapter, layer, s->lora[t]), rank, 1,
            rows_of(sl_src_of(y), r->row0, s->out) + s->col[t], s->out);
}

/* y = x W + bias, or without a bias dx = dy Wᵀ (`back`), with the packed matrix. */
static int packed_product(struct sl_half *h, const struct sl_packed *w, bool back, uint32_t rows, uint32_t in,
    uint32_t out, struct sl_src x, const float *bias, struct sl_dst y)
{
    struct sl_product p = {.rows = rows,
        .room = h->room,
        .x = x.p,
        .ld_x = back ? out : in,
        .y = y.p,
        .ld_y = back ? in : out,
        .y_type = y.precision,
        .bias = bias};
    return back ? sl_packed_backward(w, &p, h->product_scratch)
                : sl_packed_forward(w, &p, h->product_scratch);
}

/* The same with the f32 matrix as it was loaded. */
static void plain_product(struct sl_half *h, const float *w, bool back, uint32_t rows, uint32_t in,
    uint32_t out, const float *x, const float *bias, float *y)
{
    uint32_t ld_w = h->llama ? in : out; /* [out, in], or [in, out] */
    if (bias)
        sl_rows_bias(NULL, bias, rows, out, y);
    if (back)
        sl_gemm(!h->llama, rows, in, out, 1, x, out, w, ld_w, 0, y, in);
    else
        sl_gemm(h->llama, rows, out, in, 1, x, in, w, ld_w, bias ? 1.0f : 0.0f, y, out);
}

int sl_slot_forward(
    struct sl_half *h, uint32_t layer, enum slot slot, uint32_t rows, struct sl_src x, struct sl_dst y)
{
    const struct slot_shape *s = &h->slots[slot];
    const struct sl_block_params *block = &h->model->blocks[layer];
    const float *bias = block->bias[s->target0] ? block->bias[s->target0]->data : NULL;
    int err = 0;
    if (block->packed[slot])
        err = packed_product(h, block->packed[slot], false, rows, s->in, s->out, x, bias, y);
    else
        plain_product(h, block->w[s->target0]->data, false, rows, s->in, s->out, x.p, bias, y.p);
    h->gemms++;
    sl_profile_mark(h->config.profile, SL_KERNEL_LINEAR);
    for (uint32_t i = 0; s->n_lora && i < h->n_segments && !err; i++) {
        struct adapted_rows r = adapted_rows(h, layer, i, rows);
        if (!r.n)
            continue;
        lora_down(h, layer, slot, &r, x);
        lora_up(h, layer, slot, &r, y);
    }
    sl_profile_mark(h->config.profile, SL_KERNEL_LORA);
    return err;
}

int sl_slot_recompute(struct sl_half *h, uint32_t layer, enum slot slot, uint32_t rows, struct sl_src x)
{
    for (uint32_t i = 0; h->slots[slot].n_lora && i < h->n_segments; i++) {
        struct adapted_rows r = adapted_rows(h, layer, i, rows);
        if (r.n)
            lora_down(h, layer, slot, &r, x);
    }
    sl_profile_mark(h->config.profile, SL_KERNEL_LORA);
    return 0;
}

static void base_gradients(struct sl_half *h, uint32_t layer, const struct slot_shape *s, uint32_t rows,
    const float *x, const float *dy)
{
    struct sl_block_params *block = &h->model->blocks[layer];
    struct sl_param *w = block->w[s->target0], *bias = block->bias[s->target0];
    uint32_t in = s->in, out = s->out;
    if (h->llama)
        sl_gemm_at(out, in, rows, 1, dy, out, x, in, 1, w->grad, in);
    else
        sl_gemm_at(in, out, rows, 1, x, in, dy, out, 1, w->grad, out);
    if (bias)
        sl_rows_sum(dy, rows, out, bias->grad);
}

/* Gradients of a segment's adapter in this slot; where dx is wanted, its part of it is added. */
static void lora_backward(struct sl_half *h, uint32_t layer, enum slot slot, const struct adapted_rows *r,
    struct sl_src x, struct sl_src dy, struct sl_dst dx)
{
    const struct slot_shape *s = &h->slots[slot];
    uint32_t in = s->in, out = s->out, rank = h->rank, ld_u = s->n_lora * rank;
    const float *u = (float *)sl_half_layer(h, layer)->u[slot].p + (size_t)r->row0 * ld_u;
    float *grad_a = sl_adapter_grad_a(r->adapter, layer, s->lora[0]), *du = h->du.p;
    for (uint32_t t = 0; t < s->n_lora; t++) {
        const float *dy_t = rows_of(dy, r->row0, out) + s->col[t];
        sl_gemm_at(s->width[t], rank, r->n, r->scale, dy_t, out, u + t * rank, ld_u, 1,
            sl_adapter_grad_b(r->adapter, layer, s->lora[t]), rank);
        if (grad_a || dx.p)
            sl_gemm(false, r->n, rank, s->width[t], r->scale, dy_t, out,
                sl_adapter_b(r->adapter, layer, s->lora[t]), rank, 0, du + t * rank, ld_u);
    }
    if (grad_a)
        sl_gemm_at(ld_u, in, r->n, 1, du, ld_u, rows_of(x, r->row0, in), in, 1, grad_a, in);
    if (dx.p)
        sl_gemm(false, r->n, in, ld_u, 1, du, ld_u, sl_adapter_a(r->adapter, layer, s->lora[0]), in, 1,
            rows_of(sl_src_of(dx), r->row0, in), in);
}

int sl_slot_backward(struct sl_half *h, uint32_t layer, enum slot slot, uint32_t rows, struct sl_src x,
    struct sl_src dy, struct sl_dst dx)
{
    const struct slot_shape *s = &h->slots[slot];
    const struct sl_block_params *block = &h->model->blocks[layer];
    int err = 0;
    if (h->config.full)
        base_gradients(h, layer, s, rows, x.p, dy.p);
    if (dx.p && block->packed[slot])
        err = packed_product(h, block->packed[slot], true, rows, s->in, s->out, dy, NULL, dx);
    else if (dx.p)
        plain_product(h, block->w[s->target0]->data, true, rows, s->in, s->out, dy.p, NULL, dx.p);
    sl_profile_mark(h->config.profile, SL_KERNEL_LINEAR);
    for (uint32_t i = 0; s->n_lora && i < h->n_segments && !err; i++) {
        struct adapted_rows r = adapted_rows(h, layer, i, rows);
        if (r.n)
            lora_backward(h, layer, slot, &r, x, dy, dx);
    }
    sl_profile_mark(h->config.profile, SL_KERNEL_LORA);
    return err;
}
