/* The head of a half: final norm, logits, loss, and the gradient down to the last block's output. */
#include "trainer/model/half_internal.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/loss.h"
#include "trainer/tensor/parallel.h"
#include "trainer/tensor/rows.h"

#include <errno.h>
#include <string.h>

/* The loss by tiles of rows. The gradient of the loss with respect to the norm's output needs the logits
 * again, so it is made here while they are at hand, rather than by a second product in the backward pass. */
static void plain_loss(struct sl_half *h)
{
    struct sl_model *m = h->model;
    uint32_t d = m->config.d_model, vocab = m->config.vocab;
    float *logits = h->scratch;
    for (uint32_t r = 0; r < h->rows; r += h->head_rows) {
        uint32_t n = h->rows - r < h->head_rows ? h->rows - r : h->head_rows;
        const float *x = (const float *)h->norm_f.p + (size_t)r * d;
        sl_gemm(true, n, vocab, d, 1, x, d, m->head->data, d, 0, logits, vocab);
        sl_profile_mark(h->config.profile, SL_KERNEL_HEAD);
        sl_cross_entropy(logits, h->targets + r, n, vocab, !h->config.inference, h->nll + r);
        sl_profile_mark(h->config.profile, SL_KERNEL_LOSS);
        if (!h->config.inference)
            sl_gemm(false, n, d, vocab, 1, logits, vocab, m->head->data, d, 0, h->dnorm_f + (size_t)r * d, d);
        if (h->config.full)
            sl_gemm_at(vocab, d, n, 1, logits, vocab, x, d, r ? 1 : 0, h->dhead, d);
        sl_profile_mark(h->config.profile, SL_KERNEL_HEAD);
    }
}

int sl_head_forward(struct sl_half *h, struct sl_seq *seqs)
{
    struct sl_model *m = h->model;
    struct sl_norm norm = sl_half_norm(h, m->norm_w, m->norm_b);
    int err = 0;
    sl_norm_forward(&norm, sl_src_of(sl_half_layer(h, h->config.last - 1)->x2), sl_src_of(h->branch), h->rows,
        h->x_end, h->norm_f, h->stats_f, NULL);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    for (uint32_t i = 0; i < h->n_seqs; i++) {
        memcpy(h->targets + h->row0[i], seqs[i].targets, seqs[i].len * sizeof *h->targets);
    }
    if (m->packed_head)
        err = sl_head_loss(m->packed_head, m->config.d_model, sl_src_of(h->norm_f), h->rows, h->room,
            h->targets, h->nll, h->dnorm_f, h->scratch);
    else
        plain_loss(h);
    sl_profile_mark(h->config.profile, SL_KERNEL_HEAD);
    h->gemms++;
    for (uint32_t i = 0; i < h->n_seqs && !err; i++) {
        seqs[i].nll = 0;
        for (uint32_t r = 0; r < seqs[i].len; r++)
            seqs[i].nll += h->nll[h->row0[i] + r];
    }
    return err;
}

void sl_head_backward(struct sl_half *h)
{
    struct sl_model *m = h->model;
    struct sl_norm norm = sl_half_norm(h, m->norm_w, m->norm_b);
    struct sl_src none = {NULL, h->stream};
    bool full = h->config.full;
    sl_norm_backward(&norm, sl_src_f32(h->dnorm_f), sl_src_of(h->x_end), h->stats_f, none, h->rows, h->dx,
        h->dx_bf16, full ? m->norm_w->grad : NULL, full && m->norm_b ? m->norm_b->grad : NULL);
    sl_profile_mark(h->config.profile, SL_KERNEL_NORM);
    if (full)
        sl_add(h->dhead, m->head->n, m->head->grad);
}

static int packed_logits(struct sl_half *h, const struct sl_packed *head, float *logits)
{
    int err = 0;
    for (uint32_t t = 0; t < sl_packed_tiles(head) && !err; t++) {
        uint32_t first, n;
        sl_packed_tile(head, t, &first, &n);
        struct sl_product p = {.rows = h->rows,
            .x = h->norm_f.p,
            .ld_x = h->shape->d_model,
            .y = logits + first,
            .ld_y = h->shape->vocab,
            .y_type = SL_PRECISION_F32};
        err = sl_packed_forward_tile(head, t, &p, h->scratch);
    }
    return err;
}

int sl_half_logits(struct sl_half *h, float *logits)
{
    uint32_t d = h->shape->d_model, vocab = h->shape->vocab;
    if (!h->has_head || !h->rows || sl_parallel_threads() > h->threads)
        return -EINVAL;
    if (h->model->packed_head)
        return packed_logits(h, h->model->packed_head, logits);
    sl_gemm(true, h->rows, vocab, d, 1, h->norm_f.p, d, h->model->head->data, d, 0, logits, vocab);
    return 0;
}
