/* Where LoRA's factors lie in a block's vector (lora.h: first every target's A, then every target's B), at
 * any rank. Used where vectors of different ranks meet. */
#pragma once

#include "trainer/model/lora.h"

struct sl_factor {
    size_t a, b; /* offsets in floats of A [rank, in] and B [out, rank]; without A under freeze_a */
    uint32_t in, out;
};

/* Fills f[] and returns how many targets there are. */
uint32_t sl_factors(
    const struct sl_model_config *, const struct sl_lora_config *, struct sl_factor f[SL_TARGET_COUNT]);

/* The first `rank` components (rows of A, columns of B) of `n` blocks of the lora's rank: of a G that svd has
 * made, these are its best factors of that rank. out: [n, block at that rank]. */
void sl_factors_prefix(const struct sl_model_config *, const struct sl_lora_config *, const float *blocks,
    uint32_t n, uint32_t rank, float *out);
