/* Creation of a half: shapes of its slots and one arena for everything that forward and backward write. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/loss.h"
#include "trainer/tensor/parallel.h"
#include "trainer/tensor/rope.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

/* The residual stream of bf16 arithmetic (docs/decisions.md). */
#define STREAM_PRECISION(precision) SL_PRECISION_F32

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

static void shape_slot(struct sl_half *h, enum slot slot)
{
    struct slot_shape *s = &h->slots[slot];
    enum sl_target first, last;
    sl_slot_targets(h->shape->family, slot, &first, &last);
    s->target0 = first;
    for (unsigned t = first; t <= last; t++) {
        uint32_t out;
        sl_target_dims(h->shape, t, &s->in, &out);
        if (h->lora.targets >> t & 1) {
            s->lora[s->n_lora] = t;
            s->shape.col[s->n_lora] = s->out;
            s->shape.width[s->n_lora++] = out;
        }
        s->out += out;
    }
    s->shape.precision = h->config.precision;
    s->shape.in = s->in;
    s->shape.n = s->n_lora;
    s->shape.rank = h->lora.rank;
    s->shape.scale = s->n_lora ? h->lora.alpha / (float)h->lora.rank : 0;
}

/* [rows, width], with room for what products write beyond the rows. */
static struct sl_dst tensor(const struct sl_half *h, struct carve *c, enum sl_precision t, size_t width)
{
    return (struct sl_dst){take(c, h->room * width, sl_precision_size(t)), t};
}

static struct sl_norm_stats stats(const struct sl_half *h, struct carve *c)
{
    struct sl_norm_stats s = {0};
    if (!h->llama)
        s.mean = floats(c, h->config.max_rows, 1);
    s.rstd = floats(c, h->config.max_rows, 1);
    return s;
}

/* Are the inputs of a slot needed in the backward pass? */
static bool keeps_input(const struct sl_half *h, enum slot slot)
{
    return h->config.full || h->slots[slot].n_lora;
}

/* Inputs of products that only their own gradients need: a block's own, or all blocks'. */
static void carve_inputs(struct sl_half *h, struct carve *c, struct layer_acts *a, bool kept)
{
    enum sl_precision t = h->config.precision;
    if (keeps_input(h, SLOT_QKV) == kept)
        a->norm1 = tensor(h, c, t, h->shape->d_model);
    if (keeps_input(h, SLOT_UP) == kept)
        a->norm2 = tensor(h, c, t, h->shape->d_model);
    if (keeps_input(h, SLOT_DOWN) == kept)
        a->act = tensor(h, c, t, h->shape->d_ff);
}

/* All of a block's own activations but for its input. */
static void carve_layer(struct sl_half *h, struct carve *c, struct layer_acts *a)
{
    const struct sl_model_config *m = h->shape;
    enum sl_precision t = h->config.precision;
    carve_inputs(h, c, a, true);
    a->qkv = tensor(h, c, t, h->slots[SLOT_QKV].out);
    a->att = tensor(h, c, t, h->slots[SLOT_O].in);
    a->x2 = tensor(h, c, h->stream, m->d_model);
    a->up = tensor(h, c, t, h->slots[SLOT_UP].out);
    a->lse = floats(c, h->config.max_rows, m->n_heads);
    a->stats1 = stats(h, c);
    a->stats2 = stats(h, c);
    for (unsigned s = 0; s < SLOT_COUNT; s++) {
        const struct slot_shape *slot = &h->slots[s];
        if (!slot->n_lora)
            continue;
        a->u[s] = tensor(h, c, SL_PRECISION_F32, (size_t)slot->n_lora * h->lora.rank);
        a->lora[s] = take(c, h->config.max_adapters, sl_lora_packed_size(&slot->shape));
    }
}

