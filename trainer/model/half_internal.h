/* A half from the inside. Both families have the same four linear slots in a block, each ONE product over all
 * rows present:
 *
 *   x ── norm1 ── QKV ── attention ── O ──(+x)── x2 ── norm2 ── UP ── activation ── DOWN ──(+x2)── next x
 *
 * What a branch adds to the residual stream is added by the norm that reads the sum. Llama's q, k, v (and
 * gate, up) lie one after another in the model, so a slot's weights are one matrix; so do the LoRA A of a
 * slot's targets in a block's vector.
 *
 * A tensor is a struct sl_dst: memory and its precision, dense rows. Products, branches and attention are in
 * the half's precision, the residual stream and its gradient in `stream` (docs/decisions.md says why),
 * statistics in f32. */
#pragma once

#include "trainer/model/half.h"
#include "trainer/model/model_internal.h"
#include "trainer/tensor/attention.h"
#include "trainer/tensor/lora_gemm.h"
#include "trainer/tensor/norm.h"
#include "trainer/tensor/view.h"

enum {
    HEAD_ROWS_MIN = 64,
    HEAD_ROWS_MAX = 512,
    HEAD_FLOATS = 1 << 24 /* the head's tile of logits */
};

struct slot_shape {
    uint32_t in, out; /* out: of all its targets side by side */
    enum sl_target target0;
    uint32_t n_lora;                      /* adapted targets, in enum order */
    enum sl_target lora[SL_LORA_TARGETS]; /* which */
    struct sl_lora_shape shape;           /* of their thin products */
};

/* Activations of one block, [max_rows, ...] each. norm1, norm2 and act are kept for the gradients of the slot
 * that reads them, and shared by all blocks where it has none. */
struct layer_acts {
    struct sl_dst x, norm1, qkv, att;
    struct sl_dst x2, norm2, up, act; /* up: Llama gate and up side by side */
    float *lse;                       /* [rows, heads] */
    struct sl_norm_stats stats1, stats2;
    struct sl_dst u[SLOT_COUNT]; /* A x of the slot's adapted targets, [rows, n_lora rank] */
    void *lora[SLOT_COUNT];      /* factors of each segment's adapter as products read them */
};

/* Rows [row0, row1) of the batch that run with one adapter; NULL: on the base weights alone. */
struct segment {
    struct sl_adapter *adapter;
    uint32_t row0, row1;
};

struct sl_half {
    struct sl_model *model;
    const struct sl_model_config *shape;
    struct sl_adapter *adapter;
    struct sl_half_config config;
    bool has_head, llama;
    struct sl_lora_config lora; /* of every adapter; rank 0: there are none */
    struct slot_shape slots[SLOT_COUNT];
    struct sl_attention attention;

    enum sl_precision stream; /* of the residual stream */
    uint32_t room;            /* max_rows, rounded up to what products write */

    uint32_t threads; /* that the kernels' scratch has room for */
    void *arena;
    struct layer_acts *layers; /* [last - first] */
    struct sl_dst x_end;       /* residual stream after the last block */
    struct sl_dst branch;      /* what O or DOWN gives, before it is added to the stream; shared with dnorm */
    float *rope;               /* [positions, head_dim]; Llama */
    void *scratch;             /* of one kernel at a time; where the head is not packed, a tile of logits */
    float *meansq, *entry_meansq; /* [rows]: of the norm being computed; of the rows' first norm */
    struct sl_dst norm_f;         /* head: final norm */
    struct sl_norm_stats stats_f;
    float *row;         /* [d_model] */
    double *nll;        /* head: of each row */
    float *dnorm_f;     /* head: gradient at the final norm's output, made by forward */
    float *dhead;       /* head, full: the head matrix' gradient, made by forward */
    uint32_t *targets;  /* head: of all rows, gathered */
    uint32_t head_rows; /* rows of a tile */
    struct sl_dst dx;   /* of the residual stream */
    sl_bf16 *dx_bf16;   /* the same as products read it; NULL where dx is in their precision */
    struct sl_dst dnorm, dqkv, datt, dup, dact, du; /* backward, shared by all blocks */

    uint32_t *rows_at, *seqs_at; /* [last - first]: rows and sequences present at each block (last batch) */
    uint32_t *row0, *lens;       /* [max_seqs]: first row of each sequence, and how many */
    struct sl_lora_segment *lora_segments; /* [max_adapters]: of the product being computed */
    struct segment *segments;              /* [max_adapters], by rows */
    uint32_t rows, n_seqs, n_segments;     /* of the last batch */
    uint64_t gemms;
};

/* linear.c: one slot over a prefix of rows. y = x W (+ bias) + LoRA. */
int sl_slot_forward(
    struct sl_half *, uint32_t layer, enum slot, uint32_t rows, struct sl_src x, struct sl_dst y);
/* Only what backward needs of the slot's forward: u of its adapted targets. `spare` [rows, out] is scribbled
 * on. */
void sl_slot_recompute(
    struct sl_half *, uint32_t layer, enum slot, uint32_t rows, struct sl_src x, struct sl_dst spare);
/* Gradients of the slot's adapters (and weights if full); dx [rows, in] is overwritten where its p is not
 * NULL. */
int sl_slot_backward(struct sl_half *, uint32_t layer, enum slot, uint32_t rows, struct sl_src x,
    struct sl_src dy, struct sl_dst dx);

/* Rows [row0, row0 + n) of a block's input that lie together: in the block's x, or where they were received.
 */
struct piece {
    struct sl_src x;
    uint32_t row0, n;
    bool in_place;
};
/* half.c: the piece that begins at `row` of the rows present at a block. */
struct piece sl_half_piece(const struct sl_half *, const struct sl_seq *, uint32_t layer, uint32_t row);
struct sl_norm sl_half_norm(const struct sl_half *, const struct sl_param *w, const struct sl_param *b);

static inline struct layer_acts *sl_half_layer(struct sl_half *h, uint32_t layer)
{
    return &h->layers[layer - h->config.first];
}
static inline uint32_t sl_half_seqs_at(const struct sl_half *h, uint32_t layer)
{
    return h->seqs_at[layer - h->config.first];
}
/* Does the adapter carry block `layer`? */
static inline bool sl_adapter_covers(const struct sl_adapter *a, uint32_t layer)
{
    return a && layer >= sl_adapter_first(a) && layer < sl_adapter_last(a);
}
static inline struct sl_adapter *sl_seq_adapter(const struct sl_half *h, const struct sl_seq *s)
{
    return s->adapter ? s->adapter : h->adapter;
}
/* Has block `layer` an adapter for any of the rows [0, rows)? */
static inline bool sl_half_adapted(const struct sl_half *h, uint32_t layer, uint32_t rows)
{
    for (uint32_t i = 0; i < h->n_segments && h->segments[i].row0 < rows; i++)
        if (sl_adapter_covers(h->segments[i].adapter, layer))
            return true;
    return false;
}
static inline struct sl_norm_stats sl_stats_at(struct sl_norm_stats s, uint32_t row)
{
    return (struct sl_norm_stats){s.mean ? s.mean + row : NULL, s.rstd + row};
}
/* half_forward.c: the block's activations once more, from its kept input. */
int sl_half_recompute_block(struct sl_half *, const struct sl_seq *seqs, uint32_t layer, uint32_t rows);
/* half_head.c: the loss of the rows and the gradient at the final norm's output; then that at the last
 * block's output. */
int sl_head_forward(struct sl_half *, struct sl_seq *seqs);
void sl_head_backward(struct sl_half *);
