/* Creation of a half: shapes of its slots and one arena for everything that forward and backward write. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/rope.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

/* Cuts an arena into pieces; with base NULL it only adds up the size. */
struct carve {
    char *base;
    size_t used;
};

static void *take(struct carve *c, size_t n, size_t size)
{
    size_t bytes = (n * size + ALIGN - 1) / ALIGN * ALIGN;
    void *p = c->base ? c->base + c->used : NULL;
    c->used += bytes;
    return p;
}

static float *floats(struct carve *c, size_t rows, size_t width)
{
    return take(c, rows * width, sizeof(float));
}

static void shape_slot(struct sl_half *h, enum slot slot, enum sl_target first, enum sl_target last)
{
    struct slot_shape *s = &h->slots[slot];
    s->target0 = first;
    uint32_t bits = h->lora_targets;
    for (unsigned t = first; t <= last; t++) {
        uint32_t out;
        sl_target_dims(h->shape, t, &s->in, &out);
        if (bits >> t & 1) {
            s->lora[s->n_lora] = t;
            s->col[s->n_lora] = s->out;
            s->width[s->n_lora++] = out;
        }
        s->out += out;
    }
}

static void shape_slots(struct sl_half *h)
{
    if (h->llama) {
        shape_slot(h, SLOT_QKV, SL_Q_PROJ, SL_V_PROJ);
        shape_slot(h, SLOT_O, SL_O_PROJ, SL_O_PROJ);
        shape_slot(h, SLOT_UP, SL_GATE_PROJ, SL_UP_PROJ);
        shape_slot(h, SLOT_DOWN, SL_DOWN_PROJ, SL_DOWN_PROJ);
    } else {
        shape_slot(h, SLOT_QKV, SL_C_ATTN, SL_C_ATTN);
        shape_slot(h, SLOT_O, SL_ATTN_C_PROJ, SL_ATTN_C_PROJ);
        shape_slot(h, SLOT_UP, SL_C_FC, SL_C_FC);
        shape_slot(h, SLOT_DOWN, SL_MLP_C_PROJ, SL_MLP_C_PROJ);
    }
}

/* All of a block's activations but for its input. */
static void carve_layer(struct sl_half *h, struct carve *c, struct layer_acts *a)
{
    const struct sl_model_config *m = h->shape;
    size_t rows = h->config.max_rows;
    a->norm1 = floats(c, rows, m->d_model);
    a->qkv = floats(c, rows, h->slots[SLOT_QKV].out);
    a->lse = floats(c, rows, m->n_heads);
    a->att = floats(c, rows, h->slots[SLOT_O].in);
    a->x2 = floats(c, rows, m->d_model);
    a->norm2 = floats(c, rows, m->d_model);
    a->up = floats(c, rows, h->slots[SLOT_UP].out);
    a->act = floats(c, rows, m->d_ff);
    a->mean1 = floats(c, rows, 1);
    a->rstd1 = floats(c, rows, 1);
    a->mean2 = floats(c, rows, 1);
    a->rstd2 = floats(c, rows, 1);
    for (unsigned s = 0; s < SLOT_COUNT; s++)
        a->u[s] = floats(c, rows, (size_t)h->slots[s].n_lora * h->rank);
}

static void carve_layers(struct sl_half *h, struct carve *c, uint32_t n_layers)
{
    bool share_all = h->config.inference, share = share_all || h->config.recompute;
    struct layer_acts a = {0};
    for (uint32_t l = 0; l < n_layers; l++) {
        if (!l || !share_all)
            a.x = floats(c, h->config.max_rows, h->shape->d_model);
        if (!l || !share)
            carve_layer(h, c, &a);
        if (c->base)
            h->layers[l] = a;
    }
}

static void carve_head(struct sl_half *h, struct carve *c)
{
    const struct sl_model_config *m = h->shape;
    size_t rows = h->config.max_rows;
    h->norm_f = floats(c, rows, m->d_model);
    h->mean_f = floats(c, rows, 1);
    h->rstd_f = floats(c, rows, 1);
    h->logits = floats(c, h->head_rows, m->vocab);
    h->nll = take(c, h->head_rows, sizeof *h->nll);
    h->targets = take(c, rows, sizeof *h->targets);
    if (!h->config.inference)
        h->dnorm_f = floats(c, rows, m->d_model);
    if (h->config.full)
        h->dhead = floats(c, m->vocab, m->d_model);
}

