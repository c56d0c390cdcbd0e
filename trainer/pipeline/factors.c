#include "trainer/pipeline/factors.h"

#include <string.h>

uint32_t sl_factors(const struct sl_model_config *model, const struct sl_lora_config *lora,
    struct sl_factor f[SL_TARGET_COUNT])
{
    uint32_t n = 0;
    size_t offset = 0;
    for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
        if (!(lora->targets >> t & 1))
            continue;
        sl_target_dims(model, (enum sl_target)t, &f[n].in, &f[n].out);
        f[n].a = offset;
        offset += lora->freeze_a ? 0 : (size_t)lora->rank * f[n].in;
        n++;
    }
    for (uint32_t i = 0; i < n; i++) {
        f[i].b = offset;
        offset += (size_t)lora->rank * f[i].out;
    }
    return n;
}

void sl_factors_prefix(const struct sl_model_config *model, const struct sl_lora_config *lora,
    const float *blocks, uint32_t n, uint32_t rank, float *out)
{
    struct sl_lora_config small = *lora;
    struct sl_factor from[SL_TARGET_COUNT], to[SL_TARGET_COUNT];
    small.rank = rank;
    uint32_t n_factors = sl_factors(model, lora, from);
    sl_factors(model, &small, to);
    size_t block = sl_adapter_block_size(model, lora), small_block = sl_adapter_block_size(model, &small);
    for (uint32_t l = 0; l < n; l++) {
        const float *src = blocks + l * block;
        float *dst = out + l * small_block;
        for (uint32_t i = 0; i < n_factors; i++) {
            if (!lora->freeze_a)
                memcpy(dst + to[i].a, src + from[i].a, (size_t)rank * from[i].in * sizeof *dst);
            for (uint32_t o = 0; o < from[i].out; o++)
                memcpy(dst + to[i].b + (size_t)o * rank, src + from[i].b + (size_t)o * lora->rank,
                    rank * sizeof *dst);
        }
    }
}
