/* FLOPs of a split step from the model's shape (rules P2): multiply-adds count two. LoRA training: forward +
 * input gradients of the frozen matrices, so backward = forward for them; causal attention counts the lower
 * triangle only. */
#pragma once

#include <stdint.h>

struct sl_cost_shape {
    uint32_t d_model, n_heads, n_kv_heads, head_dim, d_ff, vocab;
    int gated_mlp; /* Llama: three MLP matrices; GPT-2: two */
};
double sl_cost_block_forward(const struct sl_cost_shape *, const uint32_t *seq_len, uint32_t n_seqs);
double sl_cost_block_backward(const struct sl_cost_shape *, const uint32_t *seq_len, uint32_t n_seqs);
double sl_cost_head_forward(const struct sl_cost_shape *, uint64_t rows);
