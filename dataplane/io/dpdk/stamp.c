#define ALLOW_EXPERIMENTAL_API /* rte_eth_read_clock, of DPDK since 19.08 */
#include "dataplane/io/dpdk/stamp.h"
#include "dataplane/io/lcore/clock.h"

#include <rte_ethdev.h>
#include <rte_mbuf_dyn.h>

bool sl_stamps_offered(uint64_t rx_offload_capa)
{
    return (rx_offload_capa & RTE_ETH_RX_OFFLOAD_TIMESTAMP) != 0;
}

void sl_stamps_open(struct sl_stamps *s)
{
    s->on = rte_mbuf_dyn_rx_timestamp_register(&s->offset, &s->flag) == 0;
}

void sl_stamps_read_clock(struct sl_stamps *s, uint16_t port_id)
{
    uint64_t ticks, before = sl_clock_ns();
    if (s->on && rte_eth_read_clock(port_id, &ticks) == 0)
        sl_nic_clock_read(&s->clock, ticks, before, sl_clock_ns());
}

void sl_stamps_count(
    const struct sl_stamps *s, struct rte_mbuf *const *m, unsigned n, struct sl_port_stats *stats)
{
    uint64_t now = sl_clock_ns();
    for (unsigned i = 0; i < n; i++) {
        if ((m[i]->ol_flags & s->flag) == 0)
            continue;
        uint64_t at = sl_nic_clock_ns(&s->clock, *RTE_MBUF_DYNFIELD(m[i], s->offset, rte_mbuf_timestamp_t *));
        if (at == 0)
            continue;
        uint64_t wait = now > at ? now - at : 0; /* the clocks agree to some microseconds only */
        uint64_t *bucket = &stats->rx_wait[sl_port_wait_bucket(wait)];
        __atomic_store_n(bucket, *bucket + 1, __ATOMIC_RELAXED);
    }
}
