/* Recordings for tests: small messages of a made-up model, in every codec. */
#pragma once

#include "dataplane/wire/packet.h"
#include "device-sim/replay/recording.h"
#include "trainer/tensor/rng.h"

#include <stdlib.h>
#include <string.h>

enum { RECORDING_D = 24, RECORDING_VOCAB = 300 };

static inline struct sl_replay_model recording_model(enum sl_codec codec)
{
    struct sl_replay_model m = {
        .codec = codec, .d_model = RECORDING_D, .vocab = RECORDING_VOCAB, .n_layers = 6};
    memset(m.hash, 0x5a, sizeof(m.hash));
    return m;
}

/* A message of that many rows; `n` tells it from others. The caller frees e->units. */
static inline struct sl_recording_entry recording_entry(
    enum sl_codec codec, uint32_t rows, uint32_t cut, uint32_t n)
{
    struct sl_grid g;
    sl_grid_make(&g, rows, RECORDING_D, codec, 1, 1);
    uint8_t *units = calloc(g.n_units, SL_UNIT_BYTES);
    float *x = malloc((size_t)rows * RECORDING_D * sizeof(*x));
    for (uint32_t i = 0; i < rows * RECORDING_D; i++)
        x[i] = sl_rng_normal(n, i);
    sl_codec_encode(codec, x, units, (uint64_t)rows * RECORDING_D);
    free(x);
    for (uint32_t i = 0; i < rows; i++) {
        uint32_t id = (n * 31 + i) % RECORDING_VOCAB;
        memcpy(units + (size_t)g.tensor_units * SL_UNIT_BYTES + 4 * (size_t)i, &id, sizeof(id));
    }
    return (struct sl_recording_entry){.rows = rows,
        .cut = cut,
        .n_seqs = 1,
        .phone = n,
        .step = n + 1,
        .device_class = "flagship",
        .tensor_units = g.tensor_units,
        .target_units = g.target_units,
        .units = units};
}
