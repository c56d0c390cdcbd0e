/* What is sent: how many sessions, messages of which shape, in packets of which size. Both processes know it
 * from before the fork. */
#pragma once

#include "dataplane/transport/endpoint.h"
#include "tests/bench/ends.h"

enum { BENCH_CORES_MAX = 16 };

struct bench_load {
    struct bench_link link;
    uint32_t sessions, slots;    /* slots: of each data lcore */
    uint32_t cores;              /* data lcores: session i is the (i modulo cores)-th's */
    uint32_t grants_per_session; /* 0: ingest's default */
    uint16_t fragment_units;     /* of a full DATA packet */
    enum sl_codec codec;
    uint32_t d_model, seqs, rows_each;
    struct sl_grid grid;
    uint32_t window; /* packets in flight for each session */
    int cpu[2];      /* of the receiver's first and the sender's data thread; -1: not pinned */
};

/* Fills the rest from link.backend, sessions, slots, codec and payload_bytes (a packet's tensor bytes,
 * rounded to the nearest unit): grid, MTU, window, CPUs. -EINVAL: err. */
int bench_load_make(struct bench_load *, uint64_t payload_bytes, char *err, size_t cap);
/* Session i, as the receiver or the sender opens it. */
struct sl_session_config bench_load_session(const struct bench_load *, enum bench_side, uint32_t i);
struct sl_request bench_load_request(const struct bench_load *, uint64_t step);
