/* When a gang starts (rules L8, L7). Pure logic on a clock that the caller gives; one thread.
 *
 * Synchronous: it starts when all live devices are READY; at the deadline if the quorum is there; after it as
 * soon as the quorum is. A message that comes later joins the next gang. Deterministic: all devices of the
 * experiment, no deadline. Asynchronous: as soon as there is anything READY; who is not is not waited for.
 *
 * What a gang waits for has to be able to come (rules T2). A device needs one slot, and of its own data
 * lcore; lcores grant without waiting for each other, so that in the end min(live devices, slots) messages of
 * every lcore are READY, and the sum of these is the most that a gang may wait for. On a lcore with more
 * devices than slots it waits for half of the slots only: the other half fills while the gang is computed. */
#pragma once

#include "dataplane/wire/packet.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SL_GANG_TIMES = 31,         /* gang times that the median is taken over: odd, so that it is one of them */
    SL_GANG_TIMES_MIN = 3,      /* measured before the automatic deadline is one */
    SL_GANG_DEADLINE_GANGS = 3, /* rules L8: three times the median gang time */
};
#define SL_GANG_FIRST_DEADLINE_NS                                                                            \
    UINT64_C(30000000000) /* while nothing is measured: a slow phone's first step fits */
#define SL_GANG_DEADLINE_MIN_NS UINT64_C(20000000) /* below this, scheduling noise would end gangs */

struct sl_gang_config {
    double quorum;        /* share of the live devices, in (0, 1] */
    uint64_t deadline_ns; /* 0: automatic */
    bool deterministic, async;
    uint32_t n_devices;   /* of the experiment: what deterministic waits for */
    uint32_t capacity;    /* messages a gang can hold */
    uint32_t max_devices; /* device numbers are below this */
    uint32_t n_lcores;    /* 0: one, with `capacity` slots */
    uint32_t lcore_slots[SL_LCORES_MAX];
};

struct sl_gang;
int sl_gang_create(const struct sl_gang_config *, struct sl_gang **);
void sl_gang_free(struct sl_gang *);

/* By which data lcore the device's messages come from now on; of one that is not live. At first: 0. */
void sl_gang_set_lcore(struct sl_gang *, uint32_t device, uint32_t lcore);
/* A device takes part, or no longer does (its waiting message is then none). */
void sl_gang_set_live(struct sl_gang *, uint32_t device, bool live);
/* Its message waits, or was taken away. */
void sl_gang_set_ready(struct sl_gang *, uint32_t device, bool ready);
/* Some lcore has more devices than slots: while some of them wait for others, the rest has messages. */
bool sl_gang_crowded(const struct sl_gang *);
uint32_t sl_gang_live(const struct sl_gang *);
uint32_t sl_gang_ready(const struct sl_gang *);

/* From now on gangs may form: start of training, end of an aggregation. The deadline and the gang's time
 * count from here. */
void sl_gang_open(struct sl_gang *, uint64_t now_ns);
void sl_gang_close(struct sl_gang *);
bool sl_gang_should_start(const struct sl_gang *, uint64_t now_ns);
/* The gang that was started is computed: its time is measured, and the next one opens. */
void sl_gang_done(struct sl_gang *, uint64_t now_ns);

uint64_t sl_gang_opened_ns(const struct sl_gang *);
uint64_t sl_gang_median_ns(const struct sl_gang *);   /* 0: nothing measured */
uint64_t sl_gang_deadline_ns(const struct sl_gang *); /* how long after opening; UINT64_MAX: none */
