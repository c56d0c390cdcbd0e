/* The slot table's inside: what the data lcore keeps of a slot beside what the trainer may see. Private to
 * this folder and its tests. */
#pragma once

#include "dataplane/ingest/slot.h"

#include <stdbool.h>
#include <sys/queue.h>

struct sl_slot_entry {
    uint64_t *claimed, *have; /* a bit per unit of 64 bytes: of this burst, and with a right tag (rules T3) */
    uint32_t missing;         /* units without a bit in `have` */
    uint32_t epoch;    /* of the session's handle when the slot was granted: a re-used handle has another */
    bool with_trainer; /* handed over and not yet back: `slot` is not the lcore's to read */
    uint64_t progress_ns; /* granted, or last good fragment; from GRADIENT on: when it came back */
    uint64_t timer_ns;    /* GRANTED and FILLING: when its expiry is looked at */
    TAILQ_ENTRY(sl_slot_entry) link;
    struct sl_slot slot;
} __attribute__((aligned(64)));
TAILQ_HEAD(sl_slot_list, sl_slot_entry);

/* A free slot, the last one given back first, for a message of `n_units`: GRANTED, no unit claimed or
 * received. NULL: none free. */
struct sl_slot_entry *sl_slots_take(struct sl_slots *, uint32_t n_units);
/* Gives it back; its handle is stale from here on. */
void sl_slots_give(struct sl_slots *, struct sl_slot_entry *);
/* As sl_slot_get. */
struct sl_slot_entry *sl_slots_entry(struct sl_slots *, uint32_t handle);
uint32_t sl_slots_free_count(const struct sl_slots *);
