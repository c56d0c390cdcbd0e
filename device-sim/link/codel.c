#include "device-sim/link/codel.h"

#include <math.h>

/* The place in RFC 8289's deque() where the packet now asked about was pulled. */
enum pulled {
    FIRST,       /* at its beginning */
    AFTER_DROP,  /* in the loop, after a drop */
    AFTER_ENTRY, /* after the drop that began the drop state */
};

/* The drop state is kept going over a pause shorter than that many intervals (RFC 8289 5.6). */
enum { REENTRY_INTERVALS = 16 };

void sl_codel_init(struct sl_codel *c, uint64_t target_ns, uint64_t interval_ns)
{
    *c = (struct sl_codel){.target_ns = target_ns, .interval_ns = interval_ns};
}

static uint64_t control_law(const struct sl_codel *c, uint64_t t)
{
    return t + (uint64_t)((double)c->interval_ns / sqrt(c->count));
}

/* dodequeue(): whether the delay has been above target for an interval. */
static bool may_drop(struct sl_codel *c, uint64_t sojourn_ns, uint64_t left_bytes, uint64_t now_ns)
{
    if (sojourn_ns < c->target_ns || left_bytes <= SL_CODEL_MTU_BYTES) {
        c->first_above_ns = 0;
        return false;
    }
    if (c->first_above_ns == 0) {
        c->first_above_ns = now_ns + c->interval_ns;
        return false;
    }
    return now_ns >= c->first_above_ns;
}

/* Had the last drop state ended just now, the rate of drops that held the queue then is where this begins. */
static void enter(struct sl_codel *c, uint64_t now_ns)
{
    uint32_t delta = c->count - c->last_count;

    c->dropping = true;
    c->count = delta > 1 && now_ns < c->drop_next_ns + REENTRY_INTERVALS * c->interval_ns ? delta : 1;
    c->drop_next_ns = control_law(c, now_ns);
    c->last_count = c->count;
}

bool sl_codel_drops(struct sl_codel *c, uint64_t sojourn_ns, uint64_t left_bytes, uint64_t now_ns)
{
    bool may = may_drop(c, sojourn_ns, left_bytes, now_ns);
    enum pulled pulled = c->pulled;

    c->pulled = FIRST;
    if (pulled == AFTER_ENTRY) /* goes, whatever it has waited */
        return false;
    if (!c->dropping) {
        if (!may)
            return false;
        enter(c, now_ns);
        c->pulled = AFTER_ENTRY;
        return true;
    }
    if (!may) {
        c->dropping = false;
        return false;
    }
    if (pulled == AFTER_DROP)
        c->drop_next_ns = control_law(c, c->drop_next_ns);
    if (now_ns < c->drop_next_ns)
        return false;
    c->count++;
    c->pulled = AFTER_DROP;
    return true;
}
