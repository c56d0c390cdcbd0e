#include "device-sim/fleet/clock_offset.h"

void sl_clock_offset_add(struct sl_clock_offset *c, uint64_t t1, uint64_t t2, uint64_t t3, uint64_t t4)
{
    /* Differences first: modulo 2^64 they are right whatever the peer says. */
    int64_t there = (int64_t)(t2 - t1), back = (int64_t)(t3 - t4);
    int64_t round_trip = (int64_t)((t4 - t1) - (t3 - t2));

    if (round_trip < 0)
        return;
    /* halves first, so that two large ones do not overflow */
    c->sample[c->n++ % SL_CLOCK_SAMPLES] = (struct sl_clock_sample){
        .offset_ns = there / 2 + back / 2 + (there % 2 + back % 2) / 2, .round_trip_ns = round_trip};
}

bool sl_clock_offset_best(const struct sl_clock_offset *c, int64_t *offset_ns, uint64_t *uncertainty_ns)
{
    uint64_t held = c->n < SL_CLOCK_SAMPLES ? c->n : SL_CLOCK_SAMPLES;
    const struct sl_clock_sample *best = &c->sample[0];

    for (uint64_t i = 1; i < held; i++)
        if (c->sample[i].round_trip_ns < best->round_trip_ns)
            best = &c->sample[i];
    *offset_ns = best->offset_ns;
    *uncertainty_ns = (uint64_t)best->round_trip_ns / 2;
    return held != 0;
}
