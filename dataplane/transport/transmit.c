/* The sending side: which session's turn it is, and what its next packet carries. */
#include "dataplane/transport/session.h"

#include <string.h>

struct packet {
    struct sl_header header;
    const uint8_t *plain;
    size_t plain_len;
};

/* Seals a packet into tx. The number was taken by the caller. */
static void seal(struct sl_endpoint *ep, uint32_t session, const struct packet *p, struct sl_tx *tx)
{
    struct sl_session *s = &ep->sessions[session];
    uint8_t header[SL_HEADER_DATA_BYTES];
    size_t header_len = sl_header_encode(&p->header, header);
    header[SL_HEADER_FLAGS_AT] |= s->tx_phase & SL_FLAG_KEY_PHASE;
    memcpy(tx->buf, header, header_len);
    sl_aead_seal(ep->aead, sl_key_to_seal(ep, session), s->tx_iv, p->header.pn, header, header_len, p->plain,
        p->plain_len, tx->buf + header_len, tx->buf + header_len + p->plain_len);
    tx->len = (uint16_t)(header_len + p->plain_len + SL_TAG_BYTES);
    tx->ecn = 0;
    tx->local = s->local;
    tx->remote = s->remote;
    tx->session = session;
    s->packets_tx++;
    s->bytes_tx += tx->len;
    ep->stats.packets_tx++;
    ep->stats.bytes_tx += tx->len;
}

/* No number is used twice, whatever becomes of the packet. */
static uint64_t take_number(struct sl_endpoint *ep, uint32_t session, uint64_t now_ns)
{
    sl_key_before_sealing(ep, session, now_ns);
    uint64_t pn = ep->sessions[session].next_pn++;
    sl_key_sealed(ep, session);
    return pn;
}

static size_t append_frame(uint8_t *out, size_t len, size_t cap, const struct sl_frame *f)
{
    return len + sl_frame_encode(f, out + len, cap - len);
}

static size_t append_ack(struct sl_session *s, uint8_t *out, size_t len, size_t cap, uint64_t now_ns)
{
    struct sl_frame f; /* not wiped: half a kilobyte */
    f.type = SL_FRAME_ACK;
    if (sl_pn_window_ranges(&s->window, s->older, &f.ack) == 0)
        return len;
    uint64_t delay_us = (now_ns - s->ack.largest_ns) / 1000;
    f.ack.delay_us = delay_us > UINT32_MAX ? UINT32_MAX : (uint32_t)delay_us;
    return append_frame(out, len, cap, &f);
}

/* A FRAMES packet with what is owed; `with_outbox` 0 where the window is shut. */
static void send_frames(
    struct sl_endpoint *ep, uint32_t session, struct sl_tx *tx, bool with_outbox, bool ping, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    const size_t cap = SL_FRAMES_MAX_DATAGRAM - SL_HEADER_FRAMES_BYTES - SL_TAG_BYTES;
    size_t len = 0;
    uint64_t pn = take_number(ep, session, now_ns);
    uint32_t slots = 0;
    ping |= sl_key_wants_ack(ep, s) && sl_session_can_track(ep, s);
    bool ack_eliciting = ping;

    if (sl_ack_pending(&s->ack)) {
        len = append_ack(s, ep->frames, len, cap, now_ns);
        sl_ack_sent(&s->ack);
    }
    if (s->challenged && sl_session_can_track(ep, s)) {
        len = append_frame(ep->frames, len, cap,
            &(struct sl_frame){.type = SL_FRAME_PATH_RESPONSE, .challenge = s->challenge});
        s->challenged = false;
        ack_eliciting = true;
    }
    if (ping)
        len = append_frame(ep->frames, len, cap, &(struct sl_frame){.type = SL_FRAME_PING});
    if (with_outbox) {
        len += sl_outbox_take(s->outbox, pn, ep->frames + len, cap - len, &slots);
        ack_eliciting |= slots != 0;
    }
    struct packet p = {
        .header = {.type = SL_PACKET_FRAMES, .session = s->peer_id, .pn = pn},
        .plain = ep->frames,
        .plain_len = len,
    };
    seal(ep, session, &p, tx);
    if (ack_eliciting) {
        struct sl_sent *r = sl_session_track(ep, session, pn, tx->len, now_ns);
        r->is_data = 0;
        r->frames = slots;
        if (s->probes != 0)
            s->probes--;
    }
}

