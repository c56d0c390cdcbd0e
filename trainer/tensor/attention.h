/* Causal grouped-query attention over a batch of sequences that lie one after another. Queries, keys and
 * values lie in one matrix qkv [rows, (n_heads + 2 n_kv_heads) head_dim]: all query heads, then key heads,
 * then value heads. Scores are computed in tiles that stay in the core's caches, under a running maximum, and
 * again in the backward pass, so nothing of size len² is kept (arXiv 2205.14135). Sums are in f32; where qkv
 * is bf16 and the CPU multiplies in bf16, so are the products. Pure functions over the caller's scratch, on
 * the process's threads (parallel.h); a sequence's result does not depend on the others. */
#pragma once

#include "trainer/tensor/view.h"

struct sl_attention {
    uint32_t n_heads, n_kv_heads, head_dim;
    /* sl_rope_table, or NULL: queries and keys are turned by their position in the sequence as they are read,
     * and their gradients turned back as they are written. */
    const float *rope;
};

/* Bytes of 64-byte aligned scratch for sequences up to max_len, with the threads of now. */
size_t sl_attend_scratch(const struct sl_attention *, uint32_t max_len);
/* lens [n_seqs], 1 or more each. out [rows, n_heads head_dim]; lse [rows, n_heads] the log-sum-exp of each
 * row's scores, kept for backward. */
void sl_attend_forward(const struct sl_attention *, const uint32_t *lens, uint32_t n_seqs, struct sl_src qkv,
    struct sl_dst out, float *lse, void *scratch);
/* dqkv, shaped as qkv, is overwritten. */
void sl_attend_backward(const struct sl_attention *, const uint32_t *lens, uint32_t n_seqs, struct sl_src qkv,
    struct sl_src out, const float *lse, struct sl_src dout, struct sl_dst dqkv, void *scratch);
