/* The edge's checkpoint as bytes (rules T12): the state at an aggregation boundary, little-endian, fixed
 * layout, SHA-256 of all before it at the end. docs/architecture.md draws it. The parser takes nothing on
 * trust but its own arithmetic. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/optim.h"

#include <stddef.h>
#include <stdint.h>

enum { SL_CHECKPOINT_FORMAT = 1, SL_CHECKPOINT_ID_BYTES = 65, SL_CHECKPOINT_DEVICES_MAX = 1 << 16 };

struct sl_checkpoint_device {
    char id[SL_CHECKPOINT_ID_BYTES]; /* common name of its certificate, NUL-terminated */
    uint64_t last_step;              /* newest of its steps that the edge's weights contain */
};

struct sl_checkpoint {
    uint8_t model_hash[32];
    uint64_t run, incarnation;
    uint64_t version, global_step, tokens;
    uint64_t train_ns; /* spent training so far: run.seconds goes on from here */
    struct sl_lora_config lora;
    enum sl_optim_kind optim;
    uint32_t n_layers, first; /* the edge trains [first, n_layers) */
    uint64_t block;           /* trainable floats in a block */
    float *g;                 /* [n_layers, block] */
    uint64_t *t;              /* [n_layers - first]: optimiser steps of each block */
    float *m, *v;             /* [n_layers - first, block]; NULL where the optimiser has none */
    struct sl_checkpoint_device *devices;
    uint32_t n_devices;
};

/* `image` is malloc'ed. -ENOMEM. */
int sl_checkpoint_encode(const struct sl_checkpoint *, uint8_t **image, size_t *len);
/* Fills *c, to be cleared by sl_checkpoint_clear. -EINVAL with err: damaged, truncated, or of another format.
 */
int sl_checkpoint_decode(
    const uint8_t *image, size_t len, struct sl_checkpoint *c, char *err, size_t err_cap);
void sl_checkpoint_clear(struct sl_checkpoint *);
