/* What a link does to given arrivals, computed afterwards and once more: a plain event simulation that shares
 * no code with device-sim/link, with the RFCs' own CoDel and PIE. */
#pragma once

#include "tests/bench/link_model.h"

struct bench_arrival {
    uint64_t at_ns;   /* since the run began */
    uint32_t bytes;   /* IP */
    uint64_t due_ns;  /* result: arrival at the other end; 0: dropped */
    uint64_t wait_ns; /* result: in queue and service */
};

/* Arrivals in order of time. -ENOMEM. */
int bench_link_exact(const struct bench_link_model *, struct bench_arrival *, size_t n);
