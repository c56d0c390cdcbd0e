/* Fair shares of something that is given out in pieces: slots, places in a batch. Start-time fair queueing
 * (Goyal, Vin and Cheng, SIGCOMM 1996): each piece waits under a tag, the service that its owner will have
 * had when it begins, and the lowest tag is served first. The tag of who was away or is new is the present
 * one: it gets its share from now on, and neither makes up for the past nor is held back for it.
 *
 * With that, between any two owners that both wait all the time, services differ by one piece of each at
 * most, whatever either asks for; and nobody starves: a piece that waits is passed only by those with lower
 * tags, of which each owner has finitely many. Services are rows (predicted tokens); where owners have shares
 * of unequal size, work divided by the owner's share. */
#pragma once

#include <stdint.h>

struct sl_share {
    uint64_t now; /* the tag of what was served last */
};

/* What a unit of work costs an owner whose share of all is `share`, in fixed point. The least share keeps
 * tags of 64 bits from running over: at it, 10^4 rows through 100 layers a step for 10^6 steps. */
enum { SL_SHARE_PRICE_OF_ALL = 1 << 12 };
#define SL_SHARE_LEAST 1e-3
static inline uint64_t sl_share_price(double share)
{
    return (uint64_t)(SL_SHARE_PRICE_OF_ALL / (share < SL_SHARE_LEAST ? SL_SHARE_LEAST : share) + 0.5);
}

/* The tag for a piece of an owner that has had service up to `finish` (its own tags continue from there). */
static inline uint64_t sl_share_tag(const struct sl_share *s, uint64_t finish)
{
    return finish > s->now ? finish : s->now;
}

/* A piece of that tag and size is served: what its owner has had now. */
static inline uint64_t sl_share_serve(struct sl_share *s, uint64_t tag, uint64_t rows)
{
    if (tag > s->now)
        s->now = tag;
    return tag + rows;
}
