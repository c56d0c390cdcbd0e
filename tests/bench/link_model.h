/* What `link` emulates, as its options say: one link, for the emulator; and the opportunities of a trace, for
 * what is computed beside it. */
#pragma once

#include "device-sim/link/link.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bench_link_model {
    /* the options */
    const char *trace; /* a Mahimahi file; NULL: a constant rate */
    double rate_mbps;  /* 0 with a trace */
    double rtt_ms;     /* half of it is the link's delay */
    const char *queue; /* its kind */
    uint64_t queue_kib, queue_packets;
    double target_ms, interval_ms;
    /* made of them */
    struct sl_link_params up;      /* its service begins with the trace's start at time 0 */
    uint64_t key;                  /* of the link's random numbers */
    struct sl_trace opportunities; /* as the emulator reads them */
    uint32_t *up_ms;               /* as they are read here; NULL: a constant rate */
    size_t n_up;
};

int bench_link_model_make(struct bench_link_model *, char *err, size_t cap); /* -EINVAL and the like; err */
void bench_link_model_free(struct bench_link_model *);
void bench_link_model_json(cJSON *to, const struct bench_link_model *);
/* The link for somebody whose clock shows start_ns at the trace's start. */
struct sl_link_params bench_link_model_from(const struct bench_link_model *, uint64_t start_ns);
/* Bytes that the link could deliver in [from, until) after the trace's start. */
double bench_link_model_capacity(const struct bench_link_model *, uint64_t from_ns, uint64_t until_ns);
double bench_link_model_mean_mbps(const struct bench_link_model *);
