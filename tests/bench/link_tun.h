/* The emulator between two tun devices: IP packets from either go through the up or the down link to the
 * other. */
#pragma once

#include "tests/bench/link_model.h"
#include "trainer/experiment/histogram.h"

enum { BENCH_TUN_EDGE, BENCH_TUN_PHONE };

struct bench_tun_bridge;
int bench_tun_bridge_create(
    const struct bench_link_model *, unsigned mtu, const int tun[2], struct bench_tun_bridge **);
void bench_tun_bridge_free(struct bench_tun_bridge *);
/* Moves packets until until_ns (bench_now_ns). */
void bench_tun_bridge_run(struct bench_tun_bridge *, uint64_t until_ns);
/* Begins to count: queue[] and the links' counters from here on. */
void bench_tun_bridge_mark(struct bench_tun_bridge *);
uint64_t bench_tun_bridge_start(const struct bench_tun_bridge *); /* the trace's start, as bench_now_ns */
/* Of packets delivered by the uplink since the mark: time in queue and service, ns. */
const struct sl_histogram *bench_tun_bridge_queue(const struct bench_tun_bridge *);
void bench_tun_bridge_json(cJSON *to, const struct bench_tun_bridge *); /* packets, drops by name, lateness */
