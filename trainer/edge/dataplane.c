/* Port, and for each data lcore its endpoint and ingest, and what it tells of itself. */
#include "trainer/edge/edge.h"

#include "dataplane/crypto/aead.h"
#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/lcore/address.h"
#include "dataplane/io/lcore/numa.h"
#include "dataplane/io/lcore/steer.h"
#include "dataplane/io/uring/udp_port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VIEW_EVERY_NS UINT64_C(100000000)
#define PARK_AFTER_NS (5 * SECOND_NS) /* until a gang time is known */

/* ------------------------------------------------------------------------------------- on the lcore's thread
 */

static void opened(void *app, uint32_t session, uint64_t user)
{
    struct edge_lcore *l = app;
    sl_ingest_session_opened(l->ingest, session, user);
}

static void closed(void *app, uint32_t session)
{
    struct edge_lcore *l = app;
    sl_ingest_session_closed(l->ingest, session);
}

/* Counters are read on one thread while another writes: word by word, without tearing any. */
static void copy_words(void *to, const void *from, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
        __atomic_store_n((uint64_t *)to + i, __atomic_load_n((const uint64_t *)from + i, __ATOMIC_RELAXED),
            __ATOMIC_RELAXED);
}

/* Ten times a second a whole copy of the endpoint's counters goes into the view that the control thread does
 * not read. */
static void publish_view(struct edge_lcore *l, uint64_t now_ns)
{
    uint32_t next = !__atomic_load_n(&l->view, __ATOMIC_RELAXED);
    struct lcore_view v;
    _Static_assert(sizeof v % sizeof(uint64_t) == 0, "a view is 64-bit counters");
    sl_endpoint_stats(l->endpoint, &v.endpoint);
    copy_words(&l->views[next], &v, sizeof v);
    __atomic_store_n(&l->view, next, __ATOMIC_RELEASE);
    l->view_ns = now_ns;
}

static void poll(void *app, uint64_t now_ns)
{
    struct edge_lcore *l = app;
    sl_ingest_poll(l->ingest, now_ns);
    if (__builtin_expect(edge_query_asked(l), 0))
        edge_answer_query(l);
    if (now_ns - l->view_ns >= VIEW_EVERY_NS)
        publish_view(l, now_ns);
}

static uint64_t deadline(void *app)
{
    struct edge_lcore *l = app;
    return sl_ingest_deadline(l->ingest);
}

static const struct sl_lcore_ops lcore_ops = {
    .opened = opened, .closed = closed, .poll = poll, .deadline = deadline};

/* ------------------------------------------------------------------------------------------ control's thread
 */

/* A reader that is slower than 100 ms may see counters from two moments: they are for people to look at. */
void edge_view(const struct edge_lcore *l, struct lcore_view *out)
{
    copy_words(out, &l->views[__atomic_load_n(&l->view, __ATOMIC_ACQUIRE)], sizeof *out);
}

void edge_endpoint_stats(const struct edge *e, struct sl_endpoint_stats *out)
{
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < e->n_lcores; i++) {
        struct lcore_view v;
        edge_view(&e->lcores[i], &v);
        const uint64_t *from = (const uint64_t *)&v.endpoint;
        for (size_t k = 0; k < sizeof *out / sizeof(uint64_t); k++)
            ((uint64_t *)out)[k] += from[k];
    }
}

uint32_t edge_slots(const struct edge *e)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < e->n_lcores; i++)
        n += e->lcores[i].n_slots;
    return n;
}

static int start_eal(struct edge *e)
{
    const struct sl_experiment *x = e->x;
    const char *extra[SL_EAL_EXTRA_MAX + 1] = {0};
    for (uint32_t i = 0; i < x->edge.data.n_eal_extra; i++)
        extra[i] = x->edge.data.eal_extra[i];
    struct sl_eal_config c = {.run_dir = e->options.run,
        .file_prefix = "sluice-edge",
        .memory_mib = x->edge.data.memory_mib,
        .huge_pages = x->edge.data.huge_pages,
        .cpu = e->lcores[0].cpu,
        .pci_device = sl_eal_is_pci(x->edge.data.backend) ? x->edge.data.backend : NULL,
        .extra = extra};
    return sl_eal_start(&c, e->eal_args, sizeof e->eal_args, e->err, sizeof e->err);
}

