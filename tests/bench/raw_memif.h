/* A memif port with nothing of ours around it: what a bare loop polls. rte_eth bursts on port `id`, buffers
 * from `pool`. Once a process, which must not outlive its peer by much: nothing here guards against the
 * driver's crash at the peer's end (io/dpdk/gate.h does). */
#pragma once

#include "tests/bench/twins.h"

#include <stdbool.h>
#include <stdint.h>

struct rte_mempool;

struct bench_raw_memif {
    uint16_t id;
    struct rte_mempool *pool;
};

/* Starts EAL and the port on the calling thread, and waits until the link is up. Side 0 serves, side 1 is the
 * zero-copy client. 0, or -errno and the side's err. */
int bench_raw_memif_open(struct bench_twin *, unsigned ring_log2, struct bench_raw_memif *);
