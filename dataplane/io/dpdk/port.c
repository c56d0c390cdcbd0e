#define ALLOW_EXPERIMENTAL_API /* rte_eth_dev_conf_get, of DPDK since 21.11 */
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/lcore/clock.h"

#include "dataplane/io/dpdk/headers.h"
#include "dataplane/io/dpdk/interface.h"
#include "dataplane/io/dpdk/memif_cures.h"
#include "dataplane/io/dpdk/memif_socket.h"
#include "dataplane/io/dpdk/port_internal.h"
#include "dataplane/io/dpdk/spread.h"

#include <errno.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_RING = 512,
    DEFAULT_MTU = 1500,
    DEFAULT_MBUFS = 8192,
    CONNECT_EVERY_MS = 5,
    CONNECT_WITHIN_MS = 500, /* at first; twice as long after each that was too short, as on a busy host, */
    CONNECT_WITHIN_MAX_MS = 8000,
};

/* ---- the link, on the interrupt thread ---- */

/* With buffer split where it is offered, and if it can be had. */
static int setup_rx(struct sl_dpdk_port *p, struct sl_dpdk_queue *q, uint16_t ring, unsigned socket)
{
    struct rte_mempool *mp = sl_pools_current(&q->pools);
    if (p->split && q->heads == NULL)
        q->heads = sl_split_heads(p->id, q->index, q->pools.n_mbufs);
    if (q->heads != NULL) {
        if (sl_split_setup(p->id, ring, p->n_rx_desc, socket, q->heads, mp) == 0)
            return 0;
        rte_mempool_free(q->heads);
        q->heads = NULL;
        p->split = false;
    }
    return rte_eth_rx_queue_setup(p->id, ring, p->n_rx_desc, socket, NULL, mp);
}

static int setup_queues(struct sl_dpdk_port *p)
{
    int socket = rte_eth_dev_socket_id(p->id), err = 0;
    unsigned s = socket < 0 ? (unsigned)SOCKET_ID_ANY : (unsigned)socket;
    for (unsigned i = 0; i < p->port.n_queues; i++) {
        struct sl_dpdk_queue *q = &p->queue[i];
        for (unsigned k = 0; k < q->n_rings && err == 0; k++) {
            err = setup_rx(p, q, (uint16_t)(q->ring + k), s);
            if (err == 0)
                err = rte_eth_tx_queue_setup(p->id, (uint16_t)(q->ring + k), p->n_tx_desc, s, NULL);
        }
    }
    return err;
}

static int renew_pools(struct sl_dpdk_port *p)
{
    int err = 0;
    for (unsigned i = 0; i < p->port.n_queues && err == 0; i++)
        err = sl_pools_renew(&p->queue[i].pools);
    return err;
}

/* A memif client starts, and starts again with a fresh pool after its peer was gone. */
static void connect_client(struct sl_dpdk_port *p)
{
    uint64_t now = sl_clock_ns(), since_ms = (now - p->tried_ns) / 1000000;
    if (since_ms < (p->connecting ? p->connect_within_ms : CONNECT_EVERY_MS))
        return;
    if (p->connecting && p->connect_within_ms < CONNECT_WITHIN_MAX_MS)
        p->connect_within_ms *= 2;
    p->tried_ns = now;
    if (p->started) {
        rte_eth_dev_stop(p->id);
        p->started = p->connecting = false;
    }
    if (!sl_memif_listens(p->path))
        return;
    if (p->was_up) {
        if (renew_pools(p) != 0 || setup_queues(p) != 0)
            return;
        p->was_up = false;
    }
    if (rte_eth_dev_start(p->id) == 0)
        p->started = p->connecting = true;
}

/* What the driver lost before we could take it. */
static void read_missed(struct sl_dpdk_port *p)
{
    struct rte_eth_stats s;
    if (!p->memif && rte_eth_stats_get(p->id, &s) == 0)
        __atomic_store_n(&p->stats.drops[SL_PORT_RX_FULL], s.imissed, __ATOMIC_RELAXED);
}

