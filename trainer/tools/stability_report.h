/* What `sluice-train stability` has measured, and how it is told. */
#pragma once

#include "trainer/tools/slopes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct sl_stability_cell {
    uint32_t k, blocks;
    double fraction; /* as asked for; alpha is blocks / layers */
};

enum { SL_STABILITY_CUTS = 3 };

/* The same data set trained whole, and in two halves at several cuts (rules P1). */
struct sl_stability_cuts {
    uint32_t cut[SL_STABILITY_CUTS], n;
    uint32_t steps, swaps;
    double loss_apart, beta_apart; /* greatest difference from the whole model's, in nats per token */
};

struct sl_stability {
    struct sl_stability_cell *cells;
    uint32_t n_cells, layers, sets, sets_done, swaps_done, self_checks;
    uint32_t steps, batch, seq;
    const char *model, *optimizer, *precision;
    double lr, proximal_mu, seconds;
    uint64_t seed;
    size_t windows;
    double *sum;     /* [sets, cells] */
    uint32_t *swaps; /* [sets] */
    double *fall;    /* [cells]: sum over the sets of the training loss's fall, first step to last */
    struct sl_stability_cuts cuts;
};

/* Draws of the bootstrap. */
enum { SL_STABILITY_DRAWS = 4000 };

/* 0, or -ENOMEM. */
int sl_stability_print(const struct sl_stability *, bool json, FILE *out);
