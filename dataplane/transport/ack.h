/* What was received: the replay window, and from the same bits the ACK frames. */
#pragma once

#include "dataplane/wire/frame.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SL_PN_WINDOW_WORDS = 16, /* of 64 packet numbers: old is what lies 16 words or more below the highest's */
    SL_ACK_EVERY = 2,        /* ack-eliciting packets (RFC 9000 13.2.2) */
};
#define SL_MAX_ACK_DELAY_NS UINT64_C(5000000) /* a lone packet waits no longer for its ACK */

/* Packet numbers seen. A word covers numbers with the same pn / 64; `next` is the highest seen plus one. */
struct sl_pn_window {
    uint64_t next;
    uint64_t seen[SL_PN_WINDOW_WORDS];
};

/* Neither seen nor too old to tell. */
static inline bool sl_pn_window_fresh(const struct sl_pn_window *w, uint64_t pn)
{
    if (pn >= w->next)
        return true;
    if (((w->next - 1) >> 6) - (pn >> 6) >= SL_PN_WINDOW_WORDS)
        return false;
    return (w->seen[(pn >> 6) % SL_PN_WINDOW_WORDS] >> (pn & 63) & 1) == 0;
}

/* Only after a good tag, and only for a fresh number. */
static inline void sl_pn_window_mark(struct sl_pn_window *w, uint64_t pn)
{
    if (pn >= w->next) {
        uint64_t top = w->next == 0 ? 0 : (w->next - 1) >> 6, word = pn >> 6;
        uint64_t stale = word - top < SL_PN_WINDOW_WORDS ? word - top : SL_PN_WINDOW_WORDS;
        for (uint64_t i = 0; i < stale; i++)
            w->seen[(word - i) % SL_PN_WINDOW_WORDS] = 0;
        w->next = pn + 1;
    }
    w->seen[(pn >> 6) % SL_PN_WINDOW_WORDS] |= UINT64_C(1) << (pn & 63);
}

/* The seen numbers of the window as ranges, highest first, at most SL_ACK_RANGES_MAX. Returns how many; 0:
 * none seen. */
unsigned sl_pn_window_ranges(const struct sl_pn_window *, struct sl_ack *);

/* When an ACK is owed. */
struct sl_ack_state {
    uint64_t deadline_ns; /* of the delayed one; UINT64_MAX: none is owed */
    uint64_t largest_ns;  /* arrival of the highest packet number */
    uint8_t unacked;      /* ack-eliciting packets since the last ACK, saturating */
    bool now;             /* owed at once */
};

void sl_ack_state_init(struct sl_ack_state *);
/* An ack-eliciting packet came; `in_order`: it is the next after the highest (RFC 9000 13.2.1: a gap is told
 * at once). */
static inline void sl_ack_owed(struct sl_ack_state *a, bool in_order, uint64_t now_ns)
{
    if (a->unacked == 0)
        a->deadline_ns = now_ns + SL_MAX_ACK_DELAY_NS;
    a->unacked++;
    if (a->unacked >= SL_ACK_EVERY || !in_order) {
        a->unacked = SL_ACK_EVERY;
        a->now = true;
    }
}
static inline bool sl_ack_pending(const struct sl_ack_state *a)
{
    return a->unacked != 0;
}
void sl_ack_sent(struct sl_ack_state *);
