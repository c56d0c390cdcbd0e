#include "trainer/plan/cost.h"

static double rows_of(const uint32_t *seq_len, uint32_t n_seqs)
{
    double rows = 0;

    for (uint32_t i = 0; i < n_seqs; i++)
        rows += seq_len[i];
    return rows;
}

/* Scores and the weighted sum: each row attends to itself and those before it. */
static double attention_forward(const struct sl_cost_shape *s, const uint32_t *seq_len, uint32_t n_seqs)
{
    double pairs = 0;

    for (uint32_t i = 0; i < n_seqs; i++)
        pairs += 0.5 * seq_len[i] * (seq_len[i] + 1.0);
    return 2.0 * 2.0 * pairs * s->n_heads * s->head_dim;
}

static double matrices_forward(const struct sl_cost_shape *s, double rows)
{
    double d = s->d_model, q = (double)s->n_heads * s->head_dim, kv = (double)s->n_kv_heads * s->head_dim;
    double weights = d * q + 2 * d * kv + q * d + (s->gated_mlp ? 3.0 : 2.0) * d * s->d_ff;

    return 2.0 * rows * weights;
}

double sl_cost_block_forward(const struct sl_cost_shape *s, const uint32_t *seq_len, uint32_t n_seqs)
{
    return matrices_forward(s, rows_of(seq_len, n_seqs)) + attention_forward(s, seq_len, n_seqs);
}

double sl_cost_block_backward(const struct sl_cost_shape *s, const uint32_t *seq_len, uint32_t n_seqs)
{
    /* Frozen matrices: input gradients only. Attention has no weights: both operands of both products get a
     * gradient. */
    return matrices_forward(s, rows_of(seq_len, n_seqs)) + 2.0 * attention_forward(s, seq_len, n_seqs);
}

double sl_cost_head_forward(const struct sl_cost_shape *s, uint64_t rows)
{
    return 2.0 * (double)rows * s->d_model * s->vocab;
}