static void carve_backward(struct sl_half *h, struct carve *c)
{
    const struct sl_model_config *m = h->shape;
    size_t rows = h->config.max_rows, widest = 0;
    for (unsigned s = 0; s < SLOT_COUNT; s++)
        if (h->slots[s].n_lora > widest)
            widest = h->slots[s].n_lora;
    h->dx = floats(c, rows, m->d_model);
    h->dnorm = floats(c, rows, m->d_model);
    h->dqkv = floats(c, rows, h->slots[SLOT_QKV].out);
    h->datt = floats(c, rows, h->slots[SLOT_O].in);
    h->dup = floats(c, rows, h->slots[SLOT_UP].out);
    h->dact = floats(c, rows, m->d_ff);
    h->du = floats(c, rows, widest * h->rank);
}

static void carve_all(struct sl_half *h, struct carve *c)
{
    const struct sl_model_config *m = h->shape;
    uint32_t n_layers = h->config.last - h->config.first;
    uint32_t positions = h->config.max_rows < m->max_positions ? h->config.max_rows : m->max_positions;
    h->layers = take(c, n_layers, sizeof *h->layers);
    h->rows_at = take(c, n_layers, sizeof *h->rows_at);
    h->row0 = take(c, h->config.max_seqs, sizeof *h->row0);
    h->segments = take(c, h->config.max_adapters, sizeof *h->segments);
    carve_layers(h, c, n_layers);
    h->x_end = floats(c, h->config.max_rows, m->d_model);
    h->meansq = floats(c, h->config.max_rows, 1);
    h->entry_meansq = floats(c, h->config.max_rows, 1);
    h->attention_scratch = floats(c, sl_attention_scratch(positions), 1);
    if (h->llama)
        h->rope = floats(c, positions, m->head_dim);
    if (h->has_head)
        carve_head(h, c);
    if (!h->config.inference)
        carve_backward(h, c);
    if (c->base && h->llama)
        sl_rope_table(m->rope_theta, positions, m->head_dim, h->rope);
}

/* Everything of a half that follows from shapes alone. */
static void shape_half(struct sl_half *h, const struct sl_model_config *m, const struct sl_lora_config *lora,
    const struct sl_half_config *config)
{
    h->shape = m;
    h->config = *config;
    if (!h->config.max_adapters)
        h->config.max_adapters = 1;
    h->llama = m->family == SL_FAMILY_LLAMA;
    h->has_head = config->last == m->n_layers;
    h->attention = (struct sl_attention_dims){m->n_heads, m->n_kv_heads, m->head_dim};
    h->rank = lora ? lora->rank : 0;
    h->lora_targets = lora ? lora->targets : 0;
    shape_slots(h);
    h->head_rows = HEAD_FLOATS / m->vocab;
    if (h->head_rows < HEAD_ROWS_MIN)
        h->head_rows = HEAD_ROWS_MIN;
    if (h->head_rows > HEAD_ROWS_MAX)
        h->head_rows = HEAD_ROWS_MAX;
    if (h->head_rows > config->max_rows)
        h->head_rows = config->max_rows;
}

size_t sl_half_arena_bytes(
    const struct sl_model_config *m, const struct sl_lora_config *lora, const struct sl_half_config *config)
{
    struct sl_half h = {0};
    struct carve measure = {0};
    shape_half(&h, m, lora, config);
    carve_all(&h, &measure);
    return measure.used;
}

static bool config_fits(const struct sl_model *m, const struct sl_half_config *c)
{
    if (c->first >= c->last || c->last > m->config.n_layers || !c->max_rows || !c->max_seqs)
        return false;
    return !c->full || (m->grads && !c->inference);
}

int sl_half_create(struct sl_model *model, struct sl_adapter *adapter, const struct sl_half_config *config,
    struct sl_half **out)
{
    *out = NULL;
    if (!config_fits(model, config))
        return -EINVAL;
    struct sl_half *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    const struct sl_lora_config *lora = adapter ? sl_adapter_lora(adapter) : config->lora;
    h->model = model;
    h->adapter = adapter;
    shape_half(h, &model->config, lora, config);
    h->arena = aligned_alloc(ALIGN, sl_half_arena_bytes(&model->config, lora, config));
    if (!h->arena) {
        free(h);
        return -ENOMEM;
    }
    struct carve cut = {.base = h->arena};
    carve_all(h, &cut);
    *out = h;
    return 0;
}

void sl_half_free(struct sl_half *h)
{
    if (!h)
        return;
    free(h->arena);
    free(h);
}

uint64_t sl_half_gemm_count(const struct sl_half *h)
{
    return h->gemms;
}

const float *sl_half_entry_meansq(const struct sl_half *h, uint32_t seq)
{
    return seq < h->n_seqs ? h->entry_meansq + h->row0[seq] : NULL;
}
