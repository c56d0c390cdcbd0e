/* What was received: the replay window, and from the same bits the ACK frames. */
#pragma once

#include "dataplane/wire/frame.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SL_PN_WINDOW_WORDS = 16, /* of 64 packet numbers: old is what lies 16 words or more below the highest's */
};
#define SL_MAX_ACK_DELAY_NS UINT64_C(5000000) /* a lone packet waits no longer for its ACK */

/* Packet numbers seen, in words of those with the same pn / 64. `next` is the highest seen plus one, `head`
 * the word of the highest: what comes in order touches nothing else. The words below it lie apart, in the
 * caller's `older`. */
struct sl_pn_window {
    uint64_t next, head;
};

/* Neither seen nor too old to tell. */
static inline bool sl_pn_window_fresh(
    const struct sl_pn_window *w, const uint64_t older[SL_PN_WINDOW_WORDS], uint64_t pn)
{
    if (pn >= w->next)
        return true;
    uint64_t below = ((w->next - 1) >> 6) - (pn >> 6);
    if (below >= SL_PN_WINDOW_WORDS)
        return false;
    uint64_t word = below == 0 ? w->head : older[(pn >> 6) % SL_PN_WINDOW_WORDS];
    return (word >> (pn & 63) & 1) == 0;
}

/* The highest number leaves its word: puts it among the older ones. */
void sl_pn_window_advance(struct sl_pn_window *, uint64_t older[SL_PN_WINDOW_WORDS], uint64_t pn);

/* Only after a good tag, and only for a fresh number. */
static inline void sl_pn_window_mark(struct sl_pn_window *w, uint64_t older[SL_PN_WINDOW_WORDS], uint64_t pn)
{
    const uint64_t bit = UINT64_C(1) << (pn & 63), top = w->next == 0 ? 0 : (w->next - 1) >> 6;
    if (pn >= w->next) {
        if (pn >> 6 != top)
            sl_pn_window_advance(w, older, pn);
        w->next = pn + 1;
        w->head |= bit;
    } else if (pn >> 6 == top) {
        w->head |= bit;
    } else {
        older[(pn >> 6) % SL_PN_WINDOW_WORDS] |= bit;
    }
}

/* The seen numbers of the window as ranges, highest first, at most SL_ACK_RANGES_MAX. Returns how many; 0:
 * none seen. */
unsigned sl_pn_window_ranges(
    const struct sl_pn_window *, const uint64_t older[SL_PN_WINDOW_WORDS], struct sl_ack *);

/* When an ACK is owed: to the first ack-eliciting packet after SL_MAX_ACK_DELAY_NS, to the second at once. */
struct sl_ack_state {
    uint64_t deadline_ns; /* UINT64_MAX: none is owed; 0: at once */
    uint64_t largest_ns;  /* arrival of the highest packet number */
};

void sl_ack_state_init(struct sl_ack_state *);
static inline bool sl_ack_pending(const struct sl_ack_state *a)
{
    return a->deadline_ns != UINT64_MAX;
}
static inline bool sl_ack_now(const struct sl_ack_state *a)
{
    return a->deadline_ns == 0;
}
/* Ack-eliciting packets came, at least one; `in_order`: each was the next after the highest (RFC 9000 13.2.1:
 * a gap is told at once). */
static inline void sl_ack_owed(struct sl_ack_state *a, unsigned packets, bool in_order, uint64_t now_ns)
{
    a->deadline_ns = packets > 1 || sl_ack_pending(a) || !in_order ? 0 : now_ns + SL_MAX_ACK_DELAY_NS;
}
void sl_ack_sent(struct sl_ack_state *);
