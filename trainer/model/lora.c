/* Adapters: layout of a block's vector, and initialisation. */
#include "trainer/model/model_internal.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sl_adapter {
    struct sl_model_config config;
    struct sl_lora_config lora;
    uint32_t first, last;
    size_t a_at[SL_TARGET_COUNT], b_at[SL_TARGET_COUNT]; /* offsets in a block's vector */
    size_t n_a, n_all;                                   /* floats of a block: its A part, A and B */
    size_t n_trained;                                    /* n_all, or its B tail under freeze_a */
    float *data;                                         /* [last - first][n_all] */
    float *grad;                                         /* [last - first][n_trained] */
    double *grams;                                       /* [2, rank, rank]: work space of proximal.c */
};

static bool adapts(const struct sl_lora_config *lora, unsigned target)
{
    return lora->targets >> target & 1;
}

/* Sizes of the A part and of the B part of a block. */
static void block_sizes(
    const struct sl_model_config *config, const struct sl_lora_config *lora, size_t *n_a, size_t *n_b)
{
    *n_a = *n_b = 0;
    for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
        uint32_t in, out;
        if (!adapts(lora, t))
            continue;
        sl_target_dims(config, t, &in, &out);
        *n_a += (size_t)lora->rank * in;
        *n_b += (size_t)lora->rank * out;
    }
}

size_t sl_adapter_block_size(const struct sl_model_config *config, const struct sl_lora_config *lora)
{
    size_t n_a, n_b;
    block_sizes(config, lora, &n_a, &n_b);
    return lora->freeze_a ? n_b : n_a + n_b;
}

/* PEFT's default: kaiming_uniform_(a = sqrt 5), which is uniform within 1/sqrt(in). */
static void init_a(struct sl_adapter *a, uint32_t layer, enum sl_target target)
{
    char name[128];
    uint32_t in, out;
    sl_target_dims(&a->config, target, &in, &out);
    snprintf(name, sizeof name, "base_model.model.%s%u.%s.lora_A.weight",
        sl_family_block_prefix(a->config.family), layer, sl_target_path(target));
    uint64_t key = sl_rng_key(a->lora.seed, name);
    float bound = 1.0f / sqrtf((float)in), *w = sl_adapter_a(a, layer, target);
    size_t n = (size_t)a->lora.rank * in;
    for (size_t i = 0; i < n; i++)
        w[i] = bound * sl_rng_uniform(key, i);
}

int sl_adapter_create(const struct sl_model_config *config, const struct sl_lora_config *lora, uint32_t first,
    uint32_t last, struct sl_adapter **out)
{
    *out = NULL;
    uint32_t family_bits =
        (1u << sl_family_end_target(config->family)) - (1u << sl_family_first_target(config->family));
    if (first >= last || last > config->n_layers || !lora->rank || lora->rank > 1u << 16 || !lora->targets ||
        lora->targets & ~family_bits || !isfinite(lora->alpha))
        return -EINVAL;
    struct sl_adapter *a = calloc(1, sizeof *a);
    if (!a)
        return -ENOMEM;
    a->config = *config;
    a->lora = *lora;
    a->first = first;
    a->last = last;
    size_t n_b, a_at = 0;
    block_sizes(config, lora, &a->n_a, &n_b);
    size_t b_at = a->n_a;
    for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
        uint32_t in, out_dim;
        if (!adapts(lora, t))
            continue;
        sl_target_dims(config, t, &in, &out_dim);
        a->a_at[t] = a_at;
        a->b_at[t] = b_at;
        a_at += (size_t)lora->rank * in;
        b_at += (size_t)lora->rank * out_dim;
    }
    a->n_all = a->n_a + n_b;
    a->n_trained = lora->freeze_a ? n_b : a->n_all;
    a->data = calloc((size_t)(last - first) * a->n_all, sizeof(float));
    a->grad = calloc((size_t)(last - first) * a->n_trained, sizeof(float));
    a->grams = calloc(2 * (size_t)lora->rank * lora->rank, sizeof *a->grams);
    if (!a->data || !a->grad || !a->grams) {
        sl_adapter_free(a);
        return -ENOMEM;
    }
    for (uint32_t l = first; l < last; l++)
        for (unsigned t = 0; t < SL_TARGET_COUNT; t++)
            if (adapts(lora, t))
                init_a(a, l, t);
    *out = a;
    return 0;
}

void sl_adapter_free(struct sl_adapter *a)
{
    if (!a)
        return;
    free(a->data);
    free(a->grad);
    free(a->grams);
    free(a);
}

const struct sl_lora_config *sl_adapter_lora(const struct sl_adapter *a)
{
    return &a->lora;
}

const struct sl_model_config *sl_adapter_shape(const struct sl_adapter *a)
{
    return &a->config;
}

double *sl_adapter_grams(struct sl_adapter *a)
{
    return a->grams;
}

uint32_t sl_adapter_first(const struct sl_adapter *a)
{
    return a->first;
}

uint32_t sl_adapter_last(const struct sl_adapter *a)
{
    return a->last;
}

static bool covers(const struct sl_adapter *a, uint32_t layer)
{
    return layer >= a->first && layer < a->last;
}

static float *block_data(struct sl_adapter *a, uint32_t layer)
{
    return a->data + (layer - a->first) * a->n_all;
}

static float *block_grad(struct sl_adapter *a, uint32_t layer)
{
    return a->grad + (layer - a->first) * a->n_trained;
}

struct sl_block sl_adapter_block(struct sl_adapter *a, uint32_t layer)
{
    if (!covers(a, layer))
        return (struct sl_block){0};
    return (struct sl_block){
        block_data(a, layer) + (a->n_all - a->n_trained), block_grad(a, layer), a->n_trained};
}

struct sl_block sl_adapter_block_all(struct sl_adapter *a, uint32_t layer)
{
    if (!covers(a, layer))
        return (struct sl_block){0};
    return (struct sl_block){block_data(a, layer), a->lora.freeze_a ? NULL : block_grad(a, layer), a->n_all};
}

void sl_adapter_zero_grads(struct sl_adapter *a)
{
    memset(a->grad, 0, (size_t)(a->last - a->first) * a->n_trained * sizeof(float));
}

static bool has(const struct sl_adapter *a, uint32_t layer, enum sl_target target)
{
    return covers(a, layer) && adapts(&a->lora, target);
}

float *sl_adapter_a(struct sl_adapter *a, uint32_t layer, enum sl_target target)
{
    return has(a, layer, target) ? block_data(a, layer) + a->a_at[target] : NULL;
}

float *sl_adapter_b(struct sl_adapter *a, uint32_t layer, enum sl_target target)
{
    return has(a, layer, target) ? block_data(a, layer) + a->b_at[target] : NULL;
}

float *sl_adapter_grad_a(struct sl_adapter *a, uint32_t layer, enum sl_target target)
{
    return has(a, layer, target) && !a->lora.freeze_a ? block_grad(a, layer) + a->a_at[target] : NULL;
}

float *sl_adapter_grad_b(struct sl_adapter *a, uint32_t layer, enum sl_target target)
{
    if (!has(a, layer, target))
        return NULL;
    return block_grad(a, layer) + a->b_at[target] - (a->n_all - a->n_trained);
}
