/* The learning rate as a function of the global step number (rules L2): the same one on devices, on the edge
 * and in sluice-train. Pure. */
#pragma once

#include <stdint.h>

enum sl_schedule_kind { SL_SCHEDULE_CONSTANT, SL_SCHEDULE_LINEAR, SL_SCHEDULE_COSINE };

/* All zero: the constant rate. */
struct sl_lr_schedule {
    enum sl_schedule_kind kind;
    uint32_t steps;  /* of the whole schedule; unused where constant */
    uint32_t warmup; /* steps of rising rate, the first of them 1 / warmup of it */
    double floor;    /* the last rate as a share of the full one, 0..1 */
};

/* "constant", "linear", "cosine"; -EINVAL. */
int sl_schedule_parse(const char *name, enum sl_schedule_kind *);
const char *sl_schedule_name(enum sl_schedule_kind);
/* What is wrong with it, or NULL: one clause without the names of options or keys. */
const char *sl_lr_schedule_check(const struct sl_lr_schedule *);
/* The share of the full rate that step number `step` (from 0) has. Beyond `steps`: the floor. */
double sl_lr_share(const struct sl_lr_schedule *, uint64_t step);
