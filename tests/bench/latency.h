/* What the verb `latency` shares with its measurements; each runs in two processes (twins.h). */
#pragma once

#include "dataplane/io/lcore/port.h"
#include "tests/bench/twins.h"
#include "trainer/experiment/histogram.h"

/* Sealed packets of fixed size to and fro, one at a time: what the full path is held against. */
struct latency_ping {
    uint32_t up_bytes, down_bytes; /* plaintext */
    uint32_t blocking;             /* the kernel's: sleep in recv instead of spinning on it */
    double seconds;
    struct sl_histogram rtt;
    uint64_t wrong; /* tags that did not fit */
    uint32_t over;  /* atomic: no ping is to come */
};
/* Both for bench_twins_run; side 0 sends first. */
int latency_bare_side(struct bench_twin *);       /* over memif, with nothing else */
int latency_kernel_udp_side(struct bench_twin *); /* over veth between two network namespaces */

enum latency_backend { LATENCY_MEMIF, LATENCY_URING_UDP };

/* Messages through data lcores on both sides: the real endpoint, ingest, port. Open loop, but for rate 0. */
struct latency_full {
    enum latency_backend backend;
    uint32_t rows;      /* of 64 bytes: with as many target ids the message fills its fragments */
    uint32_t echo;      /* the tensor comes back as gradient; 0: EVAL, its RESULT ends the message */
    uint32_t poisson;   /* else even spacing */
    uint32_t in_flight; /* messages at a time, grants held in advance included; at most 8 */
    double rate;        /* messages a second; 0: closed loop, as fast as it goes */
    double seconds, warm_up_seconds;
    uint64_t key_update_packets; /* 0: as always */
    uint32_t edge_adaptive;      /* the edge's lcore sleeps when it has nothing to do */
    double idle_seconds;         /* before the first message; the edge's process is watched */
    /* Results: of messages planned after the warm-up. */
    struct sl_histogram planned; /* completion, counted from the planned time */
    struct sl_histogram sent;    /* from when the generator gave it to the endpoint */
    struct sl_histogram lag;     /* planned time until the generator got to it */
    double idle_cpu;             /* share of a CPU that the edge's whole process used while idle */
    uint64_t n_planned, n_sent, n_done, lost_steps;
    struct sl_endpoint_stats endpoint[2]; /* device, edge */
    struct sl_port_stats port[2];
    uint32_t up_packet_bytes, down_packet_bytes, n_units;
    uint32_t go, over; /* atomic */
};
int latency_full_side(struct bench_twin *); /* side 0: device; side 1: edge */

/* Units of a message of `rows` rows: tensor and targets. */
uint32_t latency_units(uint32_t rows);
/* The most rows whose message fits in `units`. */
uint32_t latency_rows(uint32_t units);
