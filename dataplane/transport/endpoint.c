#include "dataplane/transport/endpoint.h"

#include "dataplane/crypto/keys.h"
#include "dataplane/crypto/secure_memory.h"
#include "dataplane/transport/session.h"

#include <errno.h>
#include <string.h>

enum { ALIGN = 64, HANDLE_BITS = 24 };

static const struct sl_addr unknown_addr;

static uint32_t power_of_two(uint32_t at_least)
{
    uint32_t n = 1;
    while (n < at_least)
        n *= 2;
    return n;
}

/* Cuts an aligned piece off the mapping; with base NULL only counts. */
static void *piece(uint8_t *base, size_t *used, size_t bytes)
{
    void *p = base == NULL ? NULL : base + *used;
    *used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

/* Lays the endpoint out in `base`, or counts what it takes. */
static size_t lay_out(uint8_t *base, const struct sl_endpoint_config *c)
{
    size_t used = 0;
    uint32_t n = c->max_sessions;
    size_t key_stride = (sl_aead_key_size() + ALIGN - 1) / ALIGN * ALIGN;
    /* twice the window: probes are exempt from it (RFC 9002 7.5) */
    uint32_t ring = power_of_two(2 * (c->window_packets ? c->window_packets : SL_CC_DEFAULT_WINDOW_PACKETS));
    uint32_t ready = power_of_two(n);

    struct sl_endpoint *ep = piece(base, &used, sizeof(*ep));
    struct sl_session *sessions = piece(base, &used, n * sizeof(*sessions));
    uint8_t *keys = piece(base, &used, 2 * n * key_stride);
    struct sl_outbox *outboxes = piece(base, &used, n * sizeof(*outboxes));
    void *sends = piece(base, &used, sl_sends_bytes(c->max_sends, c->max_message_units));
    struct sl_sent **rings = piece(base, &used, n * sizeof(*rings));
    struct sl_sent *records = piece(base, &used, (size_t)n * ring * sizeof(*records));
    uint32_t *ready_queue = piece(base, &used, ready * sizeof(*ready_queue));
    struct sl_wheel_timer *timers = piece(base, &used, n * sizeof(*timers));
    if (base == NULL)
        return used;

    ep->sessions = sessions;
    ep->keys = keys;
    ep->key_stride = key_stride;
    ep->outboxes = outboxes;
    ep->rings = rings;
    ep->n_rings = n;
    ep->ring_capacity = ring;
    for (uint32_t i = 0; i < n; i++)
        rings[n - 1 - i] = records + (size_t)i * ring;
    ep->ready = ready_queue;
    ep->ready_mask = ready - 1;
    sl_sends_init(&ep->sends, c->max_sends, c->max_message_units, sends);
    sl_wheel_init(&ep->wheel, timers);
    return used;
}

int sl_endpoint_create(
    const struct sl_endpoint_config *c, const struct sl_sink_ops *ops, void *sink, struct sl_endpoint **out)
{
    if (c->max_sessions == 0 || c->max_sessions > 1u << HANDLE_BITS || c->max_sends == 0 ||
        c->max_message_units == 0 || c->max_message_units > 1u << 31 || c->window_packets > 1u << 20)
        return -EINVAL;
    size_t bytes = lay_out(NULL, c);
    uint8_t *base = sl_secure_map(bytes);
    if (base == NULL)
        return -ENOMEM;
    lay_out(base, c);
    struct sl_endpoint *ep = (struct sl_endpoint *)(void *)base;
    ep->aead = sl_aead_create();
    if (ep->aead == NULL) {
        sl_secure_unmap(base, bytes);
        return -ENOMEM;
    }
    ep->mapped_bytes = bytes;
    ep->sink_ops = ops;
    ep->sink = sink;
    ep->max_sessions = c->max_sessions;
    ep->max_message_units = c->max_message_units;
    ep->window_packets = c->window_packets ? c->window_packets : SL_CC_DEFAULT_WINDOW_PACKETS;
    ep->lcore = c->lcore;
    ep->is_edge = c->is_edge;
    *out = ep;
    return 0;
}

void sl_endpoint_free(struct sl_endpoint *ep)
{
    if (ep == NULL)
        return;
    for (uint32_t i = 0; i < ep->max_sessions; i++)
        sl_endpoint_close(ep, i);
    sl_aead_free(ep->aead);
    sl_secure_unmap(ep, ep->mapped_bytes);
}

uint64_t sl_session_id(uint8_t lcore, uint32_t handle, uint32_t random)
{
    return (uint64_t)lcore << 56 | (uint64_t)(handle & 0xffffff) << 32 | random;
}

static int install_keys(struct sl_endpoint *ep, uint32_t session, const uint8_t *secret)
{
    struct sl_packet_keys k;
    int err = sl_packet_keys_derive(secret, &k);
    if (err == 0) {
        struct sl_session *s = &ep->sessions[session];
        const struct sl_direction_keys *rx = ep->is_edge ? &k.device_to_edge : &k.edge_to_device;
        const struct sl_direction_keys *tx = ep->is_edge ? &k.edge_to_device : &k.device_to_edge;
        sl_aead_key_init(ep->aead, sl_session_rx_key(ep, session), rx->key);
        sl_aead_key_init(ep->aead, sl_session_tx_key(ep, session), tx->key);
        memcpy(s->rx_iv, rx->iv, sizeof(s->rx_iv));
        memcpy(s->tx_iv, tx->iv, sizeof(s->tx_iv));
    }
    explicit_bzero(&k, sizeof(k));
    return err;
}

int sl_endpoint_open(struct sl_endpoint *ep, const struct sl_session_config *c, uint64_t now_ns)
{
    uint32_t session = sl_session_id_handle(c->local_id);
    uint32_t mtu = c->mtu ? c->mtu : SL_DEFAULT_MTU;
    if (session >= ep->max_sessions || c->local_id >> 56 != ep->lcore || mtu < SL_MIN_MTU ||
        c->fragment_units == 0 || c->fragment_units > sl_fragment_units(mtu, false))
        return -EINVAL;
    struct sl_session *s = &ep->sessions[session];
    if (s->open)
        return -EEXIST;
    bool queued = s->queued;
    memset(s, 0, sizeof(*s));
    s->queued = queued;
    int err = install_keys(ep, session, c->secret);
    if (err != 0)
        return err;
    s->local_id = c->local_id;
    s->peer_id = c->peer_id;
    s->fragment_units = c->fragment_units;
    s->local = c->local;
    s->remote = c->remote;
    s->remote_known = memcmp(&c->remote, &unknown_addr, sizeof(unknown_addr)) != 0;
    s->timer_ns = UINT64_MAX;
    sl_ack_state_init(&s->ack);
    sl_outbox_init(&ep->outboxes[session]);
    sl_send_head_init(&s->sends);
    sl_recovery_init(&s->recovery, c->initial_rtt_ns ? c->initial_rtt_ns : SL_INITIAL_RTT_NS);
    sl_cc_init(&s->cc, ep->window_packets);
    s->open = true;
    return 0;
}

void sl_endpoint_close(struct sl_endpoint *ep, uint32_t session)
{
    if (!sl_session_live(ep, session))
        return;
    struct sl_session *s = &ep->sessions[session];
    s->open = false; /* first: done() cannot start another message */
    sl_wheel_cancel(&ep->wheel, session);
    while (s->sends.first[SL_SENDS_ALL] != SL_SEND_NONE)
        sl_session_finish_send(ep, session, s->sends.first[SL_SENDS_ALL], SL_DONE_SESSION_GONE);
    if (s->recovery.ring != NULL)
        ep->rings[ep->n_rings++] = s->recovery.ring;
    sl_aead_key_clear(sl_session_rx_key(ep, session));
    sl_aead_key_clear(sl_session_tx_key(ep, session));
    bool queued = s->queued;
    explicit_bzero(s, sizeof(*s));
    s->queued = queued;
}

bool sl_endpoint_is_open(const struct sl_endpoint *ep, uint32_t session)
{
    return sl_session_live(ep, session);
}

bool sl_endpoint_key_spent(const struct sl_endpoint *ep, uint32_t session)
{
    return sl_session_live(ep, session) && ep->sessions[session].spent;
}

int sl_endpoint_send(
    struct sl_endpoint *ep, uint32_t session, uint32_t grant, uint32_t n_units, uint64_t now_ns)
{
    if (!sl_session_live(ep, session))
        return -ENOENT;
    if (n_units == 0 || n_units > ep->max_message_units)
        return -EINVAL;
    struct sl_session *s = &ep->sessions[session];
    if (sl_send_find(&ep->sends, &s->sends, grant) != SL_SEND_NONE)
        return -EEXIST;
    if (sl_send_start(&ep->sends, &s->sends, session, grant, n_units, s->fragment_units) == SL_SEND_NONE)
        return -ENOBUFS;
    sl_session_update(ep, session, now_ns);
    return 0;
}

int sl_endpoint_cancel(struct sl_endpoint *ep, uint32_t session, uint32_t grant)
{
    if (!sl_session_live(ep, session))
        return -ENOENT;
    uint32_t send = sl_send_find(&ep->sends, &ep->sessions[session].sends, grant);
    if (send == SL_SEND_NONE)
        return -ENOENT;
    sl_session_finish_send(ep, session, send, SL_DONE_CANCELLED);
    return 0;
}

int sl_endpoint_frame(struct sl_endpoint *ep, uint32_t session, const struct sl_frame *frame, uint64_t now_ns)
{
    if (!sl_session_live(ep, session))
        return -ENOENT;
    int err = sl_outbox_add(&ep->outboxes[session], frame);
    if (err == 0)
        sl_session_update(ep, session, now_ns);
    return err;
}

void sl_endpoint_stats(const struct sl_endpoint *ep, struct sl_endpoint_stats *out)
{
    *out = ep->stats;
}

int sl_session_stats(const struct sl_endpoint *ep, uint32_t session, struct sl_session_stats *out)
{
    if (!sl_session_live(ep, session))
        return -ENOENT;
    const struct sl_session *s = &ep->sessions[session];
    *out = (struct sl_session_stats){
        .packets_tx = s->packets_tx,
        .packets_rx = s->packets_rx,
        .bytes_tx = s->bytes_tx,
        .bytes_rx = s->bytes_rx,
        .retransmits = s->retransmits,
        .duplicates = s->duplicates,
        .ptos = s->ptos,
        .smoothed_rtt_ns = s->recovery.rtt.smoothed_ns,
        .min_rtt_ns = s->recovery.rtt.min_ns,
        .last_rx_ns = s->last_rx_ns,
        .last_ack_ns = s->last_ack_ns,
    };
    return 0;
}
