/* The slot table's inside: what the data lcore keeps of a slot beside what the trainer may see. Private to
 * this folder and its tests. */
#pragma once

#include "dataplane/ingest/slot.h"

#include <stdbool.h>
#include <sys/queue.h>

/* For 64 units a pair of words: claimed by a packet of this burst, and received with a right tag (rules T3).
 */
struct sl_slot_bits {
    uint64_t claimed, have;
};

struct sl_slot_entry {
    /* one cache line with what placing and marking a packet needs */
    struct sl_slot_bits *bits;
    uint8_t *data;             /* the slot's */
    uint64_t divisor;          /* sl_grid_divisor(fragment_units) */
    uint64_t progress_ns;      /* granted, or last good fragment; from GRADIENT on: when it came back */
    uint32_t n_units, missing; /* missing: units without a bit in `have` */
    uint32_t session, grant;
    uint32_t epoch;      /* of the session's handle when the slot was granted: a re-used handle has another */
    uint32_t plain_from; /* units from here on are never compressed: target ids */
    uint16_t fragment_units;
    bool with_trainer; /* handed over and not yet back: `slot` is not the lcore's to read */
    /* what a message needs a few times */
    uint64_t timer_ns __attribute__((aligned(64))); /* GRANTED and FILLING: when its expiry is looked at */
    TAILQ_ENTRY(sl_slot_entry) link;
    struct sl_slot slot;
} __attribute__((aligned(64)));
_Static_assert(offsetof(struct sl_slot_entry, timer_ns) == 64, "what every packet needs is one line");
TAILQ_HEAD(sl_slot_list, sl_slot_entry);

static inline bool sl_slot_has(const struct sl_slot_entry *e, uint32_t unit)
{
    return e->bits[unit >> 6].have >> (unit & 63) & 1;
}

/* A free slot, the last one given back first, for a message of `n_units`: GRANTED, no unit claimed or
 * received. NULL: none free. */
struct sl_slot_entry *sl_slots_take(struct sl_slots *, uint32_t n_units);
/* Gives it back; its handle is stale from here on. */
void sl_slots_give(struct sl_slots *, struct sl_slot_entry *);
/* As sl_slot_get. */
struct sl_slot_entry *sl_slots_entry(struct sl_slots *, uint32_t handle);
struct sl_slot_entry *sl_slots_entries(struct sl_slots *); /* all of them, by index */
uint32_t sl_slots_free_count(const struct sl_slots *);
