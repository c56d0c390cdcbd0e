/* What an experiment's own links do to given arrivals, in virtual time: for models that no plain simulation
 * stands beside (a radio cell, radio states). It is the model's code again, so it checks what real time adds.
 */
#pragma once

#include "device-sim/fleet/phone_links.h"
#include "tests/bench/link_exact.h"

/* Arrivals in order of time, towards phone 0; time 0 of the run is start_ns. 0 or -errno and err. */
int bench_link_virtual(const struct sl_experiment *, const struct sl_phone_addresses *, uint64_t start_ns,
    struct bench_arrival *, size_t n, char *err, size_t cap);
/* What the link towards phone 0 could carry on average in that time, Mbit/s; 0: it cannot be said. */
double bench_link_virtual_mbps(
    const struct sl_experiment *, const struct sl_phone_addresses *, uint64_t start_ns, double seconds);
