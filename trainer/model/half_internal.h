/* A half from the inside. Both families have the same four linear slots in a block, each ONE product over all
 * rows present:
 *
 *   x ── norm1 ── QKV ── attention ── O ──(+x)── x2 ── norm2 ── UP ── activation ── DOWN ──(+x2)── next x
 *
 * Llama's q, k, v (and gate, up) lie one after another in the model, so a slot's weights are one matrix; so
 * do the LoRA A of a slot's targets in a block's vector. */
#pragma once

#include "trainer/model/half.h"
#include "trainer/model/model_internal.h"
#include "trainer/tensor/attention.h"

enum slot { SLOT_QKV, SLOT_O, SLOT_UP, SLOT_DOWN, SLOT_COUNT };

enum {
    SLOT_TARGETS = 3, /* the most that share a slot: q, k, v */
    HEAD_ROWS_MIN = 64,
    HEAD_ROWS_MAX = 512,
    HEAD_FLOATS = 1 << 24 /* the head's tile of logits */
};

struct slot_shape {
    uint32_t in, out; /* out: of all its targets side by side */
    enum sl_target target0;
    uint32_t n_lora;                   /* adapted targets, in enum order */
    enum sl_target lora[SLOT_TARGETS]; /* which */
    uint32_t col[SLOT_TARGETS];        /* first output column of each */
    uint32_t width[SLOT_TARGETS];
};

/* Activations of one block, [max_rows, ...] each. */
struct layer_acts {
    float *x, *norm1, *qkv, *lse, *att; /* lse: [rows, heads] */
    float *x2, *norm2, *up, *act;       /* up: Llama gate and up side by side */
    float *mean1, *rstd1, *mean2, *rstd2;
    float *u[SLOT_COUNT]; /* A x of the slot's adapted targets, [rows, n_lora rank] */
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
    uint32_t rank, lora_targets; /* of every adapter; 0: none */
    struct slot_shape slots[SLOT_COUNT];
    struct sl_attention_dims attention;

    void *arena;
    struct layer_acts
        *layers;  /* [last - first]; all the same memory for inference, all but x for recomputation */
    float *x_end; /* residual stream after the last block */
    float *rope;  /* [positions, head_dim] */
    float *attention_scratch;
    float *meansq, *entry_meansq;    /* [rows]: of the norm being computed; of the rows' first norm */
    float *norm_f, *mean_f, *rstd_f; /* head: final norm */
    float *logits;                   /* head: a tile of rows */
    double *nll;                     /* head: of each row in the tile */
    float *dnorm_f;                  /* head: gradient at the final norm's output, made by forward */
    float *dhead;                    /* head, full: the head matrix' gradient, made by forward */
    uint32_t *targets;               /* head: of all rows, gathered */
    uint32_t head_rows;              /* rows of a tile */
    float *dx, *dnorm, *dqkv, *datt, *dup, *dact, *du; /* backward, shared by all blocks */

    uint32_t *rows_at;                 /* [last - first]: rows present at each block (last batch) */
    uint32_t *row0;                    /* [max_seqs]: first row of each sequence */
    struct segment *segments;          /* [max_adapters], by rows */
    uint32_t rows, n_seqs, n_segments; /* of the last batch */
    uint64_t gemms;
};

/* linear.c: one slot over a prefix of rows. y = x W (+ bias) + LoRA; `residual` [rows, out] is added where
 * not NULL. */
void sl_slot_forward(struct sl_half *, uint32_t layer, enum slot, uint32_t rows, const float *x,
    const float *residual, float *y);
/* Only what backward needs of the slot's forward: u of its adapted targets. */
void sl_slot_recompute(struct sl_half *, uint32_t layer, enum slot, uint32_t rows, const float *x);
/* Gradients of the slot's adapters (and weights if full); dx [rows, in] is overwritten where not NULL. */
void sl_slot_backward(
    struct sl_half *, uint32_t layer, enum slot, uint32_t rows, const float *x, const float *dy, float *dx);
static inline struct layer_acts *sl_half_layer(struct sl_half *h, uint32_t layer)
{
    return &h->layers[layer - h->config.first];
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
/* half_forward.c: the block's activations once more, from its kept input. */
void sl_half_recompute_block(struct sl_half *, const struct sl_seq *seqs, uint32_t layer, uint32_t rows);
