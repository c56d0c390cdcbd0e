/* A back half that is only modelled (edge.compute: modelled): a gang takes the time that a cost model says,
 * nothing is computed, losses are 0, every gradient is the same pattern. For fleets larger than the host's
 * arithmetic; all else of the trainer, gangs, aggregation, checkpoints and books, is as with a real one. */
#pragma once

#include "dataplane/wire/grid.h"
#include "trainer/model/half.h"

struct sl_modelled {
    /* Seconds of a forward or backward pass over those sequences, each from its block `enter` on. */
    double (*pass_s)(void *app, const struct sl_seq *, uint32_t n, bool backward);
    void (*wait)(void *app, uint64_t ns); /* on the trainer's thread */
    void *app;
};

/* Writes a gradient's units: finite in every codec, all units alike. */
void sl_modelled_gradient(enum sl_codec, uint8_t *units, uint32_t n_units);
void sl_modelled_pass(const struct sl_modelled *, const struct sl_seq *, uint32_t n, bool backward);
