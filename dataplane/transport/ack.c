#include "dataplane/transport/ack.h"

struct words { /* the window's, `head` in its place among the older ones */
    const uint64_t *older;
    uint64_t top, head;
};

static uint64_t word_of(const struct words *w, uint64_t pn)
{
    return pn >> 6 == w->top ? w->head : w->older[(pn >> 6) % SL_PN_WINDOW_WORDS];
}

/* The highest number at or below pn, not under `low`, whose bit is set in seen ^ flip; UINT64_MAX where there
 * is none. */
static uint64_t find_down(const struct words *w, uint64_t pn, uint64_t low, uint64_t flip)
{
    uint64_t bits = (word_of(w, pn) ^ flip) & (UINT64_MAX >> (63 - (pn & 63)));
    while (bits == 0) {
        if (pn >> 6 == low >> 6)
            return UINT64_MAX;
        pn = (pn & ~UINT64_C(63)) - 1;
        bits = word_of(w, pn) ^ flip;
    }
    return (pn & ~UINT64_C(63)) + 63 - (uint64_t)__builtin_clzll(bits);
}

unsigned sl_pn_window_ranges(
    const struct sl_pn_window *w, const uint64_t older[SL_PN_WINDOW_WORDS], struct sl_ack *ack)
{
    unsigned n = 0;
    if (w->next == 0) {
        ack->n_ranges = 0;
        return 0;
    }
    uint64_t pn = w->next - 1, top = pn >> 6;
    uint64_t low = top < SL_PN_WINDOW_WORDS ? 0 : (top - SL_PN_WINDOW_WORDS + 1) << 6; /* a word's first */
    const struct words words = {.older = older, .top = top, .head = w->head};
    while (pn != UINT64_MAX && n < SL_ACK_RANGES_MAX) {
        uint64_t hole = find_down(&words, pn, low, UINT64_MAX);
        ack->range[n].last = pn;
        ack->range[n].first = hole == UINT64_MAX ? low : hole + 1;
        n++;
        pn = hole == UINT64_MAX ? hole : find_down(&words, hole, low, 0);
    }
    ack->n_ranges = (uint16_t)n;
    return n;
}

void sl_pn_window_advance(struct sl_pn_window *w, uint64_t older[SL_PN_WINDOW_WORDS], uint64_t pn)
{
    uint64_t top = w->next == 0 ? 0 : (w->next - 1) >> 6, word = pn >> 6;
    uint64_t between = word - top - 1 < SL_PN_WINDOW_WORDS ? word - top - 1 : SL_PN_WINDOW_WORDS;
    older[top % SL_PN_WINDOW_WORDS] = w->head;
    for (uint64_t i = 1; i <= between; i++)
        older[(word - i) % SL_PN_WINDOW_WORDS] = 0;
    w->head = 0;
}

void sl_ack_state_init(struct sl_ack_state *a)
{
    *a = (struct sl_ack_state){.deadline_ns = UINT64_MAX};
}

void sl_ack_sent(struct sl_ack_state *a)
{
    a->deadline_ns = UINT64_MAX;
}
