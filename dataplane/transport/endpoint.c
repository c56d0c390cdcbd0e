#include "dataplane/transport/endpoint.h"

#include "dataplane/crypto/secure_memory.h"
#include "dataplane/transport/session.h"

#include <errno.h>
#include <string.h>

enum {
    ALIGN = 64,
    HANDLE_BITS = 24,
    DEFAULT_ACTIVE = 4096, /* 53 MiB of outboxes and rings with the default window, of which what is not used
                              is not touched */
    DEFAULT_SCHEDULES = 512, /* 512 KiB: half of a core's second-level cache */
};

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

/* What the caller left open. */
static struct sl_endpoint_config filled_in(const struct sl_endpoint_config *given)
{
    struct sl_endpoint_config c = *given;
    if (c.window_packets == 0)
        c.window_packets = SL_CC_DEFAULT_WINDOW_PACKETS;
    if (c.max_active == 0)
        c.max_active = DEFAULT_ACTIVE;
    if (c.max_active > c.max_sessions)
        c.max_active = c.max_sessions;
    if (c.key_schedules == 0)
        c.key_schedules = DEFAULT_SCHEDULES;
    if (c.key_schedules > c.max_sessions * SL_SCHEDULES_A_SESSION)
        c.key_schedules = c.max_sessions * SL_SCHEDULES_A_SESSION;
    if (c.key_update_packets == 0)
        c.key_update_packets = SL_KEY_UPDATE_PACKETS;
    return c;
}

/* twice the window: probes are exempt from it (RFC 9002 7.5) */
static uint32_t ring_capacity(const struct sl_endpoint_config *c)
{
    return power_of_two(2 * c->window_packets);
}

/* Lays the endpoint out in `base`, or counts what it takes. */
static size_t lay_out(uint8_t *base, const struct sl_endpoint_config *c)
{
    size_t used = 0;
    uint32_t n = c->max_sessions, ring = ring_capacity(c), queue = power_of_two(n);

    struct sl_endpoint *ep = piece(base, &used, sizeof(*ep));
    struct sl_session *sessions = piece(base, &used, n * sizeof(*sessions));
    struct sl_wheel_timer *timers = piece(base, &used, n * sizeof(*timers));
    uint32_t *ready = piece(base, &used, queue * sizeof(*ready));
    uint32_t *waiting = piece(base, &used, queue * sizeof(*waiting));
    void *sends = piece(base, &used, sl_sends_bytes(c->max_sends, c->max_message_units));
    void *schedules = piece(base, &used, sl_schedules_bytes(c->key_schedules));
    struct sl_sent **rings = piece(base, &used, c->max_active * sizeof(*rings));
    struct sl_outbox **outboxes = piece(base, &used, c->max_active * sizeof(*outboxes));
    struct sl_outbox *outbox = piece(base, &used, c->max_active * sizeof(*outbox));
    struct sl_sent *records = piece(base, &used, (size_t)c->max_active * ring * sizeof(*records));
    if (base == NULL)
        return used;

    ep->sessions = sessions;
    ep->ready = ready;
    ep->waiting = waiting;
    ep->queue_mask = queue - 1;
    ep->rings = rings;
    ep->outboxes = outboxes;
    ep->n_rings = ep->n_outboxes = ep->max_active = c->max_active;
    ep->ring_capacity = ring;
    for (uint32_t i = 0; i < c->max_active; i++) {
        rings[c->max_active - 1 - i] = records + (size_t)i * ring;
        outboxes[c->max_active - 1 - i] = outbox + i;
    }
    sl_schedules_init(&ep->schedules, NULL, c->key_schedules, schedules);
    sl_sends_init(&ep->sends, c->max_sends, c->max_message_units, sends);
    sl_wheel_init(&ep->wheel, timers);
    return used;
}

