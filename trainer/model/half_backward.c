/* Backward pass of a half: from the top block down to the lowest that something needs. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/act.h"
#include "trainer/tensor/parallel.h"
#include "trainer/tensor/rows.h"

#include <errno.h>
#include <string.h>

/* Does anything below block `layer`, or at its entry, need the gradient of its input? */
static bool input_wanted(const struct sl_half *h, const struct sl_seq *seqs, uint32_t layer)
{
    if (h->config.full)
        return true;
    for (uint32_t i = 0; i < h->n_seqs && seqs[i].enter <= layer; i++) {
        if (seqs[i].dx || seqs[i].dx_bf16)
            return true;
        for (uint32_t l = seqs[i].enter; l < layer; l++)
            if (sl_adapter_covers(sl_seq_adapter(h, &seqs[i]), l))
                return true;
    }
    return false;
}

static void attend_backward(struct sl_half *h, uint32_t layer)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    sl_attend_backward(&h->attention, h->lens, sl_half_seqs_at(h, layer), sl_src_of(a->qkv),
        sl_src_of(a->att), a->lse, sl_src_of(h->datt), h->dqkv, h->scratch);
}

/* Gradient of the stream through a norm: dx += . x: what the norm read. */
static void norm_backward(struct sl_half *h, const struct sl_param *w, const struct sl_param *b, uint32_t row,
    uint32_t n, struct sl_src x, struct sl_norm_stats stats)
{
    struct sl_norm norm = sl_half_norm(h, w, b);
    size_t at = (size_t)row * h->shape->d_model;
    struct sl_dst dx = sl_dst_at(h->dx, at);
    sl_norm_backward(&norm, sl_src_at(sl_src_of(h->dnorm), at), x, sl_stats_at(stats, row), sl_src_of(dx), n,
        dx, h->dx_bf16 ? h->dx_bf16 + at : NULL, h->config.full ? w->grad : NULL,
        h->config.full && b ? b->grad : NULL);
}

static void norm1_backward(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows)
{
    const struct sl_block_params *p = &h->model->blocks[layer];
    for (uint32_t row = 0; row < rows;) {
        struct piece piece = sl_half_piece(h, seqs, layer, row);
        norm_backward(h, p->norm1_w, p->norm1_b, row, piece.n, piece.x, sl_half_layer(h, layer)->stats1);
        row += piece.n;
    }
}

/* The gradient after (within) the block as products read it. */
static struct sl_src dx_operand(const struct sl_half *h)
{
    return h->dx_bf16 ? sl_src_bf16(h->dx_bf16) : sl_src_of(h->dx);
}

/* h->dx holds the gradient after the block on entry and, where `want_dx`, before it on return. */
static int block_backward(
    struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows, bool want_dx)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    const struct sl_block_params *p = &h->model->blocks[layer];
    bool adapted = sl_half_adapted(h, layer, rows);
    bool qkv_lora = adapted && h->slots[SLOT_QKV].n_lora, o_lora = adapted && h->slots[SLOT_O].n_lora;
    bool want_att = want_dx || qkv_lora, want_x2 = want_att || o_lora;
    bool want_up = want_x2 || (adapted && h->slots[SLOT_UP].n_lora);
    struct sl_dst none = {NULL, h->config.precision};

    int err = sl_slot_backward(
        h, layer, SLOT_DOWN, rows, sl_src_of(a->act), dx_operand(h), want_up ? h->dact : none);
    if (err || !want_up)
        return err;
    sl_act_backward(h->llama ? SL_ACT_SWIGLU : SL_ACT_GELU, sl_src_of(a->up), sl_src_of(h->dact), rows,
        h->shape->d_ff, h->dup);
    sl_profile_mark(h->config.profile, SL_KERNEL_ACTIVATION);
    err = sl_slot_backward(
        h, layer, SLOT_UP, rows, sl_src_of(a->norm2), sl_src_of(h->dup), want_x2 ? h->dnorm : none);
    if (err || !want_x2)
        return err;
    norm_backward(h, p->norm2_w, p->norm2_b, 0, rows, sl_src_of(a->x2), a->stats2);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    err =
        sl_slot_backward(h, layer, SLOT_O, rows, sl_src_of(a->att), dx_operand(h), want_att ? h->datt : none);
    if (err || !want_att)
        return err;
    attend_backward(h, layer);
    sl_profile_mark(h->config.profile, SL_KERNEL_ATTENTION);
    err = sl_slot_backward(
        h, layer, SLOT_QKV, rows, sl_src_of(a->norm1), sl_src_of(h->dqkv), want_dx ? h->dnorm : none);
    if (err || !want_dx)
        return err;
    norm1_backward(h, seqs, layer, rows);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    return 0;
}

