/* Datagrams in and out of a DPDK port, on the thread of its queue. */
#include "dataplane/io/dpdk/headers.h"
#include "dataplane/io/dpdk/port_internal.h"

#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <stdio.h>
#include <string.h>

static inline struct sl_dpdk_queue *queue_of(struct sl_queue *q)
{
    return (struct sl_dpdk_queue *)q;
}

static inline bool link_is_up(const struct sl_dpdk_port *p)
{
    return __atomic_load_n(&p->link_up, __ATOMIC_ACQUIRE) != 0;
}

int sl_dpdk_queue_enter(struct sl_queue *queue, char *err, size_t cap)
{
    struct sl_dpdk_queue *q = (struct sl_dpdk_queue *)queue;
    if (rte_thread_register() != 0) { /* gives it packet buffer caches of its own */
        snprintf(err, cap, "DPDK does not take another thread: %s", rte_strerror(rte_errno));
        return -rte_errno;
    }
    sl_gate_enter(&q->port->gate, q->index);
    return 0;
}

void sl_dpdk_queue_leave(struct sl_queue *queue)
{
    struct sl_dpdk_queue *q = (struct sl_dpdk_queue *)queue;
    sl_gate_leave(&q->port->gate, q->index);
    rte_thread_unregister();
}

bool sl_dpdk_queue_rests(struct sl_queue *queue)
{
    const struct sl_dpdk_queue *q = (struct sl_dpdk_queue *)queue;
    return link_is_up(q->port) && !sl_gate_open(&q->port->gate, q->index);
}

void sl_dpdk_queue_sleep(struct sl_queue *q, uint64_t ns)
{
    sl_sleep_for(&queue_of(q)->sleep, ns);
}

void sl_dpdk_queue_wake(struct sl_queue *q)
{
    sl_sleep_wake(&queue_of(q)->sleep);
}

/* The last neighbour of a burst: mostly they all come by one. */
struct came_by {
    uint64_t neighbour;
    uint16_t hop;
};

static uint16_t hop_of(struct sl_dpdk_port *p, uint64_t neighbour, struct came_by *last)
{
    if (neighbour != last->neighbour) {
        last->neighbour = neighbour;
        last->hop = sl_neighbours_put(&p->neighbours, neighbour, __atomic_load_n(&p->tick, __ATOMIC_RELAXED));
    }
    return last->hop;
}

static bool is_ours(const struct sl_dpdk_port *p, const struct sl_addr *a)
{
    if (p->udp_port != 0 && (uint16_t)(a->port - p->udp_port) >= p->n_udp_ports)
        return false;
    return memcmp(a->ip, p->own_ip, sizeof(p->own_ip)) == 0 || p->self.owns(p->self.ctx, a->ip);
}

static enum sl_port_drop take(
    struct sl_dpdk_port *p, struct rte_mbuf *m, struct sl_dgram *d, struct came_by *last)
{
    uint64_t neighbour;
    /* A memif peer writes the length. */
    if (m->nb_segs != 1 || m->data_len > m->buf_len - m->data_off)
        return SL_PORT_BAD_LENGTH;
    d->buffer = m;
    enum sl_port_drop why = sl_headers_read(rte_pktmbuf_mtod(m, uint8_t *), m->data_len, d, &neighbour);
    if (p->link == SL_LINK_PEER || why != SL_PORT_DROP_COUNT)
        return why;
    if (!is_ours(p, &d->dst))
        return SL_PORT_NOT_OURS;
    d->src.hop = hop_of(p, neighbour, last);
    return why;
}

static void refuse(struct sl_dpdk_queue *q, struct rte_mbuf *m, enum sl_port_drop why)
{
    struct sl_dpdk_port *p = q->port;
    if (why == SL_PORT_NOT_UDP && p->link == SL_LINK_OWN && sl_dpdk_link_answer(q, m))
        return;
    sl_dpdk_count(&q->stats.drops[why], 1);
    sl_pools_put(&q->pools, m);
}

