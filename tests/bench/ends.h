/* The two ends of a link over which sender and receiver meet: one back end, opened on either side. */
#pragma once

#include "dataplane/io/lcore/port.h"

#include <sys/types.h>

enum bench_side { BENCH_RECEIVER, BENCH_SENDER };

struct bench_link {
    const char *backend; /* one of bench_backends */
    uint32_t mtu;
    unsigned cores; /* queues of the receiver, each with a UDP port */
    char dir[64];   /* run directory of this measurement, 0700 */
    uint32_t *step; /* atomic, shared by both processes: how far they are with joining their namespaces */
    pid_t peer;     /* the receiver's: the sender's process */
};

/* memif; and over a veth pair between two network namespaces, which takes root: af_xdp, af_packet, uring_udp
 * (with UDP GSO and GRO), uring_udp_plain (without). NULL-terminated. */
extern const char *const bench_backends[];
/* Whether the link may lose what the sender's port has taken without the receiver's knowing: all but memif.
 */
bool bench_link_lossy(const struct bench_link *);

/* Before the fork: makes the run directory, and a network namespace for this process where the back end takes
 * one. 0, -errno; err: one line. -ENOTSUP and -EPERM: the host lacks what it takes. */
int bench_link_prepare(struct bench_link *, char *err, size_t cap);
/* In each process: starts DPDK where the back end is of DPDK's, and opens its end. */
int bench_link_open(struct bench_link *, enum bench_side, struct sl_port **, char *err, size_t cap);
void bench_link_close(struct sl_port *);
void bench_link_remove(struct bench_link *); /* the run directory */
struct sl_addr bench_link_addr(const struct bench_link *, enum bench_side, unsigned core);
