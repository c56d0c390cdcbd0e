/* Aggregation of adapters at a boundary (rules L4, `weights`): for each block
 *
 *     G <- G + sum_c n_c (W_c - G_v(c)) / sum_c n_c
 *
 * over all copies c that trained it, G_v(c) being the version that copy c started from and n_c its predicted
 * tokens since. A block with a single copy that started from G takes that copy's weights unchanged, so that
 * one device is exact.
 *
 * Vectors are the trainable parts of blocks, one after another, `block` floats each (sl_adapter_block_size).
 */
#pragma once

#include "trainer/model/lora.h"

#include <stddef.h>
#include <stdint.h>

struct sl_copy {
    uint32_t first, last;      /* blocks [first, last) */
    const float *weights;      /* [last - first, block] */
    const float *base;         /* [n_layers, block]: the G it started from; NULL: the present one */
    uint64_t tokens;           /* since then, for every block of it ... */
    const uint64_t *tokens_at; /* ... or, where not NULL, by block: [n_layers] */
    uint32_t rank;             /* of its factors; 0: G's. Others are for sl_refactor alone */
};

/* Its tokens at a block; 0: it has no say there. */
static inline uint64_t sl_copy_tokens(const struct sl_copy *c, uint32_t layer)
{
    if (layer < c->first || layer >= c->last)
        return 0;
    return c->tokens_at ? c->tokens_at[layer] : c->tokens;
}

/* Changes g [n_layers, block] in place. Copies are summed in the order given (device order: rules L7), in
 * double precision. `scratch`: [block] doubles. */
void sl_aggregate(
    float *g, uint32_t n_layers, size_t block, const struct sl_copy *, uint32_t n_copies, double *scratch);

/* Rules L5: how far mean(B) mean(A) is from mean(B A), as a share of the round's update of B A, over all
 * blocks that more than one copy trained: |mean(B)mean(A) - mean(BA)| / |mean(BA) - B_G A_G| in the Frobenius
 * norm. `before` and `after` are G around sl_aggregate. 0 where A is frozen or no block has two copies. A
 * negative errno where memory ran out. */
double sl_aggregate_factor_error(const struct sl_model_config *, const struct sl_lora_config *,
    const float *before, const float *after, const struct sl_copy *, uint32_t n_copies);
