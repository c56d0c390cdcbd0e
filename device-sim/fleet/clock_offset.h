/* How far the edge's clock is ahead of this host's, from heartbeats and their answers (RFC 5905, section 8):
 *
 *   t1 heartbeat leaves here, t2 it reaches the edge, t3 its answer leaves the edge, t4 it is here
 *   offset = ((t2 - t1) + (t3 - t4)) / 2, round trip = (t4 - t1) - (t3 - t2)
 *
 * The truth lies within half a round trip of the offset, so of the last samples the one with the shortest is
 * believed (RFC 5905's clock filter). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SL_CLOCK_SAMPLES = 64 };

struct sl_clock_offset {
    uint64_t n; /* samples ever */
    struct sl_clock_sample {
        int64_t offset_ns, round_trip_ns;
    } sample[SL_CLOCK_SAMPLES];
};

/* Nanoseconds of CLOCK_REALTIME on either host. A sample that cannot be true (a negative round trip) is left
 * out. */
void sl_clock_offset_add(struct sl_clock_offset *, uint64_t t1, uint64_t t2, uint64_t t3, uint64_t t4);
/* The best of the last samples; false: there is none. */
bool sl_clock_offset_best(const struct sl_clock_offset *, int64_t *offset_ns, uint64_t *uncertainty_ns);
