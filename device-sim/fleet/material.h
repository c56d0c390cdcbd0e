/* What a fleet is made of before it runs: the experiment, the model, and each phone's private text. */
#pragma once

#include "device-sim/device/phone.h"
#include "device-sim/replay/replay.h"
#include "trainer/data/shard.h"
#include "trainer/experiment/experiment.h"
#include "trainer/plan/cost.h"

struct sl_material {
    struct sl_experiment *experiment;
    struct sl_model *model;
    const char *precision; /* as sl_precision_told says it */
    uint8_t model_hash[32];
    struct sl_shard *shards;    /* [n_devices] */
    uint32_t *held_out_windows; /* [n_devices]; together at most data.held_out_windows */
    struct sl_cost_shape shape;
    enum sl_codec codec;
    /* sim.compute: replay: phones have neither weights nor text, shards and held_out_windows are empty. */
    struct sl_replay *replay; /* NULL: phones compute */
    struct sl_front_common common;
};

/* One line in err says what is missing and what to do. Free with sl_material_free also after an error. */
int sl_material_load(const char *experiment_file, struct sl_material *, char *err, size_t err_cap);
void sl_material_free(struct sl_material *);

/* RUN/heldout.ids: a line of token ids per phone, its held-out windows one after another. */
int sl_material_write_held_out(const struct sl_material *, const char *run_dir, char *err, size_t err_cap);

/* FLOP of one pass of a front half over those sequences (rules P2). */
double sl_material_pass_flop(
    const struct sl_material *, const uint16_t *len, uint32_t n_seqs, uint32_t cut, bool backward);
/* The half that a class's phone has at that cut; its optimiser's figures but for the kind are left out. */
struct sl_front_config sl_material_front(
    const struct sl_material *, const struct sl_class_config *, uint32_t cut);
uint32_t sl_material_seq(const struct sl_material *, uint32_t phone); /* tokens of its windows: its class's */
/* What a recording of this run's messages says it is of. */
void sl_material_replay_model(const struct sl_material *, struct sl_replay_model *);
/* material_replay.c, for sl_material_load */
int sl_material_make_common(struct sl_material *); /* the adapter of phones that do not compute; -ENOMEM */
int sl_material_make_replay(struct sl_material *, char *err, size_t err_cap);
/* Room that a message needs: the largest of a training step and an EVAL message, tensor and targets. */
void sl_material_sizes(const struct sl_material *, size_t *message_bytes, size_t *gradient_bytes);
