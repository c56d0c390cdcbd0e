/* A back half that is only modelled (edge.compute: modelled): a gang takes the time that a cost model says,
 * nothing is computed, losses are 0, every gradient is the same pattern. For fleets larger than the host's
 * arithmetic; all else of the trainer, gangs, aggregation, checkpoints and books, is as with a real one.
 *
 * The same times hold back a real back half that is faster (a slower edge node's, edge.compute_gflops). */
#pragma once

#include "dataplane/wire/grid.h"
#include "trainer/model/half.h"

struct sl_modelled {
    /* Seconds of a forward or backward pass over those sequences, each from its block `enter` on, or from
     * block `down_to` where that is higher. */
    double (*pass_s)(void *app, const struct sl_seq *, uint32_t n, bool backward, uint32_t down_to);
    void (*wait)(void *app, uint64_t ns); /* on the trainer's thread */
    void *app;
};

/* Writes a gradient's units: finite in every codec, all units alike. */
void sl_modelled_gradient(enum sl_codec, uint8_t *units, uint32_t n_units);
void sl_modelled_pass(const struct sl_modelled *, const struct sl_seq *, uint32_t n, bool backward);
uint64_t sl_modelled_now(void); /* CLOCK_MONOTONIC, ns */
/* Waits until as long as the pass takes down to that block is over since from_ns. */
void sl_modelled_catch_up(const struct sl_modelled *, const struct sl_seq *, uint32_t n, bool backward,
    uint32_t down_to, uint64_t from_ns);
