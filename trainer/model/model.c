/* A model in memory: the table of its parameters, and random initialisation. */
#include "trainer/model/model_internal.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    NAME_CAP = 64, /* the longest is "model.layers.4294967295.post_attention_layernorm.weight" */
    ALIGN = 64
};

static float *alloc_floats(size_t n)
{
    if (n > (SIZE_MAX - ALIGN) / sizeof(float))
        return NULL;
    size_t bytes = (n * sizeof(float) + ALIGN - 1) / ALIGN * ALIGN;
    float *p = aligned_alloc(ALIGN, bytes ? bytes : ALIGN);
    if (p)
        memset(p, 0, bytes);
    return p;
}

/* Zeroed pages that cost memory only once they are written: what is not loaded takes none, and what is packed
 * can be given back. */
static float *map_floats(size_t n)
{
    if (n > SIZE_MAX / sizeof(float))
        return NULL;
    void *p = mmap(NULL, n * sizeof(float), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

static bool config_is_sane(const struct sl_model_config *c)
{
    if (!c->n_layers || !c->d_model || !c->n_heads || !c->n_kv_heads || !c->head_dim || !c->d_ff ||
        !c->vocab || !c->max_positions || !(c->norm_eps >= 0))
        return false;
    if (c->n_heads % c->n_kv_heads || (uint64_t)c->n_heads * c->head_dim > 1u << 24 ||
        c->d_model > 1u << 24 || c->d_ff > 1u << 24 || c->n_layers > 1u << 16)
        return false;
    if (c->family == SL_FAMILY_GPT2)
        return c->n_kv_heads == c->n_heads && c->n_heads * c->head_dim == c->d_model;
    return c->head_dim % 2 == 0 && c->rope_theta > 0;
}

static struct sl_param *add(struct sl_model *m, uint32_t n_dims, uint32_t rows, uint32_t cols,
    const char *prefix, int layer, const char *name, const char *suffix)
{
    struct sl_param *p = &m->params[m->n_params];
    char *text = m->names + (size_t)m->n_params * NAME_CAP;
    if (layer >= 0)
        snprintf(text, NAME_CAP, "%s%d.%s%s", prefix, layer, name, suffix);
    else
        snprintf(text, NAME_CAP, "%s%s%s", prefix, name, suffix);
    *p = (struct sl_param){.name = text, .n_dims = n_dims, .dims = {rows, cols}, .n = rows};
    if (n_dims == 2)
        p->n = (size_t)rows * cols;
    m->n_params++;
    m->n_floats += p->n;
    return p;
}

static void add_linear(struct sl_model *m, uint32_t layer, enum sl_target target)
{
    const struct sl_model_config *c = &m->config;
    struct sl_block_params *b = &m->blocks[layer];
    const char *prefix = sl_family_block_prefix(c->family);
    uint32_t in, out;
    sl_target_dims(c, target, &in, &out);
    bool conv1d = c->family == SL_FAMILY_GPT2;
    b->w[target] = add(
        m, 2, conv1d ? in : out, conv1d ? out : in, prefix, (int)layer, sl_target_path(target), ".weight");
    if (conv1d)
        b->bias[target] = add(m, 1, out, 1, prefix, (int)layer, sl_target_path(target), ".bias");
}

static void add_llama(struct sl_model *m)
{
    const struct sl_model_config *c = &m->config;
    uint32_t d = c->d_model;
    const char *prefix = sl_family_block_prefix(c->family);
    m->embed = add(m, 2, c->vocab, d, "model.", -1, "embed_tokens", ".weight");
    for (uint32_t l = 0; l < c->n_layers; l++) {
        struct sl_block_params *b = &m->blocks[l];
        b->norm1_w = add(m, 1, d, 1, prefix, (int)l, "input_layernorm", ".weight");
        for (unsigned t = SL_Q_PROJ; t <= SL_O_PROJ; t++)
            add_linear(m, l, t);
        b->norm2_w = add(m, 1, d, 1, prefix, (int)l, "post_attention_layernorm", ".weight");
        for (unsigned t = SL_GATE_PROJ; t <= SL_DOWN_PROJ; t++)
            add_linear(m, l, t);
    }
    m->norm_w = add(m, 1, d, 1, "model.", -1, "norm", ".weight");
}

static void add_gpt2(struct sl_model *m)
{
    const struct sl_model_config *c = &m->config;
    uint32_t d = c->d_model;
    const char *prefix = sl_family_block_prefix(c->family);
    m->embed = add(m, 2, c->vocab, d, "transformer.", -1, "wte", ".weight");
    m->positions = add(m, 2, c->max_positions, d, "transformer.", -1, "wpe", ".weight");
    for (uint32_t l = 0; l < c->n_layers; l++) {
        struct sl_block_params *b = &m->blocks[l];
        b->norm1_w = add(m, 1, d, 1, prefix, (int)l, "ln_1", ".weight");
        b->norm1_b = add(m, 1, d, 1, prefix, (int)l, "ln_1", ".bias");
        add_linear(m, l, SL_C_ATTN);
        add_linear(m, l, SL_ATTN_C_PROJ);
        b->norm2_w = add(m, 1, d, 1, prefix, (int)l, "ln_2", ".weight");
        b->norm2_b = add(m, 1, d, 1, prefix, (int)l, "ln_2", ".bias");
        add_linear(m, l, SL_C_FC);
        add_linear(m, l, SL_MLP_C_PROJ);
    }
    m->norm_w = add(m, 1, d, 1, "transformer.", -1, "ln_f", ".weight");
    m->norm_b = add(m, 1, d, 1, "transformer.", -1, "ln_f", ".bias");
}

int sl_model_alloc(const struct sl_model_config *config, struct sl_model **out)
{
    *out = NULL;
    if (!config_is_sane(config))
        return -EINVAL;
    struct sl_model *m = calloc(1, sizeof *m);
    if (!m)
        return -ENOMEM;
    m->config = *config;
    size_t cap = (size_t)config->n_layers * 12 + 5; /* GPT-2 has 12 tensors a block and up to 5 outside */
    m->params = calloc(cap, sizeof *m->params);
    m->names = calloc(cap, NAME_CAP);
    m->blocks = calloc(config->n_layers, sizeof *m->blocks);
    if (!m->params || !m->names || !m->blocks) {
        sl_model_free(m);
        return -ENOMEM;
    }
    if (config->family == SL_FAMILY_LLAMA)
        add_llama(m);
    else
        add_gpt2(m);
    m->head = m->embed;
    if (!config->tied_embeddings)
        m->head = add(m, 2, config->vocab, config->d_model, "", -1, "lm_head", ".weight");
    m->data = map_floats(m->n_floats);
    if (!m->data) {
        sl_model_free(m);
        return -ENOMEM;
    }
    size_t at = 0;
    for (uint32_t i = 0; i < m->n_params; i++) {
        m->params[i].data = m->data + at;
        at += m->params[i].n;
    }
    *out = m;
    return 0;
}

/* A residual projection adds to the residual stream; there are two in each block. */
static bool is_residual(const struct sl_model *m, const struct sl_param *p)
{
    for (uint32_t l = 0; l < m->config.n_layers; l++) {
        struct sl_param *const *w = m->blocks[l].w;
        if (p == w[SL_O_PROJ] || p == w[SL_DOWN_PROJ] || p == w[SL_ATTN_C_PROJ] || p == w[SL_MLP_C_PROJ])
            return true;
    }
    return false;
}

int sl_model_create(const struct sl_model_config *config, uint64_t seed, struct sl_model **out)
{
    return sl_model_create_blocks(config, seed, 0, UINT32_MAX, out);
}

int sl_model_create_blocks(
    const struct sl_model_config *config, uint64_t seed, uint32_t first, uint32_t last, struct sl_model **out)
{
    int err = sl_model_alloc(config, out);
    if (err)
        return err;
    struct sl_model *m = *out;
    for (uint32_t i = 0; i < m->n_params; i++) {
        struct sl_param *p = &m->params[i];
        size_t len = strlen(p->name);
        if (!sl_model_needs(m, p, first, last)) {
            sl_model_release(m, p, 1);
            continue;
        }
        if (p->n_dims == 1) { /* norms are 1, biases 0 */
            if (len > 7 && strcmp(p->name + len - 7, ".weight") == 0)
                for (size_t j = 0; j < p->n; j++)
                    p->data[j] = 1.0f;
            continue;
        }
        float std = is_residual(m, p) ? 0.02f / sqrtf(2.0f * (float)config->n_layers) : 0.02f;
        uint64_t key = sl_rng_key(seed, p->name);
        for (size_t j = 0; j < p->n; j++)
            p->data[j] = std * sl_rng_normal(key, j);
    }
    return 0;
}

void sl_model_free(struct sl_model *m)
{
    if (!m)
        return;
    sl_model_unpack(m);
    if (m->data)
        munmap(m->data, m->n_floats * sizeof(float));
    free(m->params);
    free(m->blocks);
    free(m->names);
    free(m->grads);
    free(m);
}

const struct sl_model_config *sl_model_config(const struct sl_model *m)
{
    return &m->config;
}

uint32_t sl_model_param_count(const struct sl_model *m)
{
    return m->n_params;
}

struct sl_param *sl_model_param(struct sl_model *m, uint32_t i)
{
    return i < m->n_params ? &m->params[i] : NULL;
}

struct sl_param *sl_model_find(struct sl_model *m, const char *name)
{
    for (uint32_t i = 0; i < m->n_params; i++)
        if (strcmp(m->params[i].name, name) == 0)
            return &m->params[i];
    return NULL;
}

int sl_model_enable_grads(struct sl_model *m)
{
    if (m->grads)
        return 0;
    if (m->packed)
        return -EINVAL;
    m->grads = alloc_floats(m->n_floats);
    if (!m->grads)
        return -ENOMEM;
    size_t at = 0;
    for (uint32_t i = 0; i < m->n_params; at += m->params[i++].n)
        m->params[i].grad = m->grads + at;
    return 0;
}

void sl_model_zero_grads(struct sl_model *m)
{
    if (m->grads)
        memset(m->grads, 0, m->n_floats * sizeof(float));
}
