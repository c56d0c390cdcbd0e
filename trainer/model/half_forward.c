/* Forward pass of a half. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/act.h"
#include "trainer/tensor/norm.h"
#include "trainer/tensor/parallel.h"
#include "trainer/tensor/rows.h"

#include <errno.h>
#include <string.h>

static bool all_below(const uint32_t *ids, uint32_t n, uint32_t vocab)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] >= vocab)
            return false;
    return true;
}

static bool seq_is_valid(const struct sl_half *h, const struct sl_seq *s)
{
    const struct sl_model_config *m = &h->model->config;
    if (!s->len || s->len > m->max_positions || s->enter < h->config.first || s->enter >= h->config.last)
        return false;
    if (s->enter == 0 ? !s->ids || !all_below(s->ids, s->len, m->vocab) : !s->x == !s->x_bf16)
        return false;
    if (s->dx && s->dx_bf16)
        return false;
    return !h->has_head || (s->targets && all_below(s->targets, s->len, m->vocab));
}

/* Puts a sequence's rows into the last segment, or begins the next one. */
static int plan_segment(struct sl_half *h, struct sl_adapter *adapter, uint32_t row0, uint32_t row1)
{
    struct segment *last = h->n_segments ? &h->segments[h->n_segments - 1] : NULL;
    if (last && last->adapter == adapter) {
        last->row1 = row1;
        return 0;
    }
    if (adapter) {
        const struct sl_lora_config *lora = sl_adapter_lora(adapter);
        if (lora->rank != h->lora.rank || lora->targets != h->lora.targets || lora->alpha != h->lora.alpha)
            return -EINVAL;
    }
    if (h->n_segments == h->config.max_adapters)
        return -EINVAL;
    h->segments[h->n_segments++] = (struct segment){adapter, row0, row1};
    return 0;
}

/* Checks the batch and lays out its rows. */
static int plan_batch(struct sl_half *h, const struct sl_seq *seqs, uint32_t n_seqs)
{
    uint64_t rows = 0;
    h->rows = h->n_seqs = h->n_segments = 0;
    if (!n_seqs || n_seqs > h->config.max_seqs || sl_parallel_threads() > h->threads)
        return -EINVAL;
    memset(h->rows_at, 0, (h->config.last - h->config.first) * sizeof *h->rows_at);
    memset(h->seqs_at, 0, (h->config.last - h->config.first) * sizeof *h->seqs_at);
    for (uint32_t i = 0; i < n_seqs; i++) {
        if (!seq_is_valid(h, &seqs[i]) || (i && seqs[i].enter < seqs[i - 1].enter))
            return -EINVAL;
        h->row0[i] = (uint32_t)rows;
        rows += seqs[i].len;
        if (rows > h->config.max_rows ||
            plan_segment(h, sl_seq_adapter(h, &seqs[i]), h->row0[i], (uint32_t)rows))
            return -EINVAL;
        h->lens[i] = seqs[i].len;
        for (uint32_t l = seqs[i].enter; l < h->config.last; l++) {
            h->rows_at[l - h->config.first] = (uint32_t)rows;
            h->seqs_at[l - h->config.first] = i + 1;
        }
    }
    h->rows = (uint32_t)rows;
    h->n_seqs = n_seqs;
    return 0;
}

/* f32 rows into the residual stream. */
static void to_stream(const float *x, size_t n, struct sl_dst y)
{
    if (y.precision == SL_PRECISION_BF16)
        sl_bf16_from_f32(x, n, y.p);
    else
        memcpy(y.p, x, n * sizeof *x);
}

static void embed(struct sl_half *h, const struct sl_seq *s, struct sl_dst x)
{
    uint32_t d = h->shape->d_model;
    const float *table = h->model->embed->data,
                *positions = h->model->positions ? h->model->positions->data : NULL;
    for (uint32_t i = 0; i < s->len; i++) {
        memcpy(h->row, table + (size_t)s->ids[i] * d, d * sizeof *h->row);
        if (positions)
            sl_add(positions + (size_t)i * d, d, h->row);
        to_stream(h->row, d, sl_dst_at(x, (size_t)i * d));
    }
}

/* Puts the rows that enter at this block behind those already there, but for those that are read where they
 * are. */
static void enter_rows(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer)
{
    uint32_t d = h->shape->d_model;
    for (uint32_t i = 0; i < h->n_seqs; i++) {
        struct sl_dst x = sl_dst_at(sl_half_layer(h, layer)->x, (size_t)h->row0[i] * d);
        if (seqs[i].enter != layer || seqs[i].x_bf16)
            continue;
        if (layer == 0)
            embed(h, &seqs[i], x);
        else
            to_stream(seqs[i].x, (size_t)seqs[i].len * d, x);
    }
}

static void keep_entry_meansq(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer)
{
    for (uint32_t i = 0; i < h->n_seqs; i++)
        if (seqs[i].enter == layer)
            memcpy(h->entry_meansq + h->row0[i], h->meansq + h->row0[i], seqs[i].len * sizeof(float));
}

/* The block's first norm. Rows that come from the block below are that block's x2 and branch, whose sum is
 * this block's input; `sum` says whether it has yet to be made. */
