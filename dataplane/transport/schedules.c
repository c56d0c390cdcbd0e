#include "dataplane/transport/schedules.h"

enum { ALIGN = 64 };

static size_t aligned(size_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

size_t sl_schedules_bytes(uint32_t n)
{
    return n * aligned(sl_aead_key_size()) + aligned(n * sizeof(uint32_t)) + aligned(n * sizeof(bool));
}

void sl_schedules_init(struct sl_schedules *c, struct sl_aead *aead, uint32_t n, void *memory)
{
    uint8_t *at = memory;
    *c = (struct sl_schedules){.aead = aead, .keys = at, .stride = aligned(sl_aead_key_size()), .n = n};
    at += n * c->stride;
    c->owner = (uint32_t *)(void *)at;
    at += aligned(n * sizeof(uint32_t));
    c->used = (bool *)at;
    for (uint32_t i = 0; i < n; i++)
        c->owner[i] = SL_SCHEDULE_NOBODY;
}

static struct sl_aead_key *key_at(struct sl_schedules *c, uint32_t place)
{
    return (struct sl_aead_key *)(void *)(c->keys + place * c->stride);
}

const struct sl_aead_key *sl_schedule_make(
    struct sl_schedules *c, uint32_t owner, const uint8_t key[SL_AEAD_KEY_BYTES], uint16_t *place)
{
    while (c->used[c->hand]) { /* at most once round */
        c->used[c->hand] = false;
        c->hand = c->hand + 1 == c->n ? 0 : c->hand + 1;
    }
    uint32_t at = c->hand;
    c->hand = at + 1 == c->n ? 0 : at + 1;
    struct sl_aead_key *schedule = key_at(c, at);
    sl_aead_key_init(c->aead, schedule, key);
    c->owner[at] = owner;
    c->used[at] = true;
    c->made++;
    *place = (uint16_t)at;
    return schedule;
}

void sl_schedule_forget(struct sl_schedules *c, uint32_t owner, uint16_t place)
{
    if (place >= c->n || c->owner[place] != owner)
        return;
    sl_aead_key_clear(key_at(c, place));
    c->owner[place] = SL_SCHEDULE_NOBODY;
    c->used[place] = false;
}
