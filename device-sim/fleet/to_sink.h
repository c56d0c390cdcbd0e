/* `sluice-sim --sink` and `--pcap`: an experiment's phones as plain UDP flows (device-sim/sink). Needs the
 * experiment and the model's config.json alone: neither text nor weights, and no run directory. */
#pragma once

#include "device-sim/fleet/options.h"

#include <signal.h>

/* Prints what it did; returns the exit status, or -errno with err. */
int sl_to_sink(
    const struct sl_sim_options *, const volatile sig_atomic_t *signals, char *err, size_t err_cap);
