/* The linear layers of a block with their LoRA: forward and backward. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/rows.h"

#include <string.h>

void sl_slot_forward(struct sl_half *h, uint32_t layer, enum slot slot, uint32_t rows, const float *x,
    const float *residual, float *y)
{
    const struct slot_shape *s = &h->slots[slot];
    const struct sl_block_params *block = &h->model->blocks[layer];
    const struct sl_param *w = block->w[s->target0], *bias = block->bias[s->target0];
    uint32_t in = s->in, out = s->out;
    if (bias)
        sl_rows_bias(residual, bias->data, rows, out, y);
    else if (residual)
        memcpy(y, residual, (size_t)rows * out * sizeof *y);
    float beta = bias || residual ? 1.0f : 0.0f;
    sl_gemm(h->llama, rows, out, in, 1, x, in, w->data, h->llama ? in : out, beta, y, out);
    h->gemms++;
    sl_profile_mark(h->config.profile, SL_KERNEL_LINEAR);
    if (!s->n_lora || !sl_half_adapted(h, layer))
        return;
    uint32_t rank = h->rank, ld_u = s->n_lora * rank;
    float *u = sl_half_layer(h, layer)->u[slot];
    sl_gemm(true, rows, ld_u, in, 1, x, in, sl_adapter_a(h->adapter, layer, s->lora[0]), in, 0, u, ld_u);
    for (uint32_t t = 0; t < s->n_lora; t++)
        sl_gemm(true, rows, s->width[t], rank, h->lora_scale, u + t * rank, ld_u,
            sl_adapter_b(h->adapter, layer, s->lora[t]), rank, 1, y + s->col[t], out);
    sl_profile_mark(h->config.profile, SL_KERNEL_LORA);
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

void sl_slot_backward(struct sl_half *h, uint32_t layer, enum slot slot, uint32_t rows, const float *x,
    const float *dy, float *dx)
{
    const struct slot_shape *s = &h->slots[slot];
    uint32_t in = s->in, out = s->out;
    if (h->config.full)
        base_gradients(h, layer, s, rows, x, dy);
    if (dx)
        sl_gemm(!h->llama, rows, in, out, 1, dy, out, h->model->blocks[layer].w[s->target0]->data,
            h->llama ? in : out, 0, dx, in);
    sl_profile_mark(h->config.profile, SL_KERNEL_LINEAR);
    if (!s->n_lora || !sl_half_adapted(h, layer))
        return;
    uint32_t rank = h->rank, ld_u = s->n_lora * rank;
    const float *u = sl_half_layer(h, layer)->u[slot];
    float *grad_a = sl_adapter_grad_a(h->adapter, layer, s->lora[0]);
    for (uint32_t t = 0; t < s->n_lora; t++) {
        const float *dy_t = dy + s->col[t];
        sl_gemm_at(s->width[t], rank, rows, h->lora_scale, dy_t, out, u + t * rank, ld_u, 1,
            sl_adapter_grad_b(h->adapter, layer, s->lora[t]), rank);
        if (grad_a || dx)
            sl_gemm(false, rows, rank, s->width[t], h->lora_scale, dy_t, out,
                sl_adapter_b(h->adapter, layer, s->lora[t]), rank, 0, h->du + t * rank, ld_u);
    }
    if (grad_a)
        sl_gemm_at(ld_u, in, rows, 1, h->du, ld_u, x, in, 1, grad_a, in);
    if (dx)
        sl_gemm(false, rows, in, ld_u, 1, h->du, ld_u, sl_adapter_a(h->adapter, layer, s->lora[0]), in, 1, dx,
            in);
    sl_profile_mark(h->config.profile, SL_KERNEL_LORA);
}
