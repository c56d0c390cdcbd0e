/* Training on a data set S and on S with one sample replaced, together: what stability is measured from
 * (rules P7, P1).
 *
 * One batch holds A(S) and several A(S^i), each with an adapter and moments of its own. Batch places come
 * from the caller's order, the same for all; first values come from the seed, the same for all. Until a
 * replaced place is first drawn, A(S^i) is A(S): so it starts as a copy of A(S) at that step. One thread owns
 * a bench. */
#pragma once

#include "trainer/model/half.h"
#include "trainer/model/optim.h"

#include <stdbool.h>
#include <stddef.h>

struct sl_replace_config {
    struct sl_model *model;
    struct sl_lora_config lora;
    struct sl_optim_config optim;
    uint32_t steps, batch, seq; /* seq: tokens of a window, seq - 1 rows (rules L1) */
    uint32_t swaps;             /* in one batch, beside A(S) */
    uint32_t cut; /* 0: one half with all blocks; else a front half [0, cut) and a back half (rules P1) */
    bool (*stop)(void); /* asked before every step; NULL: never */
};

struct sl_swap {
    uint32_t place;        /* of S: whose sample is replaced */
    const uint32_t *other; /* the window in its stead */
    bool from_start;       /* trains it from the first step, not from A(S): gives the same */
    /* Out: nats per token on the sample that was in S and on its replacement, by A(S) and by A(S^i). */
    double by_set[2], by_swap[2];
};

/* One data set with its swaps. */
struct sl_replace_job {
    const uint32_t *const *windows; /* [k], of seq tokens: S */
    uint32_t k, blocks;             /* blocks [0, blocks) carry LoRA */
    const uint32_t *order;          /* [steps * batch] places of S */
    uint64_t seed;                  /* of the adapter's first values */
    double proximal;                /* strength of the stability term (rules P8, sl_proximal_add); 0: none */
    struct sl_swap *swaps;
    uint32_t n_swaps; /* any number: more than fit in one batch are done in turn, with A(S) each time */
    double *losses;   /* [steps] out: of A(S), nats per token; may be NULL */
};

struct sl_replace;

int sl_replace_create(const struct sl_replace_config *, struct sl_replace **, char *err, size_t err_cap);
void sl_replace_free(struct sl_replace *);
/* -ECANCELED: stopped. -EINVAL with a line in err: the loss is not a number. */
int sl_replace_run(struct sl_replace *, const struct sl_replace_job *, char *err, size_t err_cap);

/* Mean over both samples of the difference that the swap makes: its share of beta. */
double sl_swap_difference(const struct sl_swap *);
