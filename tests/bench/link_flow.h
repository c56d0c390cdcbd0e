/* A flow of data from a phone to the edge through two tun devices (tun.h), as fast as its congestion control
 * lets it: a TCP stream of the kernel's, or messages of our transport over UDP sockets. Each end is a thread
 * in a network namespace of its own. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

enum bench_flow_kind { BENCH_FLOW_TCP, BENCH_FLOW_SLUICE };
enum bench_flow_end { BENCH_FLOW_EDGE, BENCH_FLOW_PHONE, BENCH_FLOW_ENDS };

struct bench_flow {
    enum bench_flow_kind kind;
    const char *congestion; /* TCP: "cubic" and the like */
    uint32_t window;        /* ours: packets in flight */
    unsigned mtu;
    int tun[BENCH_FLOW_ENDS];
    /* atomic */
    uint64_t received;     /* bytes of payload that came whole, once each */
    uint64_t rtt_ns;       /* the sender's smoothed one */
    uint64_t sent_again;   /* segments or packets */
    uint32_t stop, failed; /* failed: err says why */
    char err[200];
    /* of the flow's own */
    pthread_t thread[BENCH_FLOW_ENDS];
    pthread_barrier_t met;
};

/* Makes both namespaces and devices; the caller then moves the packets from tun[0] to tun[1] and back until
 * it stops the flow. The fields above `tun` are set. 0, or -errno and flow->err. */
int bench_flow_start(struct bench_flow *);
void bench_flow_stop(struct bench_flow *);

/* The ends, by kind; until flow->stop. */
void bench_flow_tcp(struct bench_flow *, enum bench_flow_end);
void bench_flow_sluice(struct bench_flow *, enum bench_flow_end);
void bench_flow_fail(struct bench_flow *, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool bench_flow_over(const struct bench_flow *);
