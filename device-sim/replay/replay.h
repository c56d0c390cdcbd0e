/* What phones send that do not compute (sim.compute: replay): whole messages, as they travel, shared
 * read-only by all phones. Either recorded from a run with real phones (recording.h) or generated. Which of
 * them a phone sends at a step is a function of (seed, phone, step) and the message's shape, never of call
 * order.
 *
 * Made by one thread; then any number may pick. */
#pragma once

#include "dataplane/wire/grid.h"

#include <stddef.h>
#include <stdint.h>

/* What messages must match to be taken for the model's. */
struct sl_replay_model {
    uint8_t hash[32];
    enum sl_codec codec;
    uint32_t d_model, vocab, n_layers;
};

/* Generated activations: bf16-like values, independent normal ones under a scale for each channel. The scales
 * are log-normal (sigma 0.5), and one channel in 64 is an outlier, 20 times as large, as the residual streams
 * of trained models have them (Dettmers et al. 2022, arXiv:2208.07339, section 4). Targets are uniform. They
 * compress like activations of that make, not like a given model's: record a run where that matters. */
enum {
    SL_REPLAY_GENERATED = 16, /* messages of each shape */
    SL_REPLAY_OUTLIER_EVERY = 64,
};

struct sl_replay_shape {   /* of a class's training messages */
    uint32_t n_seqs, rows; /* rows: of all sequences together */
    uint32_t cut;
};

struct sl_replay;
/* From a recording, whose model and codec must be that one. err: one line with the file's name. -ENOENT,
 * -EINVAL, -ENOMEM.
 */
int sl_replay_open(const char *file, const struct sl_replay_model *, uint64_t seed, struct sl_replay **,
    char *err, size_t err_cap);
/* Generated ones for those shapes. -EINVAL, -ENOMEM. */
int sl_replay_generate(const struct sl_replay_model *, const struct sl_replay_shape *, uint32_t n_shapes,
    uint64_t seed, struct sl_replay **);
void sl_replay_free(struct sl_replay *);

/* n_units units of 64 bytes, or NULL: nothing of that shape. */
const uint8_t *sl_replay_pick(const struct sl_replay *, const struct sl_replay_shape *, uint32_t phone,
    uint64_t step, const struct sl_grid *);
uint32_t sl_replay_count(
    const struct sl_replay *, const struct sl_replay_shape *); /* messages of that shape */
size_t sl_replay_bytes(const struct sl_replay *); /* of all messages: memory, or pages of the file */
