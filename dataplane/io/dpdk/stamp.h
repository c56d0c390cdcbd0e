/* How long packets lay between the NIC and the data lcore, on ports that stamp what they receive (mbuf
 * timestamps, RTE_ETH_RX_OFFLOAD_TIMESTAMP) and let their clock be read. Elsewhere nothing is asked for and
 * nothing is counted. */
#pragma once

#include "dataplane/io/dpdk/nic_clock.h"
#include "dataplane/io/lcore/port.h"

struct rte_mbuf;
struct sl_stamps {
    bool on;
    int offset;    /* of the dynamic field in an mbuf */
    uint64_t flag; /* of ol_flags: the field holds a stamp */
    struct sl_nic_clock clock;
};

/* Before the port is configured: whether its driver offers stamps; then they are to be asked for. */
bool sl_stamps_offered(uint64_t rx_offload_capa);
/* After it is configured with them: finds the mbuf's field. Not an error where DPDK has no room for it. */
void sl_stamps_open(struct sl_stamps *);
/* The watching thread, ten times a second. A port whose clock cannot be read has its stamps left alone. */
void sl_stamps_read_clock(struct sl_stamps *, uint16_t port_id);
/* Queue's thread: a burst as it came. Adds to rx_wait of the queue's stats. */
void sl_stamps_count(
    const struct sl_stamps *, struct rte_mbuf *const *, unsigned n, struct sl_port_stats *stats);
