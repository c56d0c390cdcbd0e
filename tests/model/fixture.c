#include "tests/model/fixture.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct sl_model_config fixture_llama = {.family = SL_FAMILY_LLAMA,
    .n_layers = FIXTURE_LAYERS,
    .d_model = FIXTURE_D,
    .n_heads = 6,
    .n_kv_heads = 2,
    .head_dim = 14,
    .d_ff = 72,
    .vocab = FIXTURE_VOCAB,
    .max_positions = FIXTURE_POSITIONS,
    .norm_eps = 1e-5f,
    .rope_theta = 10000,
    .tied_embeddings = true};

const struct sl_model_config fixture_gpt2 = {.family = SL_FAMILY_GPT2,
    .n_layers = FIXTURE_LAYERS,
    .d_model = FIXTURE_D,
    .n_heads = 3,
    .n_kv_heads = 3,
    .head_dim = 16,
    .d_ff = 192,
    .vocab = FIXTURE_VOCAB,
    .max_positions = FIXTURE_POSITIONS,
    .norm_eps = 1e-5f,
    .tied_embeddings = true};

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

struct sl_model *fixture_model(const struct sl_model_config *config, uint64_t seed)
{
    struct sl_model *m = NULL;
    if (sl_model_create(config, seed, &m))
        abort();
    for (uint32_t i = 0; i < sl_model_param_count(m); i++) {
        struct sl_param *p = sl_model_param(m, i);
        uint64_t key = sl_rng_key(seed, p->name);
        bool matrix = p->n_dims == 2, bias = strstr(p->name, ".bias") != NULL;
        float scale = matrix ? (float)(1.7 / sqrt(p->dims[1])) : 0.3f;
        for (size_t j = 0; j < p->n; j++)
            p->data[j] = (matrix || bias ? 0.0f : 1.0f) + scale * sl_rng_uniform(key, j);
    }
    return must(m);
}

struct sl_adapter *fixture_adapter(
    const struct sl_model_config *config, const struct sl_lora_config *lora, uint32_t first, uint32_t last)
{
    struct sl_adapter *a = NULL;
    if (sl_adapter_create(config, lora, first, last, &a))
        abort();
    for (uint32_t l = first; l < last; l++) {
        for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
            float *b = sl_adapter_b(a, l, t);
            char name[64];
            uint32_t in, out;
            if (!b)
                continue;
            sl_target_dims(config, t, &in, &out);
            snprintf(name, sizeof name, "B.%u.%u", l, t);
            uint64_t key = sl_rng_key(lora->seed, name);
            for (size_t i = 0; i < (size_t)out * lora->rank; i++)
                b[i] = 0.1f * sl_rng_uniform(key, i);
        }
    }
    return must(a);
}

void fixture_ids(uint64_t seed, const char *name, uint32_t vocab, uint32_t n, uint32_t *ids)
{
    uint64_t key = sl_rng_key(seed, name);
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (uint32_t)(sl_rng_u64(key, i) >> 33) % vocab;
}

double fixture_distance(const float *a, const float *b, size_t n)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(diff / norm) : diff > 0 ? INFINITY : 0;
}

uint32_t fixture_all_targets(enum sl_family family)
{
    return family == SL_FAMILY_LLAMA ? (1u << SL_C_ATTN) - 1 : (1u << SL_TARGET_COUNT) - (1u << SL_C_ATTN);
}
