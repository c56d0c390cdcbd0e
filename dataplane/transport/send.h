/* Outgoing messages: which fragments of each were sent, acknowledged, lost. A pool shared by an endpoint's
 * sessions. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SL_SEND_NONE UINT32_MAX

/* A session's sends form two lists: all of them, and those with a fragment to send now, in the order in which
 * they were started; one that has to repeat a fragment goes to the front. */
enum sl_send_list { SL_SENDS_ALL, SL_SENDS_DUE, SL_SEND_LISTS };

struct sl_send {
    uint32_t session, grant;
    uint32_t n_units, n_fragments;
    uint32_t next; /* first fragment that was never sent */
    uint32_t n_acked;
    uint32_t n_lost;     /* bits set in `lost` */
    uint32_t lost_word;  /* no bit of `lost` is set below this word */
    uint32_t generation; /* of the pool's place: an old record names an old one */
    uint16_t fragment_units;
    bool live, due;
    struct {
        uint32_t prev, next;
    } link[SL_SEND_LISTS];
    uint64_t *acked, *lost; /* a bit for each fragment */
};
struct sl_send_head {
    uint32_t first[SL_SEND_LISTS], last[SL_SEND_LISTS];
};
struct sl_sends {
    struct sl_send *sends;
    uint32_t n, words; /* words of each bitmap */
    uint32_t *free;
    uint32_t n_free;
};

/* Bytes for `n` sends of at most `max_fragments`; then the pool in that memory (zeroed, 8-byte aligned). */
size_t sl_sends_bytes(uint32_t n, uint32_t max_fragments);
void sl_sends_init(struct sl_sends *, uint32_t n, uint32_t max_fragments, void *memory);
void sl_send_head_init(struct sl_send_head *);

/* Starts a message and lists it. Returns its index, SL_SEND_NONE where the pool is empty. */
uint32_t sl_send_start(struct sl_sends *, struct sl_send_head *, uint32_t session, uint32_t grant,
    uint32_t n_units, uint16_t fragment_units);
/* Takes it off its lists and gives it back. */
void sl_send_end(struct sl_sends *, struct sl_send_head *, uint32_t index);
uint32_t sl_send_find(const struct sl_sends *, const struct sl_send_head *, uint32_t grant);

/* The next fragment of a send that is due; `again`: it was sent before. */
uint32_t sl_send_take(struct sl_sends *, struct sl_send_head *, uint32_t index, bool *again);
void sl_send_mark_lost(struct sl_sends *, struct sl_send_head *, uint32_t index, uint32_t fragment);
/* Returns whether the message is thereby complete. */
bool sl_send_mark_acked(struct sl_sends *, struct sl_send_head *, uint32_t index, uint32_t fragment);

static inline bool sl_send_is_acked(const struct sl_send *s, uint32_t fragment)
{
    return s->acked[fragment >> 6] >> (fragment & 63) & 1;
}
/* The units of a fragment: the grid's runs, the last one shorter (rules T1). */
static inline uint32_t sl_send_units(const struct sl_send *s, uint32_t fragment, uint32_t *unit0)
{
    *unit0 = fragment * s->fragment_units;
    uint32_t left = s->n_units - *unit0;
    return left < s->fragment_units ? left : s->fragment_units;
}
