/* A run's traffic profile: what RUN/traffic.jsonl and RUN/sim.jsonl say, by class of phones. Per class:
 *
 *   up, down: mbit_s offered, carried and allowed by the link (means over the watched phones and the run),
 *     busy_mbit_s: carried, quantiles over busy samples (3,000 bytes and more), dropped packets,
 *     wait_ms (time in the queue, service included) and queued_kib quantiles over busy samples
 *   bursts of the uplink: runs of samples in which the phone offered 3,000 bytes and more: kib, on_s, off_s
 *     quantiles
 *   cell, of phones that a radio cell serves: snr_up_db, snr_down_db quantiles over busy samples, handovers
 *     of a phone, cells that were used
 *   rtt_ms quantiles, states and radios (shares of time), battery, temp_c, clock (lowest, highest)
 *   energy_j per cause, a phone's mean over all phones of the class, at the end of the run
 *
 * A burst is known to one sample (100 ms in the first ten minutes). Of a run that was resumed, the last part.
 */
#pragma once

#include <cjson/cJSON.h>
#include <stdio.h>

/* NULL with err: no such run, or a file that cannot be understood (FILE:LINE: ...). */
cJSON *sl_profile(const char *run_dir, char *err, size_t err_cap);
/* The same of open files; the names are for messages. */
struct sl_profile_source {
    FILE *traffic, *events;
    const char *traffic_name, *events_name;
};
cJSON *sl_profile_read(const struct sl_profile_source *, char *err, size_t err_cap);
void sl_profile_print(const cJSON *profile);
