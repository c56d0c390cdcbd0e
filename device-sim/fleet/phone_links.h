/* From the experiment's classes to the emulated links and radio states of all phones. */
#pragma once

#include "device-sim/fleet/emulator.h"
#include "trainer/experiment/experiment.h"

/* start_ns: time 0 of the run, from which traces and outages count. max_packets: under way in each direction,
 * all phones together. -ENOMEM, -EINVAL and others with err. */
int sl_phone_links_open(const struct sl_experiment *, const struct sl_phone_addresses *, uint32_t max_packets,
    uint64_t start_ns, struct sl_emulator **, char *err, size_t err_cap);
