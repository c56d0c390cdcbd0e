/* Slots: where a message's tensor lands, and what becomes of it (rules T6). A slot's memory is one run of an
 * arena in a secure mapping.
 *
 *   FREE -> GRANTED -> FILLING -> READY -> IN_BATCH -> GRADIENT -> SENDING -> FREE
 *
 * Up to READY and from GRADIENT on the data lcore owns the slot; from the hand-off on the ready ring until
 * the hand-off on the return ring the trainer does. Ownership moves with the handle, so nothing here is
 * atomic. */
#pragma once

#include "dataplane/wire/frame.h"
#include "dataplane/wire/grid.h"

#include <stddef.h>
#include <stdint.h>

enum sl_slot_state {
    SL_SLOT_FREE,
    SL_SLOT_GRANTED,
    SL_SLOT_FILLING,
    SL_SLOT_READY,
    SL_SLOT_IN_BATCH,
    SL_SLOT_GRADIENT,
    SL_SLOT_SENDING,
};

/* What the trainer says of a slot that it gives back. */
enum { SL_OUTCOME_STALE = 4 }; /* beside the statuses of RESULT: refused, its device has to pull (rules L8) */
struct sl_slot_outcome {
    uint8_t status, flags; /* enum sl_result_status or SL_OUTCOME_STALE; SL_RESULT_BOUNDARY */
    uint64_t global_step;
    double nll; /* summed over the message */
};

struct sl_slot {
    uint32_t handle; /* index (low 16 bits) and generation (high 16 bits) */
    uint8_t state;
    uint8_t lcore;    /* by whose ready ring it came; the trainer's to set and to read */
    uint32_t session; /* the endpoint's handle */
    uint64_t device;  /* what the control side named the session: rank of the device in the run */
    uint32_t grant;
    struct sl_request request; /* step, kind, sequence lengths */
    struct sl_grid grid;       /* of the message; a gradient has grid.tensor_units */
    uint64_t granted_ns, first_ns, ready_ns;
    /* tensor [rows, d_model] as the codec stores it (sl_codec_stored), then targets; 64-byte aligned. A
     * gradient is what travels: its units in the codec */
    uint8_t *data;
    struct sl_slot_outcome outcome;
};

/* Target ids of a message: u32 little-endian, one per row, behind the tensor. */
static inline const uint32_t *sl_slot_targets(const struct sl_slot *s)
{
    return (const uint32_t *)(const void *)(s->data + (size_t)s->grid.stored_units * 64);
}

struct sl_slots;
int sl_slots_create(uint32_t n, size_t slot_bytes, struct sl_slots **); /* slot_bytes is rounded up to 64 */
void sl_slots_free(struct sl_slots *);
/* The slot of a handle; NULL where index or generation is stale. */
struct sl_slot *sl_slot_get(struct sl_slots *, uint32_t handle);
uint32_t sl_slots_count(const struct sl_slots *);
size_t sl_slots_bytes(const struct sl_slots *); /* of one slot */
