/* Which neighbour leads to an address that no packet has come from yet: a device's edge, at first. A small
 * table of addresses that somebody on this side wanted to send to; an entry is never given up, so nothing can
 * be displaced, and none is made by a packet that was received.
 *
 * Where the kernel has the interface, it is asked (kernel_neighbour.h); otherwise the port asks by ARP (RFC
 * 826) or neighbour solicitation (RFC 4861), again and again until it is answered and now and then after
 * that. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SL_ROUTES = 32 };

struct sl_route {
    uint32_t state;     /* atomic: enum of resolve.c */
    uint32_t ask;       /* atomic: a question is due (on the link); taken by the thread that sends it */
    uint64_t neighbour; /* atomic; 0: not known yet */
    uint32_t asked;     /* tick; the watching thread's */
    uint8_t ip[16];
};
struct sl_routes {
    struct sl_route route[SL_ROUTES];
    uint32_t n;   /* atomic */
    uint32_t due; /* atomic: some route's question is */
};

/* Any queue's thread. 0: not known (yet); it will be asked for, where there is room. */
uint64_t sl_routes_get(struct sl_routes *, const uint8_t ip[16]);
/* Any thread: an answer. Only addresses that were asked for are taken. */
void sl_routes_set(struct sl_routes *, const uint8_t ip[16], uint64_t neighbour);
/* The watching thread, every tick: says which are to be asked for, unless `ask` does it at once. `ask` (or
 * NULL) returns the neighbour, or 0. */
void sl_routes_tick(
    struct sl_routes *, uint32_t tick, uint64_t (*ask)(void *ctx, const uint8_t ip[16]), void *ctx);
/* A queue's thread: the next address that is to be asked for on the link, or NULL. */
const uint8_t *sl_routes_due(struct sl_routes *);
