/* Personal adapters in the trainer (rules L2, L3): for the files trainer*.c only.
 *
 * Every device has an adapter of its own on both sides; nothing is averaged. Gangs, boundaries and rounds are
 * those of shared adapters. At a boundary each member pushes its half, and the edge writes the whole adapter
 * as it is then: that is the device's version, a number of its own. No weights go back.
 *
 * A checkpoint names each device's newest written version. It is made when all pushes of a round are written,
 * and the next round does not end before it is on disk: so a device never holds two boundaries that are both
 * newer than what a restart of the edge would begin with (rules T12). */
#pragma once

#include "trainer/pipeline/adapter_store.h"
#include "trainer/pipeline/image.h"
#include "trainer/pipeline/trainer.h"

struct device;

struct sl_personal {
    struct sl_adapter_store *store; /* NULL: shared adapters */
    float *initial;                 /* [L, block]: what every device begins with */
    uint32_t waiting;               /* messages whose adapter is not there */
    bool first_made, checkpoint_due, checkpoint_under_way, ending, error_told;
    struct sl_personal_stats stats; /* but for the store's part */
};

int sl_personal_create(struct sl_trainer *, const struct sl_checkpoint *resume, char *err, size_t err_cap);
void sl_personal_free(struct sl_trainer *);
void sl_personal_put_part(const struct sl_trainer *, struct sl_image *);
uint64_t sl_personal_last_step(const struct sl_trainer *, uint32_t device); /* of its last written boundary */

void sl_personal_join(struct sl_trainer *, const struct sl_command *);
/* The device's message waits, or no longer does. */
void sl_personal_wait(struct sl_trainer *, struct device *);
void sl_personal_stop_waiting(struct sl_trainer *, struct device *);
/* NULL: not there yet; asks for it. */
struct sl_adapter *sl_personal_adapter(struct sl_trainer *, uint32_t device);

/* Before the gang's forward pass: was it an adapter that it waited for? */
void sl_personal_begin_gang(struct sl_trainer *);
/* Every member whose gradient is finite steps, by its own tokens. */
void sl_personal_step(struct sl_trainer *, uint32_t left);
void sl_personal_end_gang(struct sl_trainer *, const struct sl_batch *);

void sl_personal_push(struct sl_trainer *, const struct sl_command *);
void sl_personal_pull(struct sl_trainer *, const struct sl_command *);
/* The round's pushes have come, or will not: false: not yet, the last checkpoint is not on disk. */
bool sl_personal_close_round(struct sl_trainer *, uint64_t now_ns);
bool sl_personal_first_checkpoint(struct sl_trainer *); /* whether it is this one */
void sl_personal_checkpointed(struct sl_trainer *, bool on_disk);
bool sl_personal_turn(struct sl_trainer *, uint64_t now_ns);
