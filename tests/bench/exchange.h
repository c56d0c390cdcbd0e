/* Slots handed from a data lcore to a trainer and back, one at a time, over the two real rings: what
 * `handoff` times and the test of its system calls watches. */
#pragma once

#include "dataplane/ingest/slot_table.h"
#include "dataplane/ring/ring.h"
#include "trainer/experiment/histogram.h"

#include <stdbool.h>

struct bench_exchange {
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    uint64_t n;               /* hand-offs to make; 0: until stopped */
    uint64_t interval_cycles; /* between the starts of two */
    double ns_per_cycle;
    int cpu[2];            /* data lcore, trainer; -1: not pinned */
    int (*seal)(void);     /* runs on both threads before the first hand-off; not 0 ends it; NULL: nothing */
    uint32_t stop, sealed; /* atomic */
    int seal_error;        /* atomic */
    uint64_t done;         /* atomic */
    uint64_t switches[2];  /* involuntary, of the two threads */
    uint64_t wrong;        /* handles that were not the ones handed over */
    /* In ns. Each way: until the handle is out of the ring; and until the slot that it names has been read,
     * too. */
    struct sl_histogram to_trainer, to_lcore, to_trainer_read, to_lcore_read, round_trip;
};

int bench_exchange_init(
    struct bench_exchange *, uint32_t n_slots); /* the rest of the fields is the caller's */
void bench_exchange_free(struct bench_exchange *);
/* One cache line written in turn by the two CPUs, each waiting for the other: ns one way, the least that any
 * hand-off costs here. Median of many. */
double bench_exchange_line_ns(int cpu_a, int cpu_b, unsigned turns);
/* Thread bodies. Each returns NULL once done; sealed ones must not return (leaving a thread is a system
 * call): they spin when `seal` is set. */
void *bench_exchange_lcore(void *);
void *bench_exchange_trainer(void *);
