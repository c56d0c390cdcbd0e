/* Expanded keys of the sessions that are at work. A session keeps its 16-byte keys; their schedules (1 KiB
 * each with ipsec-mb) are made when first wanted and live here until another wants the room: the clock
 * algorithm (Corbató, 1968). Making one takes about as long as fetching a kilobyte that has left the cache,
 * so a table of all sessions' schedules would gain nothing (docs/performance.md). */
#pragma once

#include "dataplane/crypto/aead.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SL_SCHEDULE_NOBODY UINT32_MAX
enum { SL_SCHEDULES_MAX = 1 << 16 };

struct sl_schedules {
    struct sl_aead *aead;
    uint8_t *keys;
    size_t stride;
    uint32_t *owner; /* of each place: SL_SCHEDULE_NOBODY, or what the caller calls a key */
    bool *used;      /* since the hand last passed */
    uint32_t n, hand;
    uint64_t made; /* schedules expanded so far */
};

/* Bytes for n places, 1 to SL_SCHEDULES_MAX; then the places in that memory (zeroed, 64-byte aligned). */
size_t sl_schedules_bytes(uint32_t n);
void sl_schedules_init(struct sl_schedules *, struct sl_aead *, uint32_t n, void *memory);

/* Expands the key into a place, and notes which in *place. */
const struct sl_aead_key *sl_schedule_make(
    struct sl_schedules *, uint32_t owner, const uint8_t key[SL_AEAD_KEY_BYTES], uint16_t *place);

static inline const uint8_t *sl_schedule_bytes(const struct sl_schedules *c, uint32_t place)
{
    return c->keys + place * c->stride;
}

/* The schedule of `key`, whose name is `owner`. *place: where it was last time (any value before the first).
 * Valid until the next call. */
static inline const struct sl_aead_key *sl_schedule_get(
    struct sl_schedules *c, uint32_t owner, const uint8_t key[SL_AEAD_KEY_BYTES], uint16_t *place)
{
    uint32_t at = *place;
    if (at >= c->n || c->owner[at] != owner)
        return sl_schedule_make(c, owner, key, place);
    c->used[at] = true;
    return (const struct sl_aead_key *)(const void *)sl_schedule_bytes(c, at);
}

/* Wipes it, where it is still there. */
void sl_schedule_forget(struct sl_schedules *, uint32_t owner, uint16_t place);
