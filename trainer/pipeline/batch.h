/* One ragged batch made of slots: a gang's messages, in the order (cut, device), through one back half
 * [first, L) with one GEMM per layer and matrix. The slot is the first operand: the half reads f32 or bf16
 * rows in the slots' memory and writes their gradient there. Only a gradient in a coded codec (int8) comes by
 * way of a scratch tensor. What does not pass the checks of rules T15 leaves the batch alone. One thread; no
 * allocation in a batch. */
#pragma once

#include "dataplane/ingest/slot.h"
#include "trainer/model/half.h"

/* Rules T15: no row beyond so many times the median norm. */
#define SL_ROW_NORM_MAX 1e4

struct sl_modelled; /* modelled.h */
struct sl_batch_member;
struct sl_batch_config {
    struct sl_model *model;            /* its precision is the batch's */
    struct sl_adapter *adapter;        /* covers [first, L); NULL: every member brings its own */
    const struct sl_lora_config *lora; /* shape of the members' own adapters where there is no `adapter` */
    uint32_t first;
    uint32_t max_rows, max_members;
    enum sl_codec codec;
    bool inference;                     /* evaluation: no backward */
    bool recompute;                     /* see struct sl_half_config */
    struct sl_profile *profile;         /* NULL: not asked */
    const struct sl_modelled *pace;     /* a real one takes no less time than that; NULL: its own */
    const struct sl_modelled *modelled; /* NULL: real; else nothing is computed, nor its content checked */
    /* Called in sl_batch_backward for each member as soon as its gradient is in its slot, those of the
     * highest cut first, while the layers below are yet to be computed: the slot may be given away. Not
     * `finite`: the gradient is not, and the slot holds none. */
    void (*leave)(void *app, const struct sl_batch_member *, bool finite);
    void *app;
};

struct sl_batch_member {
    struct sl_slot *slot;
    struct sl_adapter *adapter; /* its own; NULL: the batch's */
    uint32_t device, cut;
    uint32_t seq0, n_seqs, rows;
    uint64_t step;       /* of its request */
    double nll;          /* sum, after the forward pass */
    bool left;           /* its gradient has been handed out: the slot may no longer be its own */
    const char *refused; /* why it has left the batch; NULL: it is in it */
};

struct sl_batch;
int sl_batch_create(const struct sl_batch_config *, struct sl_batch **);
void sl_batch_free(struct sl_batch *);

void sl_batch_clear(struct sl_batch *);
/* 0; -ENOSPC: the batch is full, try the next one; -EINVAL: the message cannot be computed (*why says what of
 * it). */
int sl_batch_add(struct sl_batch *, struct sl_slot *, uint32_t device, uint32_t cut, const char **why);
/* The same with an adapter of the member's own, NULL for the batch's. Its blocks from `cut` on are trained;
 * it stays until the batch is cleared. */
int sl_batch_add_personal(struct sl_batch *, struct sl_slot *, uint32_t device, uint32_t cut,
    struct sl_adapter *, const char **why);
/* Computes the losses. Members whose content is refused are marked, and the rest is computed again without
 * them. Returns the number of members left. They come first in the order (cut, device, step); the refused
 * ones follow. */
uint32_t sl_batch_forward(struct sl_batch *);
/* Backward of those left: gradients of their adapters are zeroed first; the gradient of each member replaces
 * its tensor in its slot and leaves. -EDOM: a loss or a gradient is not finite; the adapters' gradients must
 * not be used. No member has left then if it was the loss; else those with a finite gradient have. */
int sl_batch_backward(struct sl_batch *);

uint32_t sl_batch_members(const struct sl_batch *); /* with the refused ones */
const struct sl_batch_member *sl_batch_member(const struct sl_batch *, uint32_t i);
const struct sl_seq *sl_batch_seqs(const struct sl_batch *); /* in the order of the members */
uint64_t sl_batch_tokens_at(
    const struct sl_batch *, uint32_t layer); /* predicted tokens present at a layer (rules L2) */
uint64_t sl_batch_tokens(const struct sl_batch *);
/* Summed over sequences in order, as sluice-train does; a member with an adapter of its own whose loss is not
 * finite is left out. */
double sl_batch_nll(const struct sl_batch *);
uint64_t sl_batch_gemms(const struct sl_batch *);