static void norm1(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows, bool sum)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    const struct sl_block_params *p = &h->model->blocks[layer];
    struct sl_norm norm = sl_half_norm(h, p->norm1_w, p->norm1_b);
    struct sl_src none = {NULL, h->stream};
    uint32_t row = 0, d = h->shape->d_model,
             below = layer > h->config.first ? h->rows_at[layer - h->config.first - 1] : 0;
    if (sum && below) {
        sl_norm_forward(&norm, sl_src_of(sl_half_layer(h, layer - 1)->x2), sl_src_of(h->branch), below, a->x,
            a->norm1, a->stats1, h->meansq);
        row = below;
    }
    while (row < rows) {
        struct piece piece = sl_half_piece(h, seqs, layer, row);
        size_t at = (size_t)row * d;
        sl_norm_forward(&norm, piece.x, none, piece.n, (struct sl_dst){NULL, h->stream},
            sl_dst_at(a->norm1, at), sl_stats_at(a->stats1, row), h->meansq + row);
        row += piece.n;
    }
}

/* Second norm: x2 = x + what attention adds. */
static void norm2(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    const struct sl_block_params *p = &h->model->blocks[layer];
    struct sl_norm norm = sl_half_norm(h, p->norm2_w, p->norm2_b);
    for (uint32_t row = 0; row < rows;) {
        struct piece piece = sl_half_piece(h, seqs, layer, row);
        size_t at = (size_t)row * h->shape->d_model;
        sl_norm_forward(&norm, piece.x, sl_src_at(sl_src_of(h->branch), at), piece.n, sl_dst_at(a->x2, at),
            sl_dst_at(a->norm2, at), sl_stats_at(a->stats2, row), NULL);
        row += piece.n;
    }
}

static void attend(struct sl_half *h, uint32_t layer)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    sl_attend_forward(
        &h->attention, h->lens, sl_half_seqs_at(h, layer), sl_src_of(a->qkv), a->att, a->lse, h->scratch);
}

/* The block up to the input of its last product: all that backward needs. */
static int block_inside(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    int err = sl_slot_forward(h, layer, SLOT_QKV, rows, sl_src_of(a->norm1), a->qkv);
    if (err)
        return err;
    attend(h, layer);
    sl_profile_mark(h->config.profile, SL_KERNEL_ATTENTION);
    err = sl_slot_forward(h, layer, SLOT_O, rows, sl_src_of(a->att), h->branch);
    if (err)
        return err;
    norm2(h, seqs, layer, rows);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    err = sl_slot_forward(h, layer, SLOT_UP, rows, sl_src_of(a->norm2), a->up);
    if (err)
        return err;
    sl_act_forward(h->llama ? SL_ACT_SWIGLU : SL_ACT_GELU, sl_src_of(a->up), rows, h->shape->d_ff, a->act);
    sl_profile_mark(h->config.profile, SL_KERNEL_ACTIVATION);
    return 0;
}

int sl_half_recompute_block(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows)
{
    norm1(h, seqs, layer, rows, false);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    int err = block_inside(h, seqs, layer, rows);
    if (!err)
        sl_slot_recompute(h, layer, SLOT_DOWN, rows, sl_src_of(sl_half_layer(h, layer)->act), h->branch);
    return err;
}

static int block_forward(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    norm1(h, seqs, layer, rows, true);
    keep_entry_meansq(h, seqs, layer);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    int err = block_inside(h, seqs, layer, rows);
    return err ? err : sl_slot_forward(h, layer, SLOT_DOWN, rows, sl_src_of(a->act), h->branch);
}

static float value(struct sl_src x, size_t i)
{
    return x.precision == SL_PRECISION_BF16 ? sl_bf16_widen(((const sl_bf16 *)x.p)[i])
                                            : ((const float *)x.p)[i];
}

/* The residual stream after the last block, for whoever goes on from there. */
static void add_rows(struct sl_src x, struct sl_src branch, size_t n, float *y)
{
    bool f32 = x.precision == SL_PRECISION_F32;
    for (size_t i = 0; i < n; i++) {
        float sum = value(x, i) + value(branch, i);
        y[i] = f32 ? sum : sl_bf16_widen(sl_bf16_round(sum));
    }
}

int sl_half_forward(struct sl_half *h, struct sl_seq *seqs, uint32_t n_seqs, float *x_out)
{
    int err = plan_batch(h, seqs, n_seqs);
    if (!err && !h->has_head && !x_out)
        err = -EINVAL;
    h->gemms = 0;
    sl_profile_start(h->config.profile);
    for (uint32_t l = h->config.first; l < h->config.last && !err; l++) {
        uint32_t rows = h->rows_at[l - h->config.first];
        enter_rows(h, seqs, l);
        sl_profile_mark(h->config.profile, SL_KERNEL_ROWS);
        if (rows)
            err = block_forward(h, seqs, l, rows);
    }
    if (!err && x_out)
        add_rows(sl_src_of(sl_half_layer(h, h->config.last - 1)->x2), sl_src_of(h->branch),
            (size_t)h->rows * h->shape->d_model, x_out);
    if (!err && h->has_head)
        err = sl_head_forward(h, seqs);
    if (err)
        h->rows = 0; /* no backward pass follows */
    return err;
}
