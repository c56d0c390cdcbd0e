/* The two ends of a link over which sender and receiver meet: one back end, opened on either side. */
#pragma once

#include "dataplane/io/lcore/port.h"

enum bench_side { BENCH_RECEIVER, BENCH_SENDER };

struct bench_link {
    const char *backend; /* one of bench_backends */
    uint32_t mtu;
    char dir[64]; /* run directory of this measurement, 0700 */
};

extern const char *const bench_backends[]; /* NULL-terminated */

/* Before the fork: makes the run directory and what else the back end needs. 0, -errno; err: one line.
 * -ENOTSUP and -EPERM: the host lacks what it takes. */
int bench_link_prepare(struct bench_link *, char *err, size_t cap);
/* In each process: starts DPDK where the back end is of DPDK's, and opens its end. */
int bench_link_open(struct bench_link *, enum bench_side, struct sl_port **, char *err, size_t cap);
void bench_link_close(struct sl_port *);
void bench_link_remove(struct bench_link *); /* the run directory */
struct sl_addr bench_link_addr(const struct bench_link *, enum bench_side);