int sl_endpoint_create(const struct sl_endpoint_config *given, const struct sl_sink_ops *ops, void *sink,
    struct sl_endpoint **out)
{
    if (given->max_sessions == 0 || given->max_sessions > 1u << HANDLE_BITS || given->max_sends == 0 ||
        given->max_message_units == 0 || given->max_message_units > 1u << 31 ||
        given->window_packets > 1u << 20 || given->key_schedules > SL_SCHEDULES_MAX ||
        given->key_update_packets > SL_KEY_UPDATE_PACKETS)
        return -EINVAL;
    const struct sl_endpoint_config c = filled_in(given);
    size_t bytes = lay_out(NULL, &c);
    uint8_t *base = sl_secure_map(bytes);
    if (base == NULL)
        return -ENOMEM;
    lay_out(base, &c);
    struct sl_endpoint *ep = (struct sl_endpoint *)(void *)base;
    ep->aead = sl_aead_create();
    if (ep->aead == NULL) {
        sl_secure_unmap(base, bytes);
        return -ENOMEM;
    }
    ep->schedules.aead = ep->aead;
    ep->mapped_bytes = bytes;
    ep->sink_ops = ops;
    ep->sink = sink;
    ep->max_sessions = c.max_sessions;
    ep->max_message_units = c.max_message_units;
    ep->train = SL_TRAIN;
    ep->window_packets = c.window_packets;
    ep->key_update_packets = c.key_update_packets;
    ep->key_stop_packets = SL_PN_RECEIVE_LIMIT;
    ep->lcore = c.lcore;
    ep->is_edge = c.is_edge;
    *out = ep;
    return 0;
}

void sl_endpoint_memory(const struct sl_endpoint *ep, struct sl_endpoint_memory *out)
{
    const size_t queues = 2 * sizeof(uint32_t) * (ep->queue_mask + (size_t)1);
    *out = (struct sl_endpoint_memory){
        .idle_session_bytes =
            sizeof(struct sl_session) + sizeof(struct sl_wheel_timer) + queues / ep->max_sessions,
        .hot_session_bytes = offsetof(struct sl_session, older),
        .active_session_bytes =
            sizeof(struct sl_outbox) + ep->ring_capacity * sizeof(struct sl_sent) + 2 * ep->schedules.stride,
        .total_bytes = ep->mapped_bytes,
    };
}

void sl_endpoint_set_train(struct sl_endpoint *ep, uint32_t packets)
{
    ep->train = packets != 0 ? packets : 1;
}

void sl_endpoint_set_pace(struct sl_endpoint *ep, uint32_t session, double bps)
{
    const double least_bps = 1000, bits = 8, ns_per_s = 1e9;
    if (!sl_session_live(ep, session))
        return;
    struct sl_session *s = &ep->sessions[session];
    bps = bps > 0 && bps < least_bps ? least_bps : bps;
    s->pace = bps > 0 ? (uint64_t)(bits * ns_per_s / bps * (1 << SL_PACE_SHIFT) + 0.5) : 0;
    s->pace_next_ns = s->pace_part = 0;
    sl_session_repaced(ep, session);
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

/* All of it but its places in the endpoint's queues, from which it cannot be taken. */
static void wipe_session(struct sl_session *s)
{
    bool queued = s->queued, waiting = s->waiting;
    explicit_bzero(s, sizeof(*s));
    s->queued = queued;
    s->waiting = waiting;
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
    wipe_session(s);
    int err = sl_key_install(ep, session, c->secret);
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
    if (s->outbox != NULL)
        sl_session_give_outbox(ep, s);
    if (s->recovery.ring != NULL)
        sl_session_give_ring(ep, s);
    sl_key_forget(ep, session);
    wipe_session(s);
}

bool sl_endpoint_is_open(const struct sl_endpoint *ep, uint32_t session)
{
    return sl_session_live(ep, session);
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
    struct sl_session *s = &ep->sessions[session];
    bool had = s->outbox != NULL;
    if (!had) {
        if (ep->n_outboxes == 0) {
            ep->stats.outbox_waits++;
            return -ENOBUFS;
        }
        s->outbox = ep->outboxes[--ep->n_outboxes];
        sl_outbox_init(s->outbox);
    }
    int err = sl_outbox_add(s->outbox, frame);
    if (err == 0)
        sl_session_update(ep, session, now_ns);
    else if (!had)
        sl_session_give_outbox(ep, s);
    return err;
}

void sl_endpoint_stats(const struct sl_endpoint *ep, struct sl_endpoint_stats *out)
{
    *out = ep->stats;
    out->active_free = ep->n_rings < ep->n_outboxes ? ep->n_rings : ep->n_outboxes;
    out->schedules_made = ep->schedules.made;
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
        .last_rx_ns = s->ack.largest_ns,
        .last_ack_ns = s->last_ack_ns,
        .key_updates_tx = s->tx_updates,
        .key_updates_rx = s->rx_updates,
        .in_flight_packets = s->cc.in_flight_packets,
        .window_packets = s->cc.window_packets,
        .in_flight_bytes = s->cc.in_flight_bytes,
    };
    return 0;
}
