/* RFC 8289's pseudocode of section 5, as it stands there, with a queue of its own, and time as a clock of 1
 * ns gives it: what device-sim/link/codel.c is compared with. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

enum { PLAIN_SERVED = 1, PLAIN_DROPPED = 2 };

struct plain_packet {
    double tstamp;
    uint32_t size;
};
struct plain_codel {
    double target, interval;     /* ns; set by the user, like the next three */
    struct plain_packet *packet; /* [tail], never reused */
    unsigned head, tail;
    uint64_t bytes;
    uint8_t *fate; /* of each packet that was pulled */
    double first_above_time, drop_next;
    unsigned count, lastcount;
    bool dropping;
    unsigned reentries, loops; /* for the test: branches taken */
};
struct plain_result {
    int p; /* -1: none */
    bool ok_to_drop;
};

static inline double plain_control_law(const struct plain_codel *q, double t)
{
    return t + floor(q->interval / sqrt(q->count));
}

static inline struct plain_result plain_dodequeue(struct plain_codel *q, double now)
{
    struct plain_result r = {-1, false};

    if (q->head == q->tail) {
        q->first_above_time = 0;
        return r;
    }
    r.p = (int)q->head++;
    q->bytes -= q->packet[r.p].size;
    double sojourn = now - q->packet[r.p].tstamp;
    if (sojourn < q->target || q->bytes <= 1500) {
        q->first_above_time = 0;
    } else if (q->first_above_time == 0) {
        q->first_above_time = now + q->interval;
    } else if (now >= q->first_above_time) {
        r.ok_to_drop = true;
    }
    return r;
}

/* The packet that is served; -1: none. */
static inline int plain_deque(struct plain_codel *q, double now)
{
    struct plain_result r = plain_dodequeue(q, now);

    if (q->dropping) {
        if (!r.ok_to_drop)
            q->dropping = false;
        for (unsigned n = 0; now >= q->drop_next && q->dropping; n++) {
            q->fate[r.p] = PLAIN_DROPPED;
            ++q->count;
            r = plain_dodequeue(q, now);
            if (!r.ok_to_drop)
                q->dropping = false;
            else
                q->drop_next = plain_control_law(q, q->drop_next);
            q->loops += n == 1;
        }
    } else if (r.ok_to_drop) {
        q->fate[r.p] = PLAIN_DROPPED;
        r = plain_dodequeue(q, now);
        q->dropping = true;
        unsigned delta = q->count - q->lastcount;
        q->count = 1;
        if (delta > 1 && now - q->drop_next < 16 * q->interval) {
            q->count = delta;
            q->reentries++;
        }
        q->drop_next = plain_control_law(q, now);
        q->lastcount = q->count;
    }
    if (r.p >= 0)
        q->fate[r.p] = PLAIN_SERVED;
    return r.p;
}