static int open_uring(struct edge *e, struct sl_port **port)
{
    const struct sl_experiment *x = e->x;
    struct sl_uring_port_config c = {.local = e->data_addr,
        .n_queues = e->n_lcores,
        .mtu = x->edge.data.mtu,
        .link_timeout_ns = x->edge.data.peer_timeout_s * SECOND_NS};
    if (e->options.capture) {
        snprintf(e->err, sizeof e->err, "--capture: not of %s; capture with tcpdump, or use a DPDK back end",
            SL_BACKEND_URING);
        return -ENOTSUP;
    }
    return sl_uring_port_open(&c, port, e->err, sizeof e->err);
}

static int open_dpdk(struct edge *e, struct sl_port **port)
{
    const struct sl_experiment *x = e->x;
    char socket[SL_PATH_BYTES + 16];
    int sockets[SL_LCORES_MAX];
    snprintf(socket, sizeof socket, "%s/memif.sock", e->options.run);
    struct sl_dpdk_port_config c = {.device = x->edge.data.backend,
        .memif_socket = socket,
        .mtu = x->edge.data.mtu,
        .udp_port = e->data_addr.port,
        .n_udp_ports = (uint16_t)e->n_lcores,
        .n_queues = (uint16_t)x->edge.data.queues,
        .sockets = sockets,
        .capture = e->options.capture,
        .peer_timeout_ns = x->edge.data.peer_timeout_s * SECOND_NS};
    struct sl_addr gateway;
    memcpy(c.own_ip, e->data_addr.ip, sizeof c.own_ip);
    if (x->edge.data.gateway[0]) {
        if (sl_addr_parse(x->edge.data.gateway, &gateway)) {
            snprintf(
                e->err, sizeof e->err, "edge.data.gateway: '%s' is not an address", x->edge.data.gateway);
            return -EINVAL;
        }
        memcpy(c.gateway, gateway.ip, sizeof c.gateway);
    }
    for (uint32_t i = 0; i < e->n_lcores; i++)
        sockets[i] = sl_numa_node_of_cpu(e->lcores[i].cpu);
    return sl_dpdk_port_open(&c, port, e->err, sizeof e->err);
}

/* With several lcores, each gets its own sessions' datagrams whatever queue of the port they come by. */
static int open_port(struct edge *e, bool kernel)
{
    struct sl_port *port = NULL;
    int status = kernel ? open_uring(e, &port) : open_dpdk(e, &port);
    if (!status) {
        e->port_queues = port->n_queues;
        e->spread = kernel ? "a socket for each UDP port" : port->spread;
    }
    if (!status && e->n_lcores > 1)
        status = sl_steer_open(port, e->n_lcores, &port, e->err, sizeof e->err);
    if (!status)
        e->port = port;
    return status;
}

static uint32_t ring_for(uint32_t n)
{
    uint32_t capacity = 64;
    while (capacity <= n)
        capacity *= 2;
    return capacity;
}

static int create_ingest(const struct edge *e, struct edge_lcore *l)
{
    const typeof(e->x->edge.limits) *limits = &e->x->edge.limits;
    struct sl_ingest_config ingest = {.slots = l->slots,
        .ready = l->ready,
        .returned = l->returned,
        .granted = l->granted,
        .max_sessions = l->max_sessions,
        .d_model = e->shape->d_model,
        .codec = e->codec,
        .fragment_units = e->fragment_units,
        .grants_per_session = limits->grants_per_device,
        .grant_expiry_ns = limits->grant_s * SECOND_NS,
        .grant_margin_ns = limits->grant_margin_s * SECOND_NS,
        .grant_factor = limits->grant_factor,
        .park_after_ns = PARK_AFTER_NS,
        .park_bytes = ((size_t)limits->park_mib << 20) / e->n_lcores};
    struct sl_endpoint_config endpoint = {.max_sessions = l->max_sessions,
        .max_sends = 4 * l->n_slots + 64, /* parked gradients are still being sent */
        .max_message_units = (uint32_t)(sl_slots_bytes(l->slots) / SL_UNIT_BYTES),
        .lcore = (uint8_t)l->index,
        .is_edge = true};
    int status = sl_ingest_create(&ingest, &l->ingest);
    if (!status)
        status = sl_endpoint_create(&endpoint, &sl_ingest_sink, l->ingest, &l->endpoint);
    if (!status)
        sl_ingest_bind(l->ingest, l->endpoint);
    return status;
}

