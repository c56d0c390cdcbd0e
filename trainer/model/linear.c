/* The linear layers of a block with their LoRA: forward and backward. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/rows.h"

#include <string.h>

/* The segments that have an adapter at this block, as far as they reach into [0, rows), for the thin
 * products. Their factors lie packed in the block, where `pack` puts them; gradients are the adapters' own.
 */
static uint32_t lora_segments(struct sl_half *h, uint32_t layer, enum slot slot, uint32_t rows, bool pack)
{
    const struct slot_shape *s = &h->slots[slot];
    char *packed = sl_half_layer(h, layer)->lora[slot];
    size_t size = s->n_lora ? sl_lora_packed_size(&s->shape) : 0;
    uint32_t n = 0;
    for (uint32_t i = 0; s->n_lora && i < h->n_segments && h->segments[i].row0 < rows; i++) {
        const struct segment *from = &h->segments[i];
        if (!sl_adapter_covers(from->adapter, layer))
            continue;
        struct sl_lora_segment *to = &h->lora_segments[n++];
        const float *b[SL_LORA_TARGETS] = {0};
        *to = (struct sl_lora_segment){.first = from->row0,
            .rows = (from->row1 < rows ? from->row1 : rows) - from->row0,
            .packed = packed + i * size,
            .grad_a = sl_adapter_grad_a(from->adapter, layer, s->lora[0])};
        for (uint32_t t = 0; t < s->n_lora; t++) {
            b[t] = sl_adapter_b(from->adapter, layer, s->lora[t]);
            to->grad_b[t] = sl_adapter_grad_b(from->adapter, layer, s->lora[t]);
        }
        if (pack)
            sl_lora_pack(&s->shape, sl_adapter_a(from->adapter, layer, s->lora[0]), b, packed + i * size);
    }
    return n;
}

/* y += LoRA. */
static void lora_forward(
    struct sl_half *h, uint32_t layer, enum slot slot, uint32_t rows, struct sl_src x, struct sl_dst y)
{
    const struct slot_shape *s = &h->slots[slot];
    uint32_t n = lora_segments(h, layer, slot, rows, true);
    if (n)
        sl_lora_forward(&s->shape, h->lora_segments, n, x.p, s->in, sl_half_layer(h, layer)->u[slot].p, y.p,
            s->out, y.precision);
    sl_profile_mark(h->config.profile, SL_KERNEL_LORA);
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
    return back ? sl_packed_backward(w, &p, h->scratch) : sl_packed_forward(w, &p, h->scratch);
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
    if (!err)
        lora_forward(h, layer, slot, rows, x, y);
    return err;
}

void sl_slot_recompute(
    struct sl_half *h, uint32_t layer, enum slot slot, uint32_t rows, struct sl_src x, struct sl_dst spare)
{
    lora_forward(h, layer, slot, rows, x, spare);
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
    uint32_t n = err ? 0 : lora_segments(h, layer, slot, rows, false);
    if (n)
        sl_lora_backward(&s->shape, h->lora_segments, n, x.p, s->in, sl_half_layer(h, layer)->u[slot].p, dy.p,
            s->out, h->du.p, dx.p, s->in, dx.precision);
    sl_profile_mark(h->config.profile, SL_KERNEL_LORA);
    return err;
}
