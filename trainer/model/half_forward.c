/* Forward pass of a half. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/act.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/loss.h"
#include "trainer/tensor/norm.h"
#include "trainer/tensor/rope.h"
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
    if (s->enter == 0 ? !s->ids || !all_below(s->ids, s->len, m->vocab) : !s->x)
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
        if (lora->rank != h->rank || lora->targets != h->lora_targets)
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
    if (!n_seqs || n_seqs > h->config.max_seqs)
        return -EINVAL;
    memset(h->rows_at, 0, (h->config.last - h->config.first) * sizeof *h->rows_at);
    for (uint32_t i = 0; i < n_seqs; i++) {
        if (!seq_is_valid(h, &seqs[i]) || (i && seqs[i].enter < seqs[i - 1].enter))
            return -EINVAL;
        h->row0[i] = (uint32_t)rows;
        rows += seqs[i].len;
        if (rows > h->config.max_rows ||
            plan_segment(h, sl_seq_adapter(h, &seqs[i]), h->row0[i], (uint32_t)rows))
            return -EINVAL;
        for (uint32_t l = seqs[i].enter; l < h->config.last; l++)
            h->rows_at[l - h->config.first] = (uint32_t)rows;
    }
    h->rows = (uint32_t)rows;
    h->n_seqs = n_seqs;
    return 0;
}

static void embed(const struct sl_half *h, const struct sl_seq *s, float *x)
{
    uint32_t d = h->model->config.d_model;
    const float *table = h->model->embed->data;
    for (uint32_t i = 0; i < s->len; i++)
        memcpy(x + (size_t)i * d, table + (size_t)s->ids[i] * d, d * sizeof *x);
    if (h->model->positions)
        sl_add(h->model->positions->data, (size_t)s->len * d, x);
}

/* Puts the rows that enter at this block behind those already there. */
static void enter_rows(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer)
{
    uint32_t d = h->model->config.d_model;
    for (uint32_t i = 0; i < h->n_seqs; i++) {
        if (seqs[i].enter != layer)
            continue;
        float *x = sl_half_layer(h, layer)->x + (size_t)h->row0[i] * d;
        if (layer == 0)
            embed(h, &seqs[i], x);
        else
            memcpy(x, seqs[i].x, (size_t)seqs[i].len * d * sizeof *x);
    }
}

static void norm(struct sl_half *h, const struct sl_param *w, const struct sl_param *b, uint32_t rows,
    const float *x, float *y, float *mean, float *rstd)
{
    const struct sl_model_config *m = &h->model->config;
    if (h->llama)
        sl_rmsnorm_forward(x, w->data, m->norm_eps, rows, m->d_model, y, rstd, h->meansq);
    else
        sl_layernorm_forward(x, w->data, b->data, m->norm_eps, rows, m->d_model, y, mean, rstd, h->meansq);
}

static void keep_entry_meansq(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer)
{
    for (uint32_t i = 0; i < h->n_seqs; i++)
        if (seqs[i].enter == layer)
            memcpy(h->entry_meansq + h->row0[i], h->meansq + h->row0[i], seqs[i].len * sizeof(float));
}

static void attend(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    const struct sl_attention_dims *dims = &h->attention;
    uint32_t ld = h->slots[SLOT_QKV].out, ld_out = h->slots[SLOT_O].in;
    for (uint32_t i = 0; i < h->n_seqs && seqs[i].enter <= layer; i++) {
        float *qkv = a->qkv + (size_t)h->row0[i] * ld;
        for (uint32_t p = 0; h->llama && p < seqs[i].len; p++)
            sl_rope(qkv + (size_t)p * ld, dims->n_heads + dims->n_kv_heads, dims->head_dim,
                h->rope + (size_t)p * dims->head_dim, 0);
        sl_attention_forward(dims, qkv, seqs[i].len, a->att + (size_t)h->row0[i] * ld_out,
            a->lse + (size_t)h->row0[i] * dims->n_heads, h->attention_scratch);
    }
}

/* The block up to the input of its last product: all that backward needs. */
static void block_inside(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    const struct sl_block_params *p = &h->model->blocks[layer];
    uint32_t ff = h->model->config.d_ff;
    norm(h, p->norm1_w, p->norm1_b, rows, a->x, a->norm1, a->mean1, a->rstd1);
    keep_entry_meansq(h, seqs, layer);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    sl_slot_forward(h, layer, SLOT_QKV, rows, a->norm1, NULL, a->qkv);
    attend(h, seqs, layer);
    sl_profile_mark(h->config.profile, SL_KERNEL_ATTENTION);
    sl_slot_forward(h, layer, SLOT_O, rows, a->att, a->x, a->x2);
    norm(h, p->norm2_w, p->norm2_b, rows, a->x2, a->norm2, a->mean2, a->rstd2);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    sl_slot_forward(h, layer, SLOT_UP, rows, a->norm2, NULL, a->up);
    if (h->llama)
        sl_swiglu_forward(a->up, rows, ff, a->act);
    else
        sl_gelu_forward(a->up, rows, ff, a->act);
    sl_profile_mark(h->config.profile, SL_KERNEL_ACTIVATION);
}