/* A DATA packet with one fragment. Returns false where the sink does not have the message any more. */
static bool send_fragment(struct sl_endpoint *ep, uint32_t session, uint32_t send, uint32_t fragment,
    bool again, struct sl_tx *tx, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    const struct sl_send *m = &ep->sends.sends[send];
    uint32_t unit0, n_units = sl_send_units(m, fragment, &unit0);
    const uint8_t *plain = ep->sink_ops->source(ep->sink, session, m->grant, unit0, n_units);
    if (plain == NULL) {
        sl_session_finish_send(ep, session, send, SL_DONE_CANCELLED);
        return false;
    }
    size_t plain_len = (size_t)n_units * SL_UNIT_BYTES;
    uint16_t coded = 0;
    if (ep->sink_ops->compress != NULL)
        coded = ep->sink_ops->compress(ep->sink, session, plain, unit0, n_units, ep->scratch);
    if (coded != 0) {
        plain = ep->scratch;
        plain_len = coded;
    }
    uint64_t pn = take_number(ep, session, now_ns);
    struct packet p = {
        .header = {.type = SL_PACKET_DATA,
            .flags = coded != 0 ? SL_FLAG_COMPRESSED : 0,
            .grant = m->grant,
            .session = s->peer_id,
            .pn = pn,
            .unit0 = unit0,
            .n_units = (uint16_t)n_units,
            .coded = coded},
        .plain = plain,
        .plain_len = plain_len,
    };
    seal(ep, session, &p, tx);
    if (again) {
        s->retransmits++;
        ep->stats.retransmits++;
    }
    sl_session_pace(s, tx->len, now_ns);
    struct sl_sent *r = sl_session_track(ep, session, pn, tx->len, now_ns);
    r->is_data = 1;
    r->send = send;
    r->generation = m->generation;
    r->fragment = fragment;
    if (s->probes != 0)
        s->probes--;
    return true;
}

/* A probe with nothing new to carry repeats what has waited longest (RFC 9002 6.2.4), else asks. */
static bool send_probe(struct sl_endpoint *ep, uint32_t session, struct sl_tx *tx, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    const struct sl_recovery *r = &s->recovery;
    if ((int32_t)(s->probe_at - r->head) < 0)
        s->probe_at = r->head;
    for (; r->ring != NULL && (int32_t)(r->tail - s->probe_at) > 0; s->probe_at++) {
        const struct sl_sent *old = &r->ring[s->probe_at & r->mask];
        if (old->settled)
            continue;
        if (!old->is_data) {
            if (s->outbox == NULL || !sl_outbox_repeat(s->outbox, old->pn, old->frames))
                continue;
            s->probe_at++;
            send_frames(ep, session, tx, true, false, now_ns);
            return true;
        }
        const struct sl_send *m = &ep->sends.sends[old->send];
        if (m->generation != old->generation || sl_send_is_acked(m, old->fragment))
            continue;
        s->probe_at++;
        return send_fragment(ep, session, old->send, old->fragment, true, tx, now_ns);
    }
    send_frames(ep, session, tx, false, true, now_ns);
    return true;
}

/* Writes the session's next packet. Returns false where it has none for now. */
static bool next_packet(struct sl_endpoint *ep, uint32_t session, struct sl_tx *tx, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    while (sl_session_wants(ep, session)) {
        bool can_track = sl_session_can_track(ep, s);
        bool outbox = can_track && sl_session_frames_due(s) && (s->probes != 0 || sl_cc_can_send(&s->cc));
        if (sl_ack_now(&s->ack) || (can_track && s->challenged) || outbox) {
            send_frames(ep, session, tx, outbox, false, now_ns);
            return true;
        }
        uint32_t send = s->sends.first[SL_SENDS_DUE];
        if (send == SL_SEND_NONE) {
            if (send_probe(ep, session, tx, now_ns))
                return true;
            continue;
        }
        bool again;
        uint32_t fragment = sl_send_take(&ep->sends, &s->sends, send, &again);
        if (send_fragment(ep, session, send, fragment, again, tx, now_ns))
            return true;
    }
    return false;
}

static size_t largest_datagram(const struct sl_session *s)
{
    size_t data = SL_HEADER_DATA_BYTES + (size_t)s->fragment_units * SL_UNIT_BYTES + SL_TAG_BYTES;
    return data > SL_FRAMES_MAX_DATAGRAM ? data : SL_FRAMES_MAX_DATAGRAM;
}

static void run_timers(struct sl_endpoint *ep, uint64_t now_ns)
{
    uint32_t session;
    while ((session = sl_wheel_pop(&ep->wheel, now_ns)) != SL_WHEEL_NONE)
        sl_session_on_timer(ep, session, now_ns);
}

unsigned sl_tx_burst(struct sl_endpoint *ep, struct sl_tx *tx, unsigned n, uint64_t now_ns)
{
    unsigned filled = 0;
    run_timers(ep, now_ns);
    while (filled < n && ep->ready_head != ep->ready_tail) {
        uint32_t session = ep->ready[ep->ready_head++ & ep->queue_mask];
        struct sl_session *s = &ep->sessions[session];
        unsigned sent = 0;
        bool room = true;
        while (filled < n && sent < ep->train) {
            room = tx[filled].cap >= largest_datagram(s);
            if (!room || !next_packet(ep, session, &tx[filled], now_ns))
                break;
            filled++;
            sent++;
        }
        s->queued = false;
        if (s->open)
            sl_session_update(ep, session, now_ns); /* queues it again where it has more */
        if (!room)
            break; /* the caller's buffers are too small for this session: nothing would be gained by going on
                    */
    }
    return filled;
}

uint64_t sl_next_deadline(const struct sl_endpoint *ep)
{
    return ep->ready_head != ep->ready_tail ? 0 : sl_wheel_next_ns(&ep->wheel);
}
