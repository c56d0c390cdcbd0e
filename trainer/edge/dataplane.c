/* Port, endpoint, ingest and the data lcore, and what the lcore tells of itself. */
#include "trainer/edge/edge.h"

#include "dataplane/crypto/aead.h"
#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    GRANTS_PER_SESSION = 2,
    KEYS_A_VIEW = 256, /* sessions looked at: thousands at once would hold the lcore up */
};
#define VIEW_EVERY_NS UINT64_C(100000000)
#define GRANT_EXPIRY_NS                                                                                      \
    (60 * SECOND_NS) /* a slow phone's step fits; a dead one's slots come back with its session */
#define PARK_AFTER_NS (5 * SECOND_NS) /* until a gang time is known */
#define PARK_BYTES (UINT64_C(256) << 20)

/* ------------------------------------------------------------------------------------- on the lcore's thread
 */

static void opened(void *app, uint32_t session, uint64_t user)
{
    struct edge *e = app;
    sl_ingest_session_opened(e->ingest, session, user);
}

static void closed(void *app, uint32_t session)
{
    struct edge *e = app;
    sl_ingest_session_closed(e->ingest, session);
}

/* Ten times a second a whole copy of the endpoint's counters goes into the view that the control thread does
 * not read. */
static void publish_view(struct edge *e, uint64_t now_ns)
{
    uint32_t next = !__atomic_load_n(&e->view, __ATOMIC_RELAXED);
    struct lcore_view *v = &e->views[next];
    sl_endpoint_stats(e->endpoint, &v->endpoint);
    v->n_key_spent = 0;
    for (uint32_t i = 0; i < e->max_sessions && i < KEYS_A_VIEW && v->n_key_spent < 16; i++) {
        uint32_t s = e->key_look++ % e->max_sessions;
        if (sl_endpoint_is_open(e->endpoint, s) && sl_endpoint_key_spent(e->endpoint, s))
            v->key_spent[v->n_key_spent++] = s;
    }
    __atomic_store_n(&e->view, next, __ATOMIC_RELEASE);
    e->view_ns = now_ns;
}

static void poll(void *app, uint64_t now_ns)
{
    struct edge *e = app;
    sl_ingest_poll(e->ingest, now_ns);
    if (now_ns - e->view_ns >= VIEW_EVERY_NS)
        publish_view(e, now_ns);
}

static uint64_t deadline(void *app)
{
    struct edge *e = app;
    return sl_ingest_deadline(e->ingest);
}

static const struct sl_lcore_ops lcore_ops = {
    .opened = opened, .closed = closed, .poll = poll, .deadline = deadline};

/* ------------------------------------------------------------------------------------------ control's thread
 */

/* A reader that is slower than 100 ms may see counters from two moments: they are for people to look at. */
void edge_view(struct edge *e, struct lcore_view *out)
{
    *out = e->views[__atomic_load_n(&e->view, __ATOMIC_ACQUIRE)];
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
        .cpu = e->lcore_cpu,
        .pci_device = sl_eal_is_pci(x->edge.data.backend) ? x->edge.data.backend : NULL,
        .extra = extra};
    return sl_eal_start(&c, e->eal_args, sizeof e->eal_args, e->err, sizeof e->err);
}

static int open_port(struct edge *e)
{
    const struct sl_experiment *x = e->x;
    char socket[SL_PATH_BYTES + 16];
    snprintf(socket, sizeof socket, "%s/memif.sock", e->options.run);
    struct sl_dpdk_port_config c = {.device = x->edge.data.backend,
        .memif_socket = socket,
        .mtu = x->edge.data.mtu,
        .udp_port = e->data_addr.port,
        .capture = e->options.capture,
        .peer_timeout_ns = x->edge.data.peer_timeout_s * SECOND_NS};
    return sl_dpdk_port_open(&c, &e->port, e->err, sizeof e->err);
}

static uint32_t ring_for(uint32_t n)
{
    uint32_t capacity = 64;
    while (capacity <= n)
        capacity *= 2;
    return capacity;
}

static int create_ingest(struct edge *e)
{
    const struct sl_experiment *x = e->x;
    struct sl_ingest_config ingest = {.slots = e->slots,
        .ready = e->ready,
        .returned = e->returned,
        .max_sessions = e->max_sessions,
        .d_model = e->shape->d_model,
        .codec = e->codec,
        .fragment_units = e->fragment_units,
        .grants_per_session = GRANTS_PER_SESSION,
        .grant_expiry_ns = GRANT_EXPIRY_NS,
        .park_after_ns = PARK_AFTER_NS,
        .park_bytes = PARK_BYTES};
    struct sl_endpoint_config endpoint = {.max_sessions = e->max_sessions,
        .max_sends = 4 * x->edge.slots + 64, /* parked gradients are still being sent */
        .max_message_units = (uint32_t)(sl_slots_bytes(e->slots) / SL_UNIT_BYTES),
        .lcore = 0,
        .is_edge = true};
    int status = sl_ingest_create(&ingest, &e->ingest);
    if (!status)
        status = sl_endpoint_create(&endpoint, &sl_ingest_sink, e->ingest, &e->endpoint);
    if (!status)
        sl_ingest_bind(e->ingest, e->endpoint);
    return status;
}

static int create_slots(struct edge *e)
{
    const struct sl_experiment *x = e->x;
    int status = sl_slots_create(x->edge.slots, (size_t)x->edge.slot_kib * 1024, &e->slots);
    e->ready = sl_ring_spsc_create(ring_for(x->edge.slots));
    e->returned = sl_ring_spsc_create(ring_for(x->edge.slots));
    e->latency_ring = sl_ring_spsc_create(4096);
    if (!status && e->ready && e->returned && e->latency_ring)
        status = create_ingest(e);
    else if (!status)
        status = -ENOMEM;
    if (status)
        snprintf(e->err, sizeof e->err, "cannot make %u slots of %u KiB: %s; lower edge.slots", x->edge.slots,
            x->edge.slot_kib, strerror(-status));
    return status;
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
    int status = create_slots(e);
    if (!status)
        status = start_eal(e);
    if (!status)
        status = open_port(e);
    if (status)
        return status;
    struct sl_lcore_config c = {.queue = sl_port_queue(e->port, 0),
        .endpoint = e->endpoint,
        .poll = strcmp(e->x->edge.data.poll, "busy") ? SL_POLL_ADAPTIVE : SL_POLL_BUSY,
        .ops = &lcore_ops,
        .app = e,
        .cpu = e->lcore_cpu};
    return sl_lcore_start(&c, &e->lcore, e->err, sizeof e->err);
}

/* The trainer has stopped before: nobody else touches slots or rings. */
void edge_stop_dataplane(struct edge *e)
{
    if (e->lcore)
        sl_lcore_stop(e->lcore);
    if (e->endpoint)
        sl_endpoint_free(e->endpoint);
    if (e->ingest)
        sl_ingest_free(e->ingest);
    if (e->port)
        sl_port_close(e->port);
    if (e->eal_args[0])
        sl_eal_stop();
    if (e->slots)
        sl_slots_free(e->slots);
    if (e->ready)
        sl_ring_spsc_free(e->ready);
    if (e->returned)
        sl_ring_spsc_free(e->returned);
    if (e->latency_ring)
        sl_ring_spsc_free(e->latency_ring);
}
