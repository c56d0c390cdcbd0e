/* What every message holds: a tensor of plausible activations (most channels small, some a hundred times
 * larger), coded as it travels, and as a slot must hold it afterwards. */
#pragma once

#include "tests/bench/load.h"

struct bench_material {
    const struct bench_load *load;
    uint8_t *units;  /* grid.n_units, tensor and target ids, 64-byte aligned */
    uint8_t *stored; /* sl_grid_slot_units */
    uint8_t *blocks; /* of each fragment, compressed beforehand: the sender is not to be the limit */
    uint16_t *coded; /* bytes of each block; 0: the units as they are */
};

int bench_material_make(struct bench_material *, const struct bench_load *); /* -ENOMEM */
void bench_material_free(struct bench_material *);
/* Plaintext of a fragment as it travels, and its bytes; *coded as in the packet's header. */
const uint8_t *bench_material_fragment(
    const struct bench_material *, uint32_t fragment, uint32_t *n_units, size_t *len, uint16_t *coded);