/* From the device's queues that are this one's, each first in turn. */
static unsigned rx_burst(struct sl_dpdk_queue *q, struct rte_mbuf **m, unsigned n)
{
    uint16_t id = q->port->id;
    if (__builtin_expect(q->n_rings == 1, 1))
        return rte_eth_rx_burst(id, q->ring, m, (uint16_t)n);
    unsigned got = 0, ring = q->next_ring;
    for (unsigned i = 0; i < q->n_rings && got < n; i++) {
        got += rte_eth_rx_burst(id, (uint16_t)(q->ring + ring), m + got, (uint16_t)(n - got));
        ring = ring + 1 < q->n_rings ? ring + 1 : 0;
    }
    q->next_ring = q->next_ring + 1 < q->n_rings ? q->next_ring + 1 : 0;
    return got;
}

unsigned sl_dpdk_queue_rx(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct sl_dpdk_queue *q = (struct sl_dpdk_queue *)queue;
    struct sl_dpdk_port *p = q->port;
    struct rte_mbuf *m[SL_PORT_BURST];
    struct came_by last = {0};
    if (!sl_gate_turn(&p->gate, q->index))
        return 0;
    if (p->link == SL_LINK_OWN)
        sl_dpdk_link_ask(q);
    unsigned got = rx_burst(q, m, n < SL_PORT_BURST ? n : SL_PORT_BURST), kept = 0;
    if (got == 0)
        return 0;
    sl_pools_took(&q->pools, m, got);
    for (unsigned i = 0; q->heads != NULL && i < got; i++)
        m[i] = sl_split_join(m[i]);
    if (__builtin_expect(p->capture != NULL, 0))
        sl_capture_packets(p->capture, q->index, m, got, false);
    if (__builtin_expect(p->stamps.on, 0))
        sl_stamps_count(&p->stamps, m, got, &q->stats);
    for (unsigned i = 0; i < got; i++)
        rte_prefetch0(rte_pktmbuf_mtod(m[i], void *));
    uint64_t bytes = 0;
    for (unsigned i = 0; i < got; i++) {
        enum sl_port_drop why = take(p, m[i], &d[kept], &last);
        if (why == SL_PORT_DROP_COUNT)
            bytes += d[kept++].len;
        else
            refuse(q, m[i], why);
    }
    sl_dpdk_count(&q->stats.rx_packets, kept);
    sl_dpdk_count(&q->stats.rx_bytes, bytes);
    return kept;
}

unsigned sl_dpdk_queue_alloc(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct sl_dpdk_queue *q = queue_of(queue);
    struct rte_mbuf *m[SL_PORT_BURST];
    n = n < SL_PORT_BURST ? n : SL_PORT_BURST;
    if (sl_pools_alloc(&q->pools, m, n) != 0) {
        sl_dpdk_count(&q->stats.drops[SL_PORT_NO_BUFFER], n);
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        d[i].data = (uint8_t *)m[i]->buf_addr + RTE_PKTMBUF_HEADROOM + SL_UDP4_BYTES;
        d[i].len = q->port->payload_max;
        d[i].ecn = 0;
        d[i].buffer = m[i];
    }
    return n;
}

void sl_dpdk_queue_free(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct sl_dpdk_queue *q = queue_of(queue);
    for (unsigned i = 0; i < n; i++)
        sl_pools_put(&q->pools, d[i].buffer);
}

static void drop(struct sl_dpdk_queue *q, struct rte_mbuf *m, enum sl_port_drop why)
{
    sl_dpdk_count(&q->stats.drops[why], 1);
    sl_pools_put(&q->pools, m);
}

/* Writes the headers; SL_PORT_DROP_COUNT, or why it cannot be sent. */
static enum sl_port_drop frame(struct sl_dpdk_port *p, const struct sl_dgram *d)
{
    struct rte_mbuf *m = d->buffer;
    bool four = sl_addr_is_ipv4(&d->dst);
    unsigned longer = four ? 0 : SL_IPV6_BYTES - SL_IPV4_BYTES;
    if (d->len + longer > p->payload_max || four != sl_addr_is_ipv4(&d->src))
        return SL_PORT_BAD_LENGTH;
    uint64_t to = sl_dpdk_link_to(p, &d->dst);
    if (to == 0)
        return SL_PORT_UNREACHABLE;
    unsigned headers = sl_headers_bytes(four, to);
    if (d->data - (uint8_t *)m->buf_addr < (ptrdiff_t)headers)
        return SL_PORT_BAD_LENGTH;
    bool offload = !four && p->udp6_sum != 0;
    sl_headers_write(d, p->self.mac, to, offload ? SL_UDP_SUM_PSEUDO : SL_UDP_SUM_SOFTWARE);
    m->data_off = (uint16_t)(d->data - headers - (uint8_t *)m->buf_addr);
    m->data_len = (uint16_t)(headers + d->len);
    m->pkt_len = m->data_len;
    m->ol_flags = offload ? p->udp6_sum : 0;
    if (offload) {
        m->l2_len = headers - SL_IPV6_BYTES - SL_UDP_BYTES;
        m->l3_len = SL_IPV6_BYTES;
    }
    return SL_PORT_DROP_COUNT;
}

