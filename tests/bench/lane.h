/* One data lcore of the receiver, or its bare loop: endpoint, ingest, slots, rings, and a meter around its
 * queue of the port. */
#pragma once

#include "dataplane/ingest/ingest.h"
#include "dataplane/ingest/slot_table.h"
#include "tests/bench/bare.h"
#include "tests/bench/meter.h"

struct bench_lane {
    unsigned index;
    int cpu;
    struct bench_load *load;
    const struct bench_material *material;
    struct bench_meter meter;
    struct sl_endpoint *endpoint;
    struct sl_ingest *ingest;
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct bench_bare bare;
    uint8_t **slot_of_session;       /* BARE */
    bool consumer_thread;            /* the trainer has a CPU of its own */
    uint32_t consumer_stop;          /* atomic */
    uint64_t consumed, wrong;        /* messages; those whose ends are not the material's */
    uint64_t bare_taken, bare_wrong; /* packets in all; tags that were wrong */
};

int bench_lane_make(struct bench_lane *, unsigned index, struct bench_load *, const struct bench_material *);
int bench_lane_enter(struct bench_lane *, struct sl_queue *); /* the port is there: -ENOMEM */
void bench_lane_free(struct bench_lane *);
/* The trainer's place: takes what is ready and gives it back evaluated. */
void bench_lane_consume(struct bench_lane *);
/* Calls consume() on a CPU of its own until consumer_stop. */
void *bench_lane_consumer(void *lane);
