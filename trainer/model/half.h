/* A run of blocks [first, last) of a model with its activations: the front half is [0, k) with the embedding,
 * the back half [k, L) with the head (final norm, lm_head, loss), and [0, L) is the whole model.
 *
 * One call computes one ragged batch without padding: sequences lie one after another, and every layer does
 * ONE GEMM per matrix over all rows present. A sequence enters at its own layer (`enter`): sequences must
 * come in ascending `enter`, so that the rows present at layer l are always a prefix [0, R_l). Positions
 * restart with each sequence (rules L1).
 *
 * Adapters: a sequence runs with its own (`seq.adapter`) or with the half's. Neighbouring sequences with the
 * same adapter form one segment; base products run over all rows, LoRA per segment.
 *
 * All activations lie in one arena sized at creation (sl_half_arena_bytes says how large,
 * docs/architecture.md by which formula); forward and backward allocate nothing. One thread owns a half.
 * Gradients are of the SUM of token losses in nats (rules L2). Base weights are read only, unless `full`. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/model.h"
#include "trainer/tensor/profile.h"

struct sl_half;
struct sl_seq;

struct sl_half_config {
    uint32_t first, last;        /* blocks [first, last) */
    uint32_t max_rows, max_seqs; /* of one batch */
    enum sl_precision precision; /* for sl_half_arena_bytes; a half takes its model's */
    uint32_t max_adapters;       /* segments of one batch; 0: one */
    bool full;                   /* also gradients of every base parameter (sl_model_enable_grads first) */
    bool inference;              /* forward only: activations of one layer are kept */
    bool recompute; /* keep of each block its input alone, and compute the rest again in the backward pass */
    struct sl_profile *profile;        /* where the time goes; NULL: not asked, and costs nothing */
    const struct sl_lora_config *lora; /* shape of the sequences' adapters where the half has none of its own;
                                        * read at creation only */
    /* Called in the backward pass as soon as the gradients of the `n` sequences that entered at one layer are
     * final (dx written): the highest layer first, while the blocks below have yet to be computed. It may use
     * and give away x, dx and targets of these sequences, and not the half. NULL: nobody wants to know. Not
     * called for layers whose sequences have no dx. */
    void (*leave)(void *app, struct sl_seq *seqs, uint32_t n);
    void *app;
};

struct sl_seq {
    uint32_t len; /* rows; 1.. */
    uint32_t
        enter; /* the block where it enters: 0 means from `ids` through the embedding; 1.. means from x */
    const uint32_t *ids;   /* [len] inputs; NULL where enter > 0 */
    const float *x;        /* [len, d_model] residual stream before block `enter`; NULL where enter == 0 */
    const sl_bf16 *x_bf16; /* the same in bf16, instead of x; read in place, forward and backward */
    float *dx; /* [len, d_model] where backward leaves the gradient at the entry (of the embedded rows where
                * enter == 0); may be NULL, and then what only it needs is not computed. May be x */
    sl_bf16 *dx_bf16;        /* the same in bf16, instead of dx. May be x_bf16 */
    const uint32_t *targets; /* [len]; needed where the half has the head */
    struct sl_adapter
        *adapter; /* NULL: the half's own. Rank, alpha and targets as the half's; it may cover other blocks */
    double nll;   /* out: sum over its rows, in nats (head only) */
};

/* `adapter` may be NULL (base model alone); blocks that it does not cover run on the base weights alone. It
 * outlives the half.
 * Its scratch is for the threads of now (sl_parallel_threads): with more of them later, its passes return
 * -EINVAL. */
int sl_half_create(struct sl_model *, struct sl_adapter *, const struct sl_half_config *, struct sl_half **);
void sl_half_free(struct sl_half *);
/* Bytes of the arena that a half of this configuration takes: everything that it allocates but for a fixed
 * header. `lora` may be NULL: no adapters. */
size_t sl_half_arena_bytes(
    const struct sl_model_config *, const struct sl_lora_config *, const struct sl_half_config *);

/* Runs the batch. A half without the head writes the residual stream after block last-1 to x_out [rows,
 * d_model]; one with the head fills seq[i].nll, and x_out may be NULL. -EINVAL: rows or sequences over the
 * maximum, ids or targets not below the vocabulary, enter not ascending or outside [first, last), len 0 or
 * above max_positions, more segments than max_adapters, an adapter of another shape. */
int sl_half_forward(struct sl_half *, struct sl_seq *seqs, uint32_t n_seqs, float *x_out);

/* Backward of the last forward, with the same seqs. dx_out [rows, d_model] is the gradient after block last-1
 * for a half without the head, NULL with it. Adds to the adapters' gradients (and the parameters' if full),
 * writes seq[i].dx. */
int sl_half_backward(struct sl_half *, struct sl_seq *seqs, uint32_t n_seqs, const float *dx_out);

/* Logits of the last forward's rows, [rows, vocab]: parity tests and generation. Head only. */
int sl_half_logits(struct sl_half *, float *logits);
/* Products with base weights in the last forward: one per matrix, whatever the number of sequences: in each
 * block with rows q, k and v together, o, gate and up together, down (GPT-2: c_attn, c_proj, c_fc, c_proj),
 * and one for lm_head (which is tiled by rows to bound memory, and counts once). So 4 blocks + 1 for a half
 * with the head. */
uint64_t sl_half_gemm_count(const struct sl_half *);
/* Mean square of each row that entered at layer `enter` of sequence i, as the first norm computes it (rules
 * T15: finite, and no row beyond 1e4 times the median norm). [len] floats of the last forward. */
const float *sl_half_entry_meansq(const struct sl_half *, uint32_t seq);