static void carve_layers(struct sl_half *h, struct carve *c, uint32_t n_layers)
{
    bool share_all = h->config.inference, share = share_all || h->config.recompute;
    struct layer_acts a = {0};
    carve_inputs(h, c, &a, false);
    for (uint32_t l = 0; l < n_layers; l++) {
        if (!l || !share_all)
            a.x = tensor(h, c, h->stream, h->shape->d_model);
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
    h->norm_f = tensor(h, c, h->config.precision, m->d_model);
    h->stats_f = stats(h, c);
    h->nll = take(c, rows, sizeof *h->nll);
    h->targets = take(c, rows, sizeof *h->targets);
    if (!h->config.inference)
        h->dnorm_f = floats(c, h->room, m->d_model);
    if (h->config.full)
        h->dhead = floats(c, m->vocab, m->d_model);
}

/* The gradients within the MLP are gone before those within attention begin: both have the same memory. */
static void carve_backward(struct sl_half *h, struct carve *c)
{
    const struct sl_model_config *m = h->shape;
    enum sl_precision t = h->config.precision;
    size_t widest = 0;
    for (unsigned s = 0; s < SLOT_COUNT; s++)
        if (h->slots[s].n_lora > widest)
            widest = h->slots[s].n_lora;
    h->dx = tensor(h, c, h->stream, m->d_model);
    if (h->stream != t)
        h->dx_bf16 = tensor(h, c, SL_PRECISION_BF16, m->d_model).p;
    h->du = tensor(h, c, SL_PRECISION_F32, widest * h->lora.rank);
    h->dnorm = h->branch;
    struct carve attention = *c;
    h->dup = tensor(h, c, t, h->slots[SLOT_UP].out);
    h->dact = h->llama ? tensor(h, c, t, m->d_ff) : h->dup; /* GELU's gradient is made in place */
    h->dqkv = tensor(h, &attention, t, h->slots[SLOT_QKV].out);
    h->datt = tensor(h, &attention, t, h->slots[SLOT_O].in);
    if (attention.used > c->used)
        c->used = attention.used;
}

/* Rows of the longest sequence that there can be. */
static uint32_t longest(const struct sl_half *h)
{
    return h->config.max_rows < h->shape->max_positions ? h->config.max_rows : h->shape->max_positions;
}

static void carve_all(struct sl_half *h, struct carve *c)
{
    const struct sl_model_config *m = h->shape;
    uint32_t n_layers = h->config.last - h->config.first;
    uint32_t positions = longest(h);
    h->layers = take(c, n_layers, sizeof *h->layers);
    h->rows_at = take(c, n_layers, sizeof *h->rows_at);
    h->seqs_at = take(c, n_layers, sizeof *h->seqs_at);
    h->row0 = take(c, h->config.max_seqs, sizeof *h->row0);
    h->lens = take(c, h->config.max_seqs, sizeof *h->lens);
    h->lora_segments = take(c, h->config.max_adapters, sizeof *h->lora_segments);
    h->segments = take(c, h->config.max_adapters, sizeof *h->segments);
    carve_layers(h, c, n_layers);
    h->x_end = tensor(h, c, h->stream, m->d_model);
    h->branch = tensor(h, c, h->config.precision, m->d_model);
    h->row = floats(c, 1, m->d_model);
    h->meansq = floats(c, h->config.max_rows, 1);
    h->entry_meansq = floats(c, h->config.max_rows, 1);
    if (h->llama)
        h->rope = floats(c, positions, m->head_dim);
    if (h->has_head)
        carve_head(h, c);
    if (!h->config.inference)
        carve_backward(h, c);
    h->attention.rope = h->rope;
    if (c->base && h->llama)
        sl_rope_table(m->rope_theta, positions, m->head_dim, h->rope);
}

/* Everything of a half that follows from shapes alone. */
static void shape_half(struct sl_half *h, const struct sl_model_config *m, const struct sl_lora_config *lora)
{
    const struct sl_half_config *config = &h->config;
    h->shape = m;
    if (!h->config.max_adapters)
        h->config.max_adapters = 1;
    h->llama = m->family == SL_FAMILY_LLAMA;
    h->has_head = config->last == m->n_layers;
    h->attention =
        (struct sl_attention){.n_heads = m->n_heads, .n_kv_heads = m->n_kv_heads, .head_dim = m->head_dim};
    h->stream = STREAM_PRECISION(config->precision);
    h->room = (config->max_rows + SL_PACKED_ROWS - 1) / SL_PACKED_ROWS * SL_PACKED_ROWS;
    if (lora)
        h->lora = *lora;
    for (unsigned slot = 0; slot < SLOT_COUNT; slot++)
        shape_slot(h, slot);
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
    h.config = *config;
    shape_half(&h, m, lora);
    carve_all(&h, &measure);
    return measure.used;
}

/* Are the weights of these blocks there, in f32 or packed? */
static bool is_loaded(const struct sl_model *m, const struct sl_half_config *c)
{
    bool top = c->last == m->config.n_layers;
    for (uint32_t l = c->first; l < c->last; l++)
        if (!m->blocks[l].norm1_w->data)
            return false;
    return (c->first > 0 || m->embed->data) && (!top || m->norm_w->data);
}

static bool config_fits(const struct sl_model *m, const struct sl_half_config *c)
{
    if (c->first >= c->last || c->last > m->config.n_layers || !c->max_rows || !c->max_seqs)
        return false;
    return is_loaded(m, c) && (!c->full || (m->grads && !c->inference));
}

static size_t head_scratch(const struct sl_half *h)
{
    if (!h->has_head)
        return 0;
    if (!h->model->packed_head)
        return (size_t)h->head_rows * h->shape->vocab * sizeof(float);
    size_t loss = sl_head_loss_scratch(
        h->model->packed_head, h->shape->d_model, h->config.precision, h->config.max_rows);
    size_t logits = sl_packed_scratch(h->model->packed_head, h->config.max_rows);
    return loss > logits ? loss : logits;
}

/* What kernels want beside the arena, one at a time: products of a slot, attention, the head. */
static size_t kernel_scratch(const struct sl_half *h)
{
    size_t most = head_scratch(h), attention = sl_attend_scratch(&h->attention, longest(h));
    most = attention > most ? attention : most;
    for (uint32_t l = h->config.first; l < h->config.last; l++)
        for (unsigned s = 0; s < SLOT_COUNT; s++) {
            const struct sl_packed *w = h->model->blocks[l].packed[s];
            size_t n = w ? sl_packed_scratch(w, h->config.max_rows) : 0;
            most = n > most ? n : most;
        }
    return (most + ALIGN - 1) / ALIGN * ALIGN;
}

int sl_half_create(struct sl_model *model, struct sl_adapter *adapter, const struct sl_half_config *config,
    struct sl_half **out)
{
    *out = NULL;
    const struct sl_lora_config *lora = adapter ? sl_adapter_lora(adapter) : config->lora;
    if (!config_fits(model, config) || (lora && lora->rank > SL_LORA_MAX_RANK))
        return -EINVAL;
    struct sl_half *h = calloc(1, sizeof *h);
    if (!h)
        return -ENOMEM;
    h->model = model;
    h->adapter = adapter;
    h->config = *config;
    h->config.precision = model->precision;
    shape_half(h, &model->config, lora);
    h->threads = sl_parallel_threads();
    size_t bytes = sl_half_arena_bytes(&model->config, lora, &h->config);
    h->arena = aligned_alloc(ALIGN, bytes + kernel_scratch(h));
    if (!h->arena) {
        free(h);
        return -ENOMEM;
    }
    struct carve cut = {.base = h->arena};
    carve_all(h, &cut);
    h->scratch = (char *)h->arena + bytes;
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

struct sl_norm sl_half_norm(const struct sl_half *h, const struct sl_param *w, const struct sl_param *b)
{
    return (struct sl_norm){.centred = !h->llama,
        .d = h->shape->d_model,
        .eps = h->shape->norm_eps,
        .w = w->data,
        .b = b ? b->data : NULL};
}

struct piece sl_half_piece(const struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t row)
{
    const struct layer_acts *a = &h->layers[layer - h->config.first];
    uint32_t end = h->rows_at[layer - h->config.first];
    struct piece p = {
        .x = sl_src_at(sl_src_of(a->x), (size_t)row * h->shape->d_model), .row0 = row, .n = end - row};
    for (uint32_t i = 0; i < h->n_seqs && seqs[i].enter <= layer; i++) {
        if (seqs[i].enter < layer || !seqs[i].x_bf16 || h->row0[i] < row)
            continue;
        if (h->row0[i] > row)
            p.n = h->row0[i] - row;
        else
            p = (struct piece){sl_src_bf16(seqs[i].x_bf16), row, seqs[i].len, true};
        break;
    }
    return p;
}
