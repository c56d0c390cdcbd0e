/* RUN/traffic.jsonl: what some phones' links, radios and batteries did, sample by sample. Bounded: at most
 * SL_TRAFFIC_PHONES phones, spread evenly over the fleet; a sample every 100 ms, and after each
 * SL_TRAFFIC_SAMPLES samples half as often. docs/device-sim.md, "Looking at a run", lists the keys. One
 * thread; times are the caller's. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SL_TRAFFIC_PHONES = 32,
    SL_TRAFFIC_SAMPLES = 6000, /* ten minutes at the first interval */
    SL_TRAFFIC_INTERVAL_MS = 100,
    SL_TRAFFIC_TOTALS_PER_S = 20000, /* phones looked at for the fleet's totals, at most */
};

/* Of a phone and direction, since its beginning. IP bytes. */
struct sl_traffic_link {
    uint64_t offered, carried; /* entered the link; arrived at its end */
    uint64_t dropped;          /* packets, whatever the name */
    uint64_t served, wait_ns;  /* packets that left the queue by service, and their time in it */
    uint64_t queued;           /* bytes in the queue now */
    double allowed;            /* bytes that the link could have carried; below 0: not known */
};

/* The cell that serves both directions of a phone. */
struct sl_traffic_cell {
    uint32_t cell;                 /* as the experiment file counts them, from 1; 0: it is in none */
    uint64_t handovers;            /* since its beginning */
    double snr_up_db, snr_down_db; /* of its last look, without fading */
};

struct sl_traffic_phone {
    uint32_t index;
    const char *class_name, *service; /* what serves its links: "rate", "trace", "series", "granted" */
    struct sl_traffic_link up, down;
    struct sl_traffic_cell cell;
    uint64_t rtt_ns;                      /* smoothed; 0: none yet */
    uint8_t state, radio;                 /* numbers of sl_traffic_names */
    double battery, temperature_c, clock; /* battery, clock: shares */
};

/* Of the whole fleet, since its beginning: UDP payload. */
struct sl_traffic_totals {
    uint64_t sent_up, arrived_down;
};

struct sl_traffic_names {
    const char *const *states, *const *radios;
    unsigned n_states, n_radios;
};

struct sl_traffic;
/* Appends; `phones`: index, class_name and service of those that will be given to each sample. */
int sl_traffic_open(const char *path, uint32_t n_fleet, const struct sl_traffic_phone *phones, uint32_t n,
    const struct sl_traffic_names *, uint64_t start_ns, struct sl_traffic **, char *err, size_t err_cap);
void sl_traffic_close(struct sl_traffic *);
uint64_t sl_traffic_deadline(const struct sl_traffic *); /* of the next sample */
bool sl_traffic_wants_totals(const struct sl_traffic *); /* with the next sample */
/* taken_ns: what the links' figures are of; now_ns: the rest. `totals` NULL: none this time. -errno of a
 * write: no more are written. */
int sl_traffic_sample(struct sl_traffic *, uint64_t now_ns, uint64_t taken_ns,
    const struct sl_traffic_phone *phones, const struct sl_traffic_totals *);
/* Which phone is the k-th of those that are watched, of n. */
uint32_t sl_traffic_watched(uint32_t n_fleet, uint32_t n, uint32_t k);
