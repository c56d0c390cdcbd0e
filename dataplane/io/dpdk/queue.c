/* Datagrams in and out of a DPDK port, on the thread of its queue. */
#include "dataplane/io/dpdk/headers.h"
#include "dataplane/io/dpdk/port_internal.h"

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <stdio.h>
#include <time.h>

static inline struct sl_dpdk_port *port_of(struct sl_queue *q)
{
    return ((struct sl_dpdk_queue *)q)->port;
}

static inline bool link_is_up(const struct sl_dpdk_port *p)
{
    return __atomic_load_n(&p->link_up, __ATOMIC_ACQUIRE) != 0;
}

int sl_dpdk_queue_enter(struct sl_queue *q, char *err, size_t cap)
{
    if (rte_thread_register() == 0) /* gives it packet buffer caches of its own */
        return 0;
    snprintf(err, cap, "DPDK does not take another thread: %s", rte_strerror(rte_errno));
    return -rte_errno;
}

void sl_dpdk_queue_leave(struct sl_queue *q)
{
    rte_thread_unregister();
}

bool sl_dpdk_queue_rests(struct sl_queue *q)
{
    struct sl_dpdk_port *p = port_of(q);
    return link_is_up(p) && !sl_gate_open(&p->gate);
}

void sl_dpdk_queue_sleep(struct sl_queue *q, uint64_t ns)
{
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

static enum sl_port_drop take(struct rte_mbuf *m, struct sl_dgram *d)
{
    /* A memif peer writes the length. */
    if (m->nb_segs != 1 || m->data_len > m->buf_len - m->data_off)
        return SL_PORT_BAD_LENGTH;
    d->buffer = m;
    return sl_headers_read(rte_pktmbuf_mtod(m, uint8_t *), m->data_len, d);
}

unsigned sl_dpdk_queue_rx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    struct sl_dpdk_port *p = port_of(q);
    struct rte_mbuf *m[SL_PORT_BURST];
    if (!sl_gate_turn(&p->gate))
        return 0;
    unsigned got = rte_eth_rx_burst(p->id, 0, m, (uint16_t)(n < SL_PORT_BURST ? n : SL_PORT_BURST)), kept = 0;
    if (got == 0)
        return 0;
    sl_pools_took(&p->pools, m, got);
    if (__builtin_expect(p->capture != NULL, 0))
        sl_capture_packets(p->capture, 0, m, got, false);
    for (unsigned i = 0; i < got; i++)
        rte_prefetch0(rte_pktmbuf_mtod(m[i], void *));
    uint64_t bytes = 0;
    for (unsigned i = 0; i < got; i++) {
        enum sl_port_drop why = take(m[i], &d[kept]);
        if (why == SL_PORT_DROP_COUNT) {
            bytes += d[kept++].len;
        } else {
            sl_dpdk_count(&p->stats.drops[why], 1);
            sl_pools_put(&p->pools, m[i]);
        }
    }
    sl_dpdk_count(&p->stats.rx_packets, kept);
    sl_dpdk_count(&p->stats.rx_bytes, bytes);
    return kept;
}

unsigned sl_dpdk_queue_alloc(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    struct sl_dpdk_port *p = port_of(q);
    struct rte_mbuf *m[SL_PORT_BURST];
    n = n < SL_PORT_BURST ? n : SL_PORT_BURST;
    if (sl_pools_alloc(&p->pools, m, n) != 0) {
        sl_dpdk_count(&p->stats.drops[SL_PORT_NO_BUFFER], n);
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        d[i].data = (uint8_t *)m[i]->buf_addr + RTE_PKTMBUF_HEADROOM + SL_UDP4_BYTES;
        d[i].len = p->payload_max;
        d[i].ecn = 0;
        d[i].buffer = m[i];
    }
    return n;
}

void sl_dpdk_queue_free(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    struct sl_dpdk_port *p = port_of(q);
    for (unsigned i = 0; i < n; i++)
        sl_pools_put(&p->pools, d[i].buffer);
}

static void drop(struct sl_dpdk_port *p, struct rte_mbuf *m, enum sl_port_drop why)
{
    sl_dpdk_count(&p->stats.drops[why], 1);
    sl_pools_put(&p->pools, m);
}

static void frame(struct sl_dpdk_port *p, const struct sl_dgram *d)
{
    struct rte_mbuf *m = d->buffer;
    uint8_t *at = d->data - SL_UDP4_BYTES;
    sl_headers_write(at, p->mac, p->peer_mac, d);
    m->data_off = (uint16_t)(at - (uint8_t *)m->buf_addr);
    m->data_len = (uint16_t)(SL_UDP4_BYTES + d->len);
    m->pkt_len = m->data_len;
}

static bool sendable(const struct sl_dpdk_port *p, const struct sl_dgram *d)
{
    const struct rte_mbuf *m = d->buffer;
    return d->len <= p->payload_max && d->data - (uint8_t *)m->buf_addr >= SL_UDP4_BYTES &&
           sl_addr_is_ipv4(&d->src) && sl_addr_is_ipv4(&d->dst);
}

unsigned sl_dpdk_queue_tx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    struct sl_dpdk_port *p = port_of(q);
    struct rte_mbuf *m[SL_PORT_BURST];
    uint64_t bytes = 0;
    unsigned ready = 0, sent = 0;
    n = n < SL_PORT_BURST ? n : SL_PORT_BURST;
    bool up = link_is_up(p), open = sl_gate_open(&p->gate);
    const struct rte_mempool *current = sl_pools_current(&p->pools);
    for (unsigned i = 0; i < n; i++) {
        struct rte_mbuf *b = d[i].buffer;
        if (!up || b->pool != current) { /* of an old pool: written for a peer that is gone */
            drop(p, b, SL_PORT_LINK_DOWN);
        } else if (!sendable(p, &d[i])) {
            drop(p, b, SL_PORT_BAD_LENGTH);
        } else if (!open) {
            drop(p, b, SL_PORT_TX_FULL);
        } else {
            frame(p, &d[i]);
            bytes += d[i].len;
            m[ready++] = b;
        }
    }
    if (ready == 0)
        return 0;
    if (__builtin_expect(p->capture != NULL, 0))
        sl_capture_packets(p->capture, 0, m, ready, true);
    sent = rte_eth_tx_burst(p->id, 0, m, (uint16_t)ready);
    for (unsigned i = sent; i < ready; i++) {
        bytes -= m[i]->data_len - (uint64_t)SL_UDP4_BYTES;
        drop(p, m[i], SL_PORT_TX_FULL);
    }
    sl_pools_gave(&p->pools, current, sent);
    sl_dpdk_count(&p->stats.tx_packets, sent);
    sl_dpdk_count(&p->stats.tx_bytes, bytes);
    return sent;
}
