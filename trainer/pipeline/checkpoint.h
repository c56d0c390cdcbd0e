/* The edge's checkpoint as bytes (rules T12): the state at an aggregation boundary, as an image of sections
 * (image.h). docs/architecture.md lists the sections. The parser takes nothing on trust but its own
 * arithmetic.
 *
 * What a mode of training keeps beyond the core is a part: a section of its own that the core does not look
 * into. Its owner appends it after sl_checkpoint_encode (sl_image_section and on) and reads it again from
 * sl_checkpoint_part. A tag must stand in the list below, so that a checkpoint of a later release is refused
 * and not half understood. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/optim.h"
#include "trainer/pipeline/image.h"

enum {
    SL_CHECKPOINT_FORMAT = 2,
    SL_CHECKPOINT_ID_BYTES = 65,
    SL_CHECKPOINT_DEVICES_MAX = 1 << 16,
    SL_CHECKPOINT_SECTIONS_MAX = 16
};

/* Parts. */
#define SL_PART_SERVER SL_TAG('S', 'E', 'R', 'V')   /* the server optimiser's moments */
#define SL_PART_PERSONAL SL_TAG('P', 'E', 'R', 'S') /* personal adapters */

struct sl_checkpoint_device {
    char id[SL_CHECKPOINT_ID_BYTES]; /* common name of its certificate, NUL-terminated */
    uint64_t last_step;              /* newest of its steps that the edge's weights contain */
    uint32_t cut;                    /* 0: it has not told, or not joined again */
};

struct sl_checkpoint {
    uint8_t model_hash[32];
    uint64_t run, incarnation;
    uint64_t version, global_step, tokens;
    uint64_t train_ns; /* spent training so far: run.seconds goes on from here */
    struct sl_lora_config lora;
    enum sl_optim_kind optim;
    uint32_t n_layers, first;   /* the edge trains [first, n_layers) */
    uint64_t block;             /* trainable floats in a block */
    float *g;                   /* [n_layers, block] */
    struct sl_moments *moments; /* [n_layers - first], [block] each; m and v NULL where there are none */
    struct sl_checkpoint_device *devices;
    uint32_t n_devices;
    struct sl_section parts[SL_CHECKPOINT_SECTIONS_MAX];
    uint32_t n_parts;
    void *memory; /* of a decoded checkpoint: what the parts point into */
};

/* Begins an image and writes the core and the checkpoint's parts; `room`: bytes that the caller will append.
 * sl_image_finish and sl_image_sign end it. */
void sl_checkpoint_encode(const struct sl_checkpoint *, size_t room, struct sl_image *);
/* Fills *c, to be cleared by sl_checkpoint_clear. -EINVAL with err: damaged, truncated, or of another format;
 * -ENOMEM. */
int sl_checkpoint_decode(
    const uint8_t *image, size_t len, struct sl_checkpoint *c, char *err, size_t err_cap);
void sl_checkpoint_clear(struct sl_checkpoint *); /* only of one that was decoded */
/* NULL: the checkpoint has no such part. */
const struct sl_section *sl_checkpoint_part(const struct sl_checkpoint *, uint32_t tag);