static int create_lcore(const struct edge *e, struct edge_lcore *l)
{
    l->sessions = calloc(l->max_sessions, sizeof *l->sessions);
    l->ready = sl_ring_spsc_create(ring_for(l->n_slots));
    l->returned = sl_ring_spsc_create(ring_for(l->n_slots));
    if (e->personal)
        l->granted = sl_ring_spsc_create(ring_for(l->n_slots));
    if (!l->sessions || !l->ready || !l->returned || (e->personal && !l->granted))
        return -ENOMEM;
    int status = sl_slots_create(l->n_slots, (size_t)e->x->edge.slot_kib * 1024, &l->slots);
    return status ? status : create_ingest(e, l);
}

static int create_lcores(struct edge *e)
{
    const struct sl_experiment *x = e->x;
    int status = 0;
    e->latency_ring = sl_ring_spsc_create(4096);
    if (!e->latency_ring)
        status = -ENOMEM;
    for (uint32_t i = 0; !status && i < e->n_lcores; i++) {
        sl_numa_prefer(sl_numa_node_of_cpu(e->lcores[i].cpu)); /* not where this thread touches it first */
        status = create_lcore(e, &e->lcores[i]);
    }
    sl_numa_prefer(-1);
    if (status)
        snprintf(e->err, sizeof e->err, "cannot make %u slots of %u KiB: %s; lower edge.slots", x->edge.slots,
            x->edge.slot_kib, strerror(-status));
    return status;
}

static int start_lcore(struct edge *e, struct edge_lcore *l)
{
    struct sl_lcore_config c = {.queue = sl_port_queue(e->port, l->index),
        .endpoint = l->endpoint,
        .poll = strcmp(e->x->edge.data.poll, "busy") ? SL_POLL_ADAPTIVE : SL_POLL_BUSY,
        .ops = &lcore_ops,
        .app = l,
        .cpu = l->cpu};
    return sl_lcore_start(&c, &l->lcore, e->err, sizeof e->err);
}

int edge_start_dataplane(struct edge *e)
{
    struct sl_aead *aead = sl_aead_create();
    if (!aead) {
        snprintf(e->err, sizeof e->err, "no AES-GCM on this CPU: neither ipsec-mb nor OpenSSL offers it");
        return -ENOTSUP;
    }
    e->aead_name = sl_aead_name(aead);
    sl_aead_free(aead);
    int status = create_lcores(e);
    bool kernel = strcmp(e->x->edge.data.backend, SL_BACKEND_URING) == 0; /* then there is no EAL at all */
    if (!status && !kernel)
        status = start_eal(e);
    if (!status)
        status = open_port(e, kernel);
    for (uint32_t i = 0; !status && i < e->n_lcores; i++)
        status = start_lcore(e, &e->lcores[i]);
    if (!status && e->eal_args[0])
        status = edge_open_telemetry(e);
    return status;
}

static void free_lcore(struct edge_lcore *l)
{
    if (l->endpoint)
        sl_endpoint_free(l->endpoint);
    if (l->ingest)
        sl_ingest_free(l->ingest);
    if (l->slots)
        sl_slots_free(l->slots);
    if (l->ready)
        sl_ring_spsc_free(l->ready);
    if (l->returned)
        sl_ring_spsc_free(l->returned);
    if (l->granted)
        sl_ring_spsc_free(l->granted);
    free(l->sessions);
}

/* The trainer has stopped before: nobody else touches slots or rings. */
void edge_stop_dataplane(struct edge *e)
{
    edge_close_telemetry();
    for (uint32_t i = 0; i < e->n_lcores; i++)
        if (e->lcores[i].lcore)
            sl_lcore_stop(e->lcores[i].lcore);
    sl_port_close(e->port);
    if (e->eal_args[0])
        sl_eal_stop();
    for (uint32_t i = 0; i < e->n_lcores; i++)
        free_lcore(&e->lcores[i]);
    free(e->lcores);
    if (e->latency_ring)
        sl_ring_spsc_free(e->latency_ring);
}
