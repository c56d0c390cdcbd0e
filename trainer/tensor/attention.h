/* Causal grouped-query attention of one sequence. Queries, keys and values lie in one matrix qkv [len, ld],
 * ld = (n_heads + 2 n_kv_heads) head_dim: all query heads, then key heads, then value heads. Scores are
 * computed in tiles of query rows against the keys that they may see, and again in the backward pass, so
 * nothing of size len² is kept. Pure functions over the caller's scratch. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct sl_attention_dims {
    uint32_t n_heads, n_kv_heads, head_dim;
};

/* Floats of scratch for sequences up to max_len. */
size_t sl_attention_scratch(uint32_t max_len);
/* out [len, n_heads head_dim]; lse [len, n_heads] the log-sum-exp of each row's scores, kept for backward. */
void sl_attention_forward(
    const struct sl_attention_dims *, const float *qkv, uint32_t len, float *out, float *lse, float *scratch);
/* dqkv [len, ld] is overwritten. */
void sl_attention_backward(const struct sl_attention_dims *, const float *qkv, const float *out,
    const float *lse, const float *dout, uint32_t len, float *dqkv, float *scratch);
