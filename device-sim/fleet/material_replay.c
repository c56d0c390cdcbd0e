/* What a fleet that replays is made of: messages for the shapes of its classes, and one adapter for all. */
#include "device-sim/fleet/material.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHAPES_MAX = SL_CLASSES_MAX };

void sl_material_replay_model(const struct sl_material *m, struct sl_replay_model *out)
{
    const struct sl_model_config *shape = sl_model_config(m->model);

    *out = (struct sl_replay_model){
        .codec = m->codec, .d_model = shape->d_model, .vocab = shape->vocab, .n_layers = shape->n_layers};
    memcpy(out->hash, m->model_hash, sizeof(out->hash));
}

static struct sl_replay_shape shape_of(const struct sl_material *m, uint32_t class, uint32_t cut)
{
    uint32_t n = m->experiment->training.batch;

    return (struct sl_replay_shape){
        .n_seqs = n, .rows = n * (m->experiment->fleet[class].seq - 1), .cut = cut};
}

/* A recording has the messages of every class at every cut that it will have. */
static int check(const struct sl_material *m, char *err, size_t err_cap)
{
    const struct sl_experiment *e = m->experiment;

    for (uint32_t i = 0; i < e->n_classes; i++) {
        for (uint32_t k = 0; k <= e->n_changes; k++) {
            struct sl_replay_shape s = shape_of(m, i, k ? e->changes[k - 1].cut[i] : e->fleet[i].cut);
            if (sl_replay_count(m->replay, &s))
                continue;
            snprintf(err, err_cap,
                "%.300s: has no message of %u sequences, %u rows, at cut %u, which class %s sends; record a "
                "run with such "
                "phones",
                e->sim.recording, s.n_seqs, s.rows, s.cut, e->fleet[i].name);
            return -EINVAL;
        }
    }
    return 0;
}

int sl_material_make_common(struct sl_material *m)
{
    const struct sl_model_config *shape = sl_model_config(m->model);
    struct sl_lora_config lora = {.rank = m->experiment->training.lora.rank};

    for (uint32_t i = 0; i < m->experiment->training.lora.n_targets; i++)
        lora.targets |= sl_target_bits(shape->family, m->experiment->training.lora.targets[i]);
    m->common.floats = sl_adapter_block_size(shape, &lora) * shape->n_layers;
    m->common.g = calloc(m->common.floats, sizeof(float));
    return m->common.g ? 0 : -ENOMEM;
}

static int make_empty_shards(struct sl_material *m)
{
    m->shards = calloc(m->experiment->n_devices, sizeof(*m->shards));
    m->held_out_windows = calloc(m->experiment->n_devices, sizeof(*m->held_out_windows));
    return m->shards && m->held_out_windows ? 0 : -ENOMEM;
}

int sl_material_make_replay(struct sl_material *m, char *err, size_t err_cap)
{
    const struct sl_experiment *e = m->experiment;
    struct sl_replay_shape shapes[SHAPES_MAX];
    struct sl_replay_model model;
    int rc = sl_material_make_common(m);

    if (!rc)
        rc = make_empty_shards(m);
    sl_material_replay_model(m, &model);
    for (uint32_t i = 0; i < e->n_classes; i++)
        shapes[i] = shape_of(m, i, e->fleet[i].cut);
    if (!rc && e->sim.recording[0]) {
        rc = sl_replay_open(e->sim.recording, &model, e->seed, &m->replay, err, err_cap);
        return rc ? rc : check(m, err, err_cap);
    }
    if (!rc)
        rc = sl_replay_generate(&model, shapes, e->n_classes, e->seed, &m->replay);
    if (rc)
        snprintf(err, err_cap, "messages to replay cannot be made: %s", strerror(-rc));
    return rc;
}