static bool watch_link(void *ctx)
{
    struct sl_dpdk_port *p = ctx;
    struct rte_eth_link link;
    sl_dpdk_link_tick(p);
    read_missed(p);
    sl_stamps_read_clock(&p->stamps, p->id);
    sl_memif_cures_this_thread();
    /* The drivers that share an interface with the kernel do not look at its link. */
    bool up = sl_device_has_kernel(&p->device)
                  ? sl_interface_runs(p->watch_fd, p->device.argument)
                  : rte_eth_link_get_nowait(p->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
    bool before = __atomic_load_n(&p->link_up, __ATOMIC_RELAXED) != 0;
    if (up && !before) {
        p->connecting = false;
        p->connect_within_ms = CONNECT_WITHIN_MS;
        p->was_up = true;
        sl_dpdk_count(&p->stats.reconnects, 1);
    } else if (!up && before) {
        __atomic_store_n(&p->down_since_ns, sl_clock_ns(), __ATOMIC_RELAXED);
    }
    __atomic_store_n(&p->link_up, up, __ATOMIC_RELEASE);
    p->gate.watch_fd = up ? sl_memif_control_fd() : -1;
    if (!up && p->memif && p->client)
        connect_client(p);
    return up;
}

static void stop_device(void *ctx)
{
    struct sl_dpdk_port *p = ctx;
    if (p->started)
        rte_eth_dev_stop(p->id);
    p->started = false;
}

/* ---- the link, seen from outside ---- */

static bool link_up(struct sl_port *port)
{
    const struct sl_dpdk_port *p = (const struct sl_dpdk_port *)port;
    return __atomic_load_n(&p->link_up, __ATOMIC_ACQUIRE) != 0;
}

static int wait_for_link(struct sl_port *port, char *text, size_t cap)
{
    const struct sl_dpdk_port *p = (const struct sl_dpdk_port *)port;
    if (link_up(port))
        return 0;
    uint64_t waited = sl_clock_ns() - __atomic_load_n(&p->down_since_ns, __ATOMIC_RELAXED);
    const char *where = p->memif ? p->path : p->device.name;
    if (sl_device_has_kernel(&p->device)) {
        snprintf(text, cap, "waiting for the link of interface %s: sudo ip link set dev %s up",
            p->device.argument, p->device.argument);
        return p->peer_timeout_ns != 0 && waited >= p->peer_timeout_ns ? -ETIMEDOUT : 1;
    }
    if (p->peer_timeout_ns != 0 && waited >= p->peer_timeout_ns) {
        snprintf(text, cap,
            "gave up after %.1f s without the other end of %s %s: start it with the same run directory",
            (double)p->peer_timeout_ns * 1e-9, p->memif ? "memif at" : "port", where);
        return -ETIMEDOUT;
    }
    snprintf(text, cap, "waiting for the other end of %s %s", p->memif ? "memif at" : "port", where);
    return 1;
}

static void add_counters(struct sl_port_stats *sum, const struct sl_port_stats *s)
{
    const uint64_t *from = &s->rx_packets;
    uint64_t *to = &sum->rx_packets;
    for (size_t i = 0; i < offsetof(struct sl_port_stats, link_up) / sizeof(uint64_t); i++)
        to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

static void read_stats(struct sl_port *port, struct sl_port_stats *out)
{
    const struct sl_dpdk_port *p = (const struct sl_dpdk_port *)port;
    *out = (struct sl_port_stats){0};
    add_counters(out, &p->stats);
    for (unsigned i = 0; i < p->port.n_queues; i++)
        add_counters(out, &p->queue[i].stats);
    if (out->reconnects > 0)
        out->reconnects--; /* the first time is not again */
    out->link_up = link_up(port);
    if (p->capture != NULL) {
        struct sl_capture_stats s;
        sl_capture_stats(p->capture, &s);
        out->captured = s.packets;
        out->capture_missed = s.missed;
    }
    out->passes = __atomic_load_n(&p->gate.passes, __ATOMIC_RELAXED);
    out->pass_ns = __atomic_load_n(&p->gate.pass_ns, __ATOMIC_RELAXED);
    out->pass_max_ns = __atomic_load_n(&p->gate.pass_max_ns, __ATOMIC_RELAXED);
}

static void close_port(struct sl_port *port)
{
    struct sl_dpdk_port *p = (struct sl_dpdk_port *)port;
    sl_capture_close(p->capture);
    if (p->gate.work == NULL)
        stop_device(p);
    else if (!sl_gate_stop(&p->gate))
        return;
    sl_dpdk_destroy(p);
    for (unsigned i = 0; i < p->port.n_queues; i++) {
        sl_sleep_close(&p->queue[i].sleep);
        sl_pools_free(&p->queue[i].pools);
        rte_mempool_free(p->queue[i].heads);
    }
    free(p);
}

static struct sl_queue *queue_of(struct sl_port *port, unsigned index)
{
    return index < port->n_queues ? &((struct sl_dpdk_port *)port)->queue[index].queue : NULL;
}

static const struct sl_port_ops ops = {
    .close = close_port,
    .link_up = link_up,
    .wait = wait_for_link,
    .stats = read_stats,
    .enter = sl_dpdk_queue_enter,
    .leave = sl_dpdk_queue_leave,
    .rx = sl_dpdk_queue_rx,
    .alloc = sl_dpdk_queue_alloc,
    .tx = sl_dpdk_queue_tx,
    .free = sl_dpdk_queue_free,
    .rests = sl_dpdk_queue_rests,
    .sleep = sl_dpdk_queue_sleep,
    .wake = sl_dpdk_queue_wake,
};

/* ---- opening ---- */

static int explain(char *err, size_t cap, int ret, const char *what, const struct sl_dpdk_port_config *c)
{
    snprintf(err, cap, "port %s: %s: %s", c->device, what, strerror(-ret));
    return ret;
}

/* As many queues as are asked for and the device has, each with one of the device's; or one with several. */
static uint16_t share_rings(
    struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c, const struct rte_eth_dev_info *info)
{
    uint16_t most = info->max_rx_queues < info->max_tx_queues ? info->max_rx_queues : info->max_tx_queues;
    unsigned rings = p->port.n_queues < most ? p->port.n_queues : most;
    if (rings == 0)
        rings = 1;
    p->port.n_queues = rings;
    if (rings == 1 && p->memif && c->n_rings > 1)
        rings = c->n_rings < most ? c->n_rings : most;
    p->ring_port = c->ring_port;
    for (unsigned i = 0; i < p->port.n_queues; i++) {
        struct sl_dpdk_queue *q = &p->queue[i];
        q->queue.ops = &ops;
        q->port = p;
        q->index = q->ring = (uint16_t)i;
        q->n_rings = (uint16_t)(p->port.n_queues == 1 ? rings : 1);
    }
    return (uint16_t)rings;
}

static int create_pools(
    struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c, uint16_t buffer, char *err, size_t cap)
{
    uint32_t n = c->n_mbufs != 0 ? c->n_mbufs : p->port.n_queues > 1 ? DEFAULT_MBUFS / 2 : DEFAULT_MBUFS;
    for (unsigned i = 0; i < p->port.n_queues; i++) {
        int socket = c->sockets != NULL ? c->sockets[i] : -1;
        int ret =
            sl_pools_create(&p->queue[i].pools, i, socket, n, (uint16_t)(buffer + RTE_PKTMBUF_HEADROOM));
        if (ret != 0) {
            snprintf(err, cap,
                "no room for %u packet buffers of %u bytes: give EAL more memory (data.memory_mib)",
                n * p->port.n_queues, buffer + RTE_PKTMBUF_HEADROOM);
            return ret;
        }
    }
    return 0;
}

static int configure(struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c, uint32_t mtu,
    uint16_t buffer, char *err, size_t cap)
{
    struct rte_eth_dev_info info;
    struct rte_eth_conf conf = {0};
    int ret = rte_eth_dev_info_get(p->id, &info);
    if (ret != 0)
        return explain(err, cap, ret, "cannot read what it can do", c);
    if (!p->memif) { /* memif knows no MTU, only buffers */
        if (p->device.kind == SL_DEVICE_AF_PACKET && mtu > RTE_ETHER_MTU)
            mtu = RTE_ETHER_MTU; /* the driver says so, but takes what its frames hold: device.c */
        if (mtu < info.min_mtu || mtu > info.max_mtu) {
            snprintf(err, cap, "port %s: MTU %u is outside of its %u..%u", c->device, mtu, info.min_mtu,
                info.max_mtu);
            return -EINVAL;
        }
        conf.rxmode.mtu = mtu;
    }
    if ((info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0) {
        conf.txmode.offloads |= RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
        p->udp6_sum = RTE_MBUF_F_TX_IPV6 | RTE_MBUF_F_TX_UDP_CKSUM;
    }
    p->split = sl_split_offered(&info);
    bool stamps = sl_stamps_offered(info.rx_offload_capa);
    if (stamps)
        conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_TIMESTAMP;
    conf.intr_conf.rxq = p->device.kind == SL_DEVICE_PCI; /* start_device says where they cannot be had */
    uint16_t rings = share_rings(p, c, &info);
    if (p->port.n_queues > 1)
        sl_dpdk_spread_configure(p, &info, &conf);
    ret = rte_eth_dev_configure(p->id, rings, rings, &conf);
    if (ret != 0)
        return explain(err, cap, ret, "cannot configure it", c);
    if (stamps)
        sl_stamps_open(&p->stamps);
    ret = create_pools(p, c, buffer, err, cap);
    if (ret != 0)
        return ret;
    p->n_rx_desc = p->n_tx_desc = c->ring_size != 0 ? c->ring_size : DEFAULT_RING;
    ret = rte_eth_dev_adjust_nb_rx_tx_desc(p->id, &p->n_rx_desc, &p->n_tx_desc);
    if (ret != 0)
        return explain(err, cap, ret, "no ring size fits", c);
    ret = setup_queues(p);
    if (ret != 0)
        return explain(err, cap, ret,
            "cannot set up its queues (is the device in use by another program? DPDK's log in the run "
            "directory has more)",
            c);
    sl_dpdk_link_init(p, c);
    return 0;
}

/* Drivers say only here that they have no receive interrupts: then once more without. */
static int start_device(struct sl_dpdk_port *p)
{
    struct rte_eth_conf conf;
    struct rte_eth_dev_info info;
    int ret = rte_eth_dev_start(p->id);
    if (ret == 0 || rte_eth_dev_conf_get(p->id, &conf) != 0 || conf.intr_conf.rxq == 0 ||
        rte_eth_dev_info_get(p->id, &info) != 0)
        return ret;
    conf.intr_conf.rxq = 0;
    ret = rte_eth_dev_configure(p->id, info.nb_rx_queues, info.nb_tx_queues, &conf);
    if (ret == 0)
        ret = setup_queues(p);
    return ret != 0 ? ret : rte_eth_dev_start(p->id);
}

static void open_sleep(const struct sl_dpdk_port *p, struct sl_dpdk_queue *q)
{
    struct rte_eth_conf conf;
    bool interrupts = rte_eth_dev_conf_get(p->id, &conf) == 0 && conf.intr_conf.rxq != 0;
    if (interrupts && q->n_rings == 1)
        sl_sleep_open_interrupt(&q->sleep, p->id, q->ring);
    else
        sl_sleep_open(&q->sleep, p->device.kind, (uint16_t)p->port.n_queues);
    q->queue.wakeable = q->sleep.wake_fd >= 0;
}

static int start(struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c, char *err, size_t cap)
{
    p->down_since_ns = sl_clock_ns();
    p->connect_within_ms = CONNECT_WITHIN_MS;
    p->peer_timeout_ns = c->peer_timeout_ns;
    if (!p->memif || !p->client) { /* a memif client is started by watch_link, once somebody listens */
        int ret = start_device(p);
        if (ret != 0)
            return explain(err, cap, ret, "cannot start it", c);
        p->started = true;
        for (unsigned i = 0; i < p->port.n_queues; i++)
            open_sleep(p, &p->queue[i]);
    }
    if (p->port.n_queues > 1)
        sl_dpdk_spread_start(p);
    int ret = sl_gate_start(&p->gate, p->port.n_queues, p->memif, watch_link, stop_device, p);
    return ret != 0 ? explain(err, cap, ret, "cannot watch its link", c) : 0;
}

int sl_dpdk_port_open(const struct sl_dpdk_port_config *c, struct sl_port **out, char *err, size_t cap)
{
    uint32_t mtu = c->mtu != 0 ? c->mtu : DEFAULT_MTU;
    if (mtu < 576 || mtu > 9000) {
        snprintf(err, cap, "port %s: MTU %u is outside of 576..9000", c->device, mtu);
        return -EINVAL;
    }
    if (c->n_queues > SL_LCORES_MAX || c->n_rings > SL_LCORES_MAX) {
        snprintf(err, cap, "port %s: at most %d queues", c->device, SL_LCORES_MAX);
        return -EINVAL;
    }
    struct sl_dpdk_port *p = aligned_alloc(SL_DPDK_LINE, sizeof(*p));
    if (p == NULL) {
        snprintf(err, cap, "out of memory");
        return -ENOMEM;
    }
    memset(p, 0, sizeof(*p));
    p->port =
        (struct sl_port){.ops = &ops, .n_queues = c->n_queues != 0 ? c->n_queues : 1, .queue = queue_of};
    p->payload_max = (uint16_t)(mtu - SL_IPV4_BYTES - SL_UDP_BYTES);
    for (unsigned i = 0; i < SL_LCORES_MAX; i++)
        p->queue[i].sleep.wake_fd = -1;
    p->xdp_claim = p->xdp_object = p->plug_fd = p->watch_fd = -1;
    uint16_t buffer;
    int ret = sl_dpdk_create(p, c, mtu, &buffer, err, cap);
    if (ret != 0)
        goto fail;
    ret = configure(p, c, mtu, buffer, err, cap);
    if (ret == 0 && c->capture != NULL)
        ret = sl_capture_open(
            c->capture, p->id, p->port.n_queues, (uint16_t)(mtu + SL_ETH_BYTES), &p->capture, err, cap);
    if (ret == 0)
        ret = start(p, c, err, cap);
    if (ret != 0)
        goto fail;
    *out = &p->port;
    return 0;
fail:
    close_port(&p->port);
    return ret;
}
