/* The machine's facts, as a result quotes them, and what on it spoils a measurement. */
#pragma once

#include "dataplane/io/lcore/cycles.h"

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

struct bench_machine {
    char cpu_model[128], kernel[128], governor[32], isolated[64], transparent_huge_pages[32];
    char openblas_coretype[32]; /* of the environment; "" where unset */
    unsigned cpus_online, cpus_usable;
    uint64_t tsc_hz; /* measured against CLOCK_MONOTONIC */
    bool tsc_invariant, virtual_machine, avx512, vaes, sanitized;
    long huge_pages_total, huge_pages_free, huge_page_kib;
    double load_1, load_5, load_15;
};

const struct bench_machine *bench_machine(void); /* read once */
uint64_t bench_tsc_hz(void);
cJSON *bench_machine_json(void);
/* Appends a line to `warnings` for everything that spoils a measurement: what it is, and the cure. */
void bench_machine_warn(cJSON *warnings);

/* The n-th CPU that this process may run on; -1: it has fewer. */
int bench_cpu(unsigned n);
/* Pins the calling thread; -errno. */
int bench_pin(int cpu);

uint64_t bench_now_ns(void);         /* CLOCK_MONOTONIC */
uint64_t bench_cpu_ns(void);         /* that this process has had, all threads */
uint64_t bench_resident_bytes(void); /* of this process */

/* What others took from this process between two looks: its involuntary switches, and CPU time of the host
 * that was neither idle nor ours. */
struct bench_noise {
    uint64_t switches, busy_ticks, own_ticks, steal_ticks, at_ns;
};
void bench_noise_look(struct bench_noise *);
cJSON *bench_noise_json(const struct bench_noise *from); /* from then to now; adds "busy_others": in CPUs */