/* What is to be sent: frames, the lengths of their payloads, and by which ring. */
struct tx_frames {
    struct rte_mbuf *m[SL_PORT_BURST];
    uint16_t len[SL_PORT_BURST];
    uint8_t ring[SL_PORT_BURST];
    unsigned n;
};

static inline uint8_t ring_of(const struct sl_dpdk_queue *q, const struct sl_dgram *d)
{
    unsigned ring = (uint16_t)(d->dst.port - q->port->ring_port);
    return ring < q->n_rings ? (uint8_t)ring : 0;
}

/* Frames what can be sent; the rest is dropped. */
static void frame_burst(struct sl_dpdk_queue *q, const struct sl_dgram *d, unsigned n, struct tx_frames *out)
{
    struct sl_dpdk_port *p = q->port;
    bool up = link_is_up(p), open = sl_gate_open(&p->gate, q->index);
    const struct rte_mempool *current = sl_pools_current(&q->pools);
    out->n = 0;
    for (unsigned i = 0; i < n; i++) {
        struct rte_mbuf *b = d[i].buffer;
        enum sl_port_drop why = !up || b->pool != current
                                    ? SL_PORT_LINK_DOWN /* of an old pool: written for a peer that is gone */
                                : !open ? SL_PORT_TX_FULL
                                        : frame(p, &d[i]);
        if (why != SL_PORT_DROP_COUNT) {
            drop(q, b, why);
            continue;
        }
        out->m[out->n] = b;
        out->len[out->n] = d[i].len;
        out->ring[out->n++] = ring_of(q, &d[i]);
    }
}

/* All of them by one of the device's queues. Returns how many it took. */
static unsigned tx_burst(
    struct sl_dpdk_queue *q, struct rte_mbuf **m, const uint16_t *len, unsigned n, unsigned ring)
{
    const struct rte_mempool *pool = sl_pools_current(&q->pools);
    unsigned sent = rte_eth_tx_burst(q->port->id, (uint16_t)(q->ring + ring), m, (uint16_t)n);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < sent; i++)
        bytes += len[i];
    for (unsigned i = sent; i < n; i++)
        drop(q, m[i], SL_PORT_TX_FULL);
    sl_pools_gave(&q->pools, pool, sent);
    sl_dpdk_count(&q->stats.tx_packets, sent);
    sl_dpdk_count(&q->stats.tx_bytes, bytes);
    return sent;
}

/* Those of each ring together, in their order. */
static unsigned tx_by_ring(struct sl_dpdk_queue *q, const struct tx_frames *f)
{
    struct rte_mbuf *m[SL_PORT_BURST];
    uint16_t len[SL_PORT_BURST];
    unsigned sent = 0;
    for (unsigned ring = 0; ring < q->n_rings; ring++) {
        unsigned n = 0;
        for (unsigned i = 0; i < f->n; i++) {
            if (f->ring[i] != ring)
                continue;
            m[n] = f->m[i];
            len[n++] = f->len[i];
        }
        if (n > 0)
            sent += tx_burst(q, m, len, n, ring);
    }
    return sent;
}

unsigned sl_dpdk_queue_tx(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct sl_dpdk_queue *q = queue_of(queue);
    struct sl_dpdk_port *p = q->port;
    struct tx_frames f;
    frame_burst(q, d, n < SL_PORT_BURST ? n : SL_PORT_BURST, &f);
    if (f.n == 0)
        return 0;
    if (__builtin_expect(p->capture != NULL, 0))
        sl_capture_packets(p->capture, q->index, f.m, f.n, true);
    return q->n_rings == 1 ? tx_burst(q, f.m, f.len, f.n, 0) : tx_by_ring(q, &f);
}
