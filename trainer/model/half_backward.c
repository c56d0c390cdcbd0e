/* Backward pass of a half: from the top block down to the lowest that something needs. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/act.h"
#include "trainer/tensor/norm.h"
#include "trainer/tensor/rope.h"
#include "trainer/tensor/rows.h"

#include <errno.h>
#include <string.h>

/* Does anything below block `layer`, or at its entry, need the gradient of its input? */
static bool input_wanted(const struct sl_half *h, const struct sl_seq *seqs, uint32_t layer)
{
    if (h->config.full)
        return true;
    for (uint32_t i = 0; i < h->n_seqs && seqs[i].enter <= layer; i++) {
        if (seqs[i].dx)
            return true;
        for (uint32_t l = seqs[i].enter; l < layer; l++)
            if (sl_adapter_covers(sl_seq_adapter(h, &seqs[i]), l))
                return true;
    }
    return false;
}

static void norm_backward(struct sl_half *h, const struct sl_param *w, const struct sl_param *b,
    uint32_t rows, const float *dy, const float *x, const float *mean, const float *rstd, float *dx)
{
    uint32_t d = h->model->config.d_model;
    float *dw = h->config.full ? w->grad : NULL;
    if (h->llama)
        sl_rmsnorm_backward(dy, x, w->data, rstd, rows, d, dx, dw);
    else
        sl_layernorm_backward(dy, x, w->data, mean, rstd, rows, d, dx, dw, dw ? b->grad : NULL);
}

static void attend_backward(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    const struct sl_attention_dims *dims = &h->attention;
    uint32_t ld = h->slots[SLOT_QKV].out, ld_out = h->slots[SLOT_O].in;
    for (uint32_t i = 0; i < h->n_seqs && seqs[i].enter <= layer; i++) {
        size_t row = h->row0[i];
        float *dqkv = h->dqkv + row * ld;
        sl_attention_backward(dims, a->qkv + row * ld, a->att + row * ld_out, a->lse + row * dims->n_heads,
            h->datt + row * ld_out, seqs[i].len, dqkv, h->attention_scratch);
        for (uint32_t p = 0; h->llama && p < seqs[i].len; p++)
            sl_rope(dqkv + (size_t)p * ld, dims->n_heads + dims->n_kv_heads, dims->head_dim,
                h->rope + (size_t)p * dims->head_dim, 1);
    }
}

/* h->dx holds the gradient after the block on entry and, where `want_dx`, before it on return. */
static void block_backward(
    struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows, bool want_dx)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    const struct sl_block_params *p = &h->model->blocks[layer];
    uint32_t ff = h->model->config.d_ff;
    bool adapted = sl_half_adapted(h, layer, rows);
    bool qkv_lora = adapted && h->slots[SLOT_QKV].n_lora, o_lora = adapted && h->slots[SLOT_O].n_lora;
    bool want_att = want_dx || qkv_lora, want_x2 = want_att || o_lora;
    bool want_up = want_x2 || (adapted && h->slots[SLOT_UP].n_lora);

    sl_slot_backward(h, layer, SLOT_DOWN, rows, a->act, h->dx, want_up ? h->dact : NULL);
    if (!want_up)
        return;
    if (h->llama)
        sl_swiglu_backward(a->up, h->dact, rows, ff, h->dup);
    else
        sl_gelu_backward(a->up, h->dact, rows, ff, h->dup);
    sl_profile_mark(h->config.profile, SL_KERNEL_ACTIVATION);
    sl_slot_backward(h, layer, SLOT_UP, rows, a->norm2, h->dup, want_x2 ? h->dnorm : NULL);
    if (!want_x2)
        return;
    norm_backward(h, p->norm2_w, p->norm2_b, rows, h->dnorm, a->x2, a->mean2, a->rstd2, h->dx);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    sl_slot_backward(h, layer, SLOT_O, rows, a->att, h->dx, want_att ? h->datt : NULL);
    if (!want_att)
        return;
    attend_backward(h, seqs, layer);
    sl_profile_mark(h->config.profile, SL_KERNEL_ATTENTION);
    sl_slot_backward(h, layer, SLOT_QKV, rows, a->norm1, h->dqkv, want_dx ? h->dnorm : NULL);
    if (want_dx)
        norm_backward(h, p->norm1_w, p->norm1_b, rows, h->dnorm, a->x, a->mean1, a->rstd1, h->dx);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
}

static void head_backward(struct sl_half *h)
{
    struct sl_model *m = h->model;
    uint32_t d = m->config.d_model;
    memset(h->dx, 0, (size_t)h->rows * d * sizeof *h->dx);
    norm_backward(h, m->norm_w, m->norm_b, h->rows, h->dnorm_f, h->x_end, h->mean_f, h->rstd_f, h->dx);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    if (h->config.full)
        sl_add(h->dhead, m->head->n, m->head->grad);
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

/* Hands out the gradient of the rows that entered at this block. */
static void leave_rows(struct sl_half *h, struct sl_seq *seqs, uint32_t layer)
{
    uint32_t d = h->model->config.d_model, first = 0, n = 0;
    bool wanted = false;
    for (uint32_t i = 0; i < h->n_seqs; i++) {
        const float *dx = h->dx + (size_t)h->row0[i] * d;
        if (seqs[i].enter != layer)
            continue;
        if (!n++)
            first = i;
        if (layer == 0 && h->config.full)
            embed_backward(h, &seqs[i], dx);
        if (!seqs[i].dx)
            continue;
        memcpy(seqs[i].dx, dx, (size_t)seqs[i].len * d * sizeof *dx);
        wanted = true;
    }
    if (wanted && h->config.leave)
        h->config.leave(h->config.app, seqs + first, n);
}

int sl_half_backward(struct sl_half *h, struct sl_seq *seqs, uint32_t n_seqs, const float *dx_out)
{
    if (h->config.inference || !h->rows || n_seqs != h->n_seqs || (!h->has_head && !dx_out))
        return -EINVAL;
    sl_profile_start(h->config.profile);
    if (h->has_head)
        head_backward(h);
    else
        memcpy(h->dx, dx_out, (size_t)h->rows * h->model->config.d_model * sizeof *dx_out);
    for (uint32_t l = h->config.last; l-- > h->config.first;) {
        uint32_t rows = h->rows_at[l - h->config.first];
        bool want_dx = input_wanted(h, seqs, l);
        if (!rows || (!want_dx && !sl_half_adapted(h, l, rows)))
            break;
        if (h->config.recompute && l + 1 < h->config.last) /* the top block's are still there */
            sl_half_recompute_block(h, seqs, l, rows);
        block_backward(h, seqs, l, rows, want_dx);
        if (want_dx)
            leave_rows(h, seqs, l);
        sl_profile_mark(h->config.profile, SL_KERNEL_ROWS);
    }
    return 0;
}