void sl_half_recompute_block(struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows)
{
    block_inside(h, seqs, layer, rows);
    sl_slot_recompute(h, layer, SLOT_DOWN, rows, sl_half_layer(h, layer)->act);
}

static void block_forward(
    struct sl_half *h, const struct sl_seq *seqs, uint32_t layer, uint32_t rows, float *x_next)
{
    struct layer_acts *a = sl_half_layer(h, layer);
    block_inside(h, seqs, layer, rows);
    sl_slot_forward(h, layer, SLOT_DOWN, rows, a->act, a->x2, x_next);
}

/* Final norm, and the loss by tiles of rows. The gradient of the loss with respect to the norm's output needs
 * the logits again, so it is made here while they are at hand, rather than by a second product in the
 * backward pass. */
static void head_forward(struct sl_half *h, struct sl_seq *seqs)
{
    struct sl_model *m = h->model;
    uint32_t d = m->config.d_model, vocab = m->config.vocab, seq = 0;
    norm(h, m->norm_w, m->norm_b, h->rows, h->x_end, h->norm_f, h->mean_f, h->rstd_f);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    for (uint32_t i = 0; i < h->n_seqs; i++) {
        memcpy(h->targets + h->row0[i], seqs[i].targets, seqs[i].len * sizeof *h->targets);
        seqs[i].nll = 0;
    }
    for (uint32_t r = 0; r < h->rows; r += h->head_rows) {
        uint32_t n = h->rows - r < h->head_rows ? h->rows - r : h->head_rows;
        const float *x = h->norm_f + (size_t)r * d;
        sl_gemm(true, n, vocab, d, 1, x, d, m->head->data, d, 0, h->logits, vocab);
        sl_profile_mark(h->config.profile, SL_KERNEL_HEAD);
        sl_cross_entropy(h->logits, h->targets + r, n, vocab, !h->config.inference, h->nll);
        sl_profile_mark(h->config.profile, SL_KERNEL_LOSS);
        for (uint32_t i = 0; i < n; i++) {
            while (r + i >= h->row0[seq] + seqs[seq].len)
                seq++;
            seqs[seq].nll += h->nll[i];
        }
        if (!h->config.inference)
            sl_gemm(
                false, n, d, vocab, 1, h->logits, vocab, m->head->data, d, 0, h->dnorm_f + (size_t)r * d, d);
        if (h->config.full)
            sl_gemm_at(vocab, d, n, 1, h->logits, vocab, x, d, r ? 1 : 0, h->dhead, d);
        sl_profile_mark(h->config.profile, SL_KERNEL_HEAD);
    }
    h->gemms++;
}

int sl_half_forward(struct sl_half *h, struct sl_seq *seqs, uint32_t n_seqs, float *x_out)
{
    int err = plan_batch(h, seqs, n_seqs);
    if (err)
        return err;
    if (!h->has_head && !x_out)
        return -EINVAL;
    h->gemms = 0;
    sl_profile_start(h->config.profile);
    for (uint32_t l = h->config.first; l < h->config.last; l++) {
        uint32_t rows = h->rows_at[l - h->config.first];
        bool top = l + 1 == h->config.last;
        enter_rows(h, seqs, l);
        sl_profile_mark(h->config.profile, SL_KERNEL_ROWS);
        if (rows)
            block_forward(h, seqs, l, rows, top ? h->x_end : sl_half_layer(h, l + 1)->x);
    }
    if (x_out)
        memcpy(x_out, h->x_end, (size_t)h->rows * h->model->config.d_model * sizeof *x_out);
    if (h->has_head)
        head_forward(h, seqs);
    return 0;
}

int sl_half_logits(struct sl_half *h, float *logits)
{
    uint32_t d = h->model->config.d_model, vocab = h->model->config.vocab;
    if (!h->has_head || !h->rows)
        return -EINVAL;
    for (uint32_t r = 0; r < h->rows; r += h->head_rows) {
        uint32_t n = h->rows - r < h->head_rows ? h->rows - r : h->head_rows;
        sl_gemm(true, n, vocab, d, 1, h->norm_f + (size_t)r * d, d, h->model->head->data, d, 0,
            logits + (size_t)r * vocab, vocab);
    }
    return 0;
}