static void embed_backward(struct sl_half *h, const struct sl_seq *s, const float *dx)
{
    struct sl_model *m = h->model;
    uint32_t d = m->config.d_model;
    for (uint32_t i = 0; i < s->len; i++)
        sl_add(dx + (size_t)i * d, d, m->embed->grad + (size_t)s->ids[i] * d);
    if (m->positions)
        sl_add(dx, (size_t)s->len * d, m->positions->grad);
}

/* Rows of the stream's gradient as f32, or as bf16. */
static void hand_out(struct sl_src dx, size_t n, const struct sl_seq *s)
{
    bool wide = dx.precision == SL_PRECISION_F32;
    if (s->dx && wide)
        memcpy(s->dx, dx.p, n * sizeof *s->dx);
    else if (s->dx)
        sl_bf16_to_f32(dx.p, n, s->dx);
    else if (wide)
        sl_bf16_from_f32(dx.p, n, s->dx_bf16);
    else
        memcpy(s->dx_bf16, dx.p, n * sizeof *s->dx_bf16);
}

/* Hands out the gradient of the rows that entered at this block. */
static void leave_rows(struct sl_half *h, struct sl_seq *seqs, uint32_t layer)
{
    uint32_t d = h->shape->d_model, first = 0, n = 0;
    bool wanted = false;
    for (uint32_t i = 0; i < h->n_seqs; i++) {
        struct sl_src dx = sl_src_at(sl_src_of(h->dx), (size_t)h->row0[i] * d);
        if (seqs[i].enter != layer)
            continue;
        if (!n++)
            first = i;
        if (layer == 0 && h->config.full)
            embed_backward(h, &seqs[i], dx.p);
        if (!seqs[i].dx && !seqs[i].dx_bf16)
            continue;
        hand_out(dx, (size_t)seqs[i].len * d, &seqs[i]);
        wanted = true;
    }
    if (wanted && h->config.leave)
        h->config.leave(h->config.app, seqs + first, n);
}

/* The gradient after the last block, for a half without the head. */
static void take_dx(struct sl_half *h, const float *dx_out)
{
    size_t n = (size_t)h->rows * h->shape->d_model;
    if (h->stream == SL_PRECISION_F32)
        memcpy(h->dx.p, dx_out, n * sizeof *dx_out);
    else
        sl_bf16_from_f32(dx_out, n, h->dx.p);
    if (h->dx_bf16)
        sl_bf16_from_f32(dx_out, n, h->dx_bf16);
}

int sl_half_backward(struct sl_half *h, struct sl_seq *seqs, uint32_t n_seqs, const float *dx_out)
{
    int err = 0;
    if (h->config.inference || !h->rows || n_seqs != h->n_seqs || (!h->has_head && !dx_out) ||
        sl_parallel_threads() > h->threads)
        return -EINVAL;
    sl_profile_start(h->config.profile);
    if (h->has_head)
        sl_head_backward(h);
    else
        take_dx(h, dx_out);
    for (uint32_t l = h->config.last; l-- > h->config.first && !err;) {
        uint32_t rows = h->rows_at[l - h->config.first];
        bool want_dx = input_wanted(h, seqs, l);
        if (!rows || (!want_dx && !sl_half_adapted(h, l, rows)))
            break;
        if (h->config.recompute && l + 1 < h->config.last) /* the top block's are still there */
            err = sl_half_recompute_block(h, seqs, l, rows);
        if (!err)
            err = block_backward(h, seqs, l, rows, want_dx);
        if (!err && want_dx)
            leave_rows(h, seqs, l);
        sl_profile_mark(h->config.profile, SL_KERNEL_ROWS);
    }
    return err;
}
