/* The receiving process: the whole path on a real data lcore (full), or the bare loop over the same port,
 * packets and slots. Each runs for a while with the sender in the phase that belongs to it. */
#pragma once

#include "tests/bench/lane.h"
#include "tests/bench/pair.h"

#include <cjson/cJSON.h>

struct bench_round {
    struct bench_turns turns;
    double seconds;          /* of the wall, within the phase */
    uint64_t packets, bytes; /* DATA packets and their tensor bytes that came in that time */
    /* Cycles of busy turns, a DATA packet: the median over windows of some thousand packets (bench_meter),
     * which a short disturbance does not move; the mean; and that with the interrupted turns. */
    double cycles_per_packet, cycles_per_packet_mean, cycles_per_packet_raw;
};

struct bench_receiver {
    struct bench_load *load;
    struct bench_pair *pair;
    struct sl_port *port;
    unsigned n_lanes;
    struct bench_lane lane[BENCH_CORES_MAX];
    struct bench_material material;
};

/* Everything but the port. */
int bench_receiver_make(
    struct bench_receiver *, struct bench_load *, struct bench_pair *, char *err, size_t cap);
int bench_receiver_open(struct bench_receiver *, char *err, size_t cap); /* the port; waits for the link */
void bench_receiver_free(struct bench_receiver *);

int bench_receiver_full(
    struct bench_receiver *, double seconds, bool staged, struct bench_round *, char *err, size_t cap);
/* open false: packets are received and given back unopened. */
int bench_receiver_bare(
    struct bench_receiver *, double seconds, bool open, struct bench_round *, char *err, size_t cap);
/* Cycles a packet of opening alone, over as many buffers as a ring holds: with the sender idle, and with the
 * sender sealing, as in the rounds; where its CPU is a thread of the same core the second is far more. */
int bench_receiver_aead(
    struct bench_receiver *, double seconds, double *alone, double *beside, char *err, size_t cap);

/* Until all that the sender's port took has come out of ours, at most ten seconds. */
void bench_receiver_await_rest(struct bench_receiver *);
/* Writes offered, delivered, lost, drops{}, uncounted and what became of the messages: every packet that the
 * sender made is delivered, or lost under a name. Returns how many are neither, wrong messages included. */
uint64_t bench_receiver_account(const struct bench_receiver *, cJSON *result);
/* The frame of a measurement by two processes: makes link, sender and receiver, runs `measure`, takes all
 * away. Returns its status, or BENCH_FAILED, _SKIPPED, _USAGE. */
int bench_receiver_run(struct bench_load *, uint64_t payload_bytes,
    int (*measure)(struct bench_receiver *, cJSON *result, char *err, size_t cap), cJSON *result, char *err,
    size_t cap);
