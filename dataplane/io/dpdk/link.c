/* Who gets a frame, and what the port has to say for itself on its link. */
#include "dataplane/io/dpdk/headers.h"
#include "dataplane/io/dpdk/kernel_neighbour.h"
#include "dataplane/io/dpdk/port_internal.h"

#include <rte_ethdev.h>
#include <string.h>
#include <sys/random.h>

/* A tick's answers of a queue: 500 a second of each kind. */
enum { ANSWERS_A_TICK = 50, FOR_NEIGHBOURS = 0, FOR_PINGS = 1 };
static const uint8_t nothing[16];

static bool owns(void *ctx, const uint8_t ip[16])
{
    const struct sl_dpdk_port *p = ctx;
    return memcmp(p->own_ip, ip, sizeof(p->own_ip)) == 0;
}

static enum sl_dpdk_link link_of(const struct sl_dpdk_port *p)
{
    bool anonymous = memcmp(p->own_ip, nothing, sizeof(nothing)) == 0;
    if (p->device.kind == SL_DEVICE_MEMIF || p->device.kind == SL_DEVICE_PCAP || anonymous)
        return SL_LINK_PEER;
    return sl_device_has_kernel(&p->device) ? SL_LINK_KERNEL : SL_LINK_OWN;
}

static void set_mac(struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c)
{
    struct rte_ether_addr a;
    memcpy(p->self.mac, c->mac, sizeof(p->self.mac));
    if (memcmp(c->mac, nothing, sizeof(c->mac)) == 0 && rte_eth_macaddr_get(p->id, &a) == 0)
        memcpy(p->self.mac, a.addr_bytes, sizeof(p->self.mac));
}

void sl_dpdk_link_init(struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c)
{
    uint64_t key = 0;
    memcpy(p->own_ip, c->own_ip, sizeof(p->own_ip));
    memcpy(p->gateway, c->gateway, sizeof(p->gateway));
    p->udp_port = c->udp_port;
    p->n_udp_ports = c->n_udp_ports != 0 ? c->n_udp_ports : 1;
    p->link = link_of(p);
    set_mac(p, c);
    p->self.owns = c->owns != NULL ? c->owns : owns;
    p->self.ctx = c->owns != NULL ? c->owns_ctx : p;
    if (memcmp(c->peer_mac, nothing, sizeof(c->peer_mac)) != 0)
        p->peer = sl_neighbour(c->peer_mac, 0);
    else if (p->link == SL_LINK_PEER)
        p->peer = SL_NEIGHBOUR_ALL;
    p->tick = 1;
    if (getrandom(&key, sizeof(key), 0) != sizeof(key))
        key = (uintptr_t)p;
    sl_neighbours_init(&p->neighbours, key);
    if (p->link == SL_LINK_OWN && rte_eth_allmulticast_enable(p->id) != 0)
        rte_eth_promiscuous_enable(p->id); /* neighbour discovery goes to groups */
}

static uint64_t ask_kernel(void *ctx, const uint8_t ip[16])
{
    const struct sl_dpdk_port *p = ctx;
    return sl_kernel_neighbour(p->interface_index, ip);
}

void sl_dpdk_link_tick(struct sl_dpdk_port *p)
{
    uint32_t tick = p->tick + 1;
    __atomic_store_n(&p->tick, tick != 0 ? tick : 1, __ATOMIC_RELAXED);
    if (p->link != SL_LINK_PEER)
        sl_routes_tick(&p->routes, tick, p->link == SL_LINK_KERNEL ? ask_kernel : NULL, p);
}

uint64_t sl_dpdk_link_to(struct sl_dpdk_port *p, const struct sl_addr *dst)
{
    if (p->link == SL_LINK_PEER)
        return p->peer;
    uint64_t to = sl_neighbours_get(&p->neighbours, dst->hop, __atomic_load_n(&p->tick, __ATOMIC_RELAXED));
    if (to != 0 || p->peer != 0)
        return to != 0 ? to : p->peer;
    bool by_gateway = p->link == SL_LINK_OWN && memcmp(p->gateway, nothing, sizeof(nothing)) != 0;
    return sl_routes_get(&p->routes, by_gateway ? p->gateway : dst->ip);
}

/* ---- the port's own words, on its queue's thread ---- */

static bool say(struct sl_dpdk_queue *q, struct rte_mbuf *m, uint32_t len)
{
    struct sl_dpdk_port *p = q->port;
    m->data_len = (uint16_t)len;
    m->pkt_len = len;
    m->ol_flags = 0;
    if (p->capture != NULL)
        sl_capture_packets(p->capture, q->index, &m, 1, true);
    if (rte_eth_tx_burst(p->id, q->ring, &m, 1) == 1) {
        sl_pools_gave(&q->pools, m->pool, 1);
        return true;
    }
    sl_pools_put(&q->pools, m);
    return false;
}

void sl_dpdk_link_ask(struct sl_dpdk_queue *q)
{
    struct sl_dpdk_port *p = q->port;
    struct rte_mbuf *m;
    const uint8_t *ip;
    while ((ip = sl_routes_due(&p->routes)) != NULL) {
        if (sl_pools_alloc(&q->pools, &m, 1) != 0)
            return; /* asked again in the next tick */
        say(q, m, sl_ask(rte_pktmbuf_mtod(m, uint8_t *), p->self.mac, p->own_ip, ip));
    }
}

static bool may_answer(struct sl_dpdk_queue *q, unsigned kind)
{
    uint32_t tick = __atomic_load_n(&q->port->tick, __ATOMIC_RELAXED);
    if (q->answers_tick != tick) {
        q->answers_tick = tick;
        q->answers[FOR_NEIGHBOURS] = q->answers[FOR_PINGS] = ANSWERS_A_TICK;
    }
    if (q->answers[kind] == 0)
        return false;
    q->answers[kind]--;
    return true;
}

bool sl_dpdk_link_answer(struct sl_dpdk_queue *q, struct rte_mbuf *m)
{
    struct sl_dpdk_port *p = q->port;
    uint32_t len = m->data_len;
    if (rte_pktmbuf_tailroom(m) < SL_ANSWER_ROOM)
        return false;
    enum sl_answer what = sl_answer(&p->self, &p->routes, rte_pktmbuf_mtod(m, uint8_t *), &len);
    if (what == SL_ANSWER_NOT)
        return false;
    if (what == SL_ANSWER_HEARD) {
        sl_pools_put(&q->pools, m);
    } else if (may_answer(q, what == SL_ANSWER_ECHO ? FOR_PINGS : FOR_NEIGHBOURS)) {
        say(q, m, len);
    } else {
        sl_pools_put(&q->pools, m);
        sl_dpdk_count(&q->stats.drops[SL_PORT_ANSWER_LIMIT], 1);
        return true;
    }
    sl_dpdk_count(&q->stats.drops[SL_PORT_ANSWERED], 1);
    return true;
}
