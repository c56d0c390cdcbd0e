/* The receive side: what came is checked in stages over a whole burst, the cheapest refusal first (rules T3,
 * T16). Nothing of a packet is believed, and no state of its session changes, before its tag was found right.
 */
#include "dataplane/transport/session.h"

#include <string.h>

enum { LOOK_AHEAD = 4, DUPLICATE_SLOTS = 2 * SL_BURST, NO_PACKET = 0xff };

static const struct sl_addr unknown_addr;

static inline void drop(struct sl_endpoint *ep, enum sl_drop why)
{
    ep->stats.drops[why]++;
}

/* Header, session, packet number: what is checked before anything is opened. */
static inline enum sl_drop check_header(struct sl_endpoint *ep, const struct sl_rx *rx, unsigned i)
{
    struct sl_rx_work *w = &ep->work;
    size_t header_len;
    if (rx->len < SL_DATAGRAM_MIN_BYTES)
        return SL_DROP_TOO_SHORT;
    memcpy(w->header[i], rx->pkt, SL_HEADER_DATA_BYTES);
    enum sl_drop why = sl_header_decode(w->header[i], rx->len, &w->parsed[i], &header_len);
    w->header_len[i] = (uint8_t)header_len;
    return why;
}

static inline enum sl_drop check_session(
    struct sl_endpoint *ep, struct sl_rx *rx, const struct sl_header *h, uint8_t *phase)
{
    uint32_t session = sl_session_id_handle(h->session);
    if (session >= ep->max_sessions)
        return SL_DROP_UNKNOWN_SESSION;
    const struct sl_session *s = &ep->sessions[session];
    if (!s->open || s->local_id != h->session)
        return SL_DROP_UNKNOWN_SESSION;
    *phase = s->rx_phase;
    if (((h->flags ^ s->rx_phase) & SL_FLAG_KEY_PHASE) != 0 || h->pn >= s->rx_limit) {
        enum sl_drop why = sl_key_phase_of(s, h, phase);
        if (why != SL_DROP_NONE)
            return why;
    }
    if (!sl_pn_window_fresh(&s->window, s->older, h->pn))
        return SL_DROP_REPLAYED;
    if (h->unit0 > UINT32_MAX - h->n_units)
        return SL_DROP_OFF_GRID;
    rx->session = session;
    rx->grant = h->grant;
    rx->unit0 = h->unit0;
    rx->n_units = h->n_units;
    rx->coded = h->coded;
    rx->pn = h->pn;
    rx->how = SL_REFUSE;
    rx->reason = SL_DROP_NONE;
    rx->dst = NULL;
    return SL_DROP_NONE;
}

/* Finds packet i's session and number among those of the burst before it, and enters it where they are new.
 */
static inline bool seen_in_burst(uint8_t *table, const struct sl_rx *rx, unsigned i)
{
    uint64_t key = rx[i].pn << 24 ^ rx[i].session;
    unsigned slot =
        (unsigned)(key * UINT64_C(0x9e3779b97f4a7c15) >> 57); /* Knuth's multiplicative hash, 7 bits */
    for (; table[slot] != NO_PACKET; slot = (slot + 1) % DUPLICATE_SLOTS) {
        const struct sl_rx *other = &rx[table[slot]];
        if (other->pn == rx[i].pn && other->session == rx[i].session)
            return true;
    }
    table[slot] = (uint8_t)i;
    return false;
}

static inline bool open_packet(struct sl_endpoint *ep, const struct sl_rx *rx, unsigned i, uint8_t *out)
{
    const struct sl_rx_work *w = &ep->work;
    size_t header_len = w->header_len[i];
    size_t len = rx->len - header_len - SL_TAG_BYTES;
    struct sl_session *s = &ep->sessions[rx->session];
    const struct sl_aead_key *key;
    const uint8_t *iv = s->rx_iv;
    if (w->phase[i] == s->rx_phase)
        key = sl_schedule_get(
            &ep->schedules, sl_rx_schedule_owner(rx->session, s->rx_phase), s->rx_key, &s->rx_schedule);
    else
        key = sl_key_to_open(ep, rx->session, w->phase[i], &iv);
    return key != NULL && sl_aead_open(ep->aead, key, iv, rx->pn, w->header[i], header_len,
                              rx->pkt + header_len, len, out, rx->pkt + header_len + len);
}

/* The tag was right: the number is spent. */
static inline void count_authentic(
    struct sl_endpoint *ep, const struct sl_rx *rx, uint8_t phase, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[rx->session];
    if (phase != s->rx_phase || rx->pn < s->rx_limit - SL_PN_RECEIVE_LIMIT)
        sl_key_opened(ep, rx->session, phase, rx->pn, now_ns);
    if (rx->pn >= s->window.next)
        s->ack.largest_ns = now_ns;
    sl_pn_window_mark(&s->window, s->older, rx->pn);
    s->packets_rx++;
    s->bytes_rx += rx->len;
}

/* Only the packet with the highest number so far moves a session (rules T9); a device's peer does not move.
 */
static inline void follow_address(struct sl_endpoint *ep, struct sl_session *s, const struct sl_rx *rx)
{
    if (s->remote_known && !ep->is_edge)
        return;
    if (memcmp(&s->remote, &rx->remote, sizeof(s->remote)) == 0 &&
        memcmp(&s->local, &rx->local, sizeof(s->local)) == 0)
        return;
    if (memcmp(&rx->remote, &unknown_addr, sizeof(unknown_addr)) == 0)
        return;
    s->remote = rx->remote;
    s->local = rx->local;
    s->remote_known = true;
}

static inline void accept_packet(
    struct sl_endpoint *ep, const struct sl_rx *rx, uint8_t phase, bool ack_eliciting, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[rx->session];
    uint64_t expected = s->window.next;
    bool knew_remote = s->remote_known;
    count_authentic(ep, rx, phase, now_ns);
    if (rx->pn >= expected)
        follow_address(ep, s, rx);
    if (ack_eliciting)
        sl_ack_owed(&s->ack, rx->pn == expected, now_ns);
    if (!knew_remote || (sl_ack_now(&s->ack) ? !s->queued : s->ack.deadline_ns < s->timer_ns))
        sl_session_update(ep, rx->session, now_ns);
}

/* ---- DATA ---- */

/* Opens what place() wants opened, commits, and accounts for all n. at[k]: the packet's index in the burst.
 */
static unsigned open_data(struct sl_endpoint *ep, struct sl_rx *const *rx, const uint8_t *at, unsigned n,
    uint64_t *deferred, uint64_t now_ns)
{
    struct sl_rx *opened[SL_BURST];
    uint8_t opened_at[SL_BURST];
    uint64_t ok = 0;
    unsigned m = 0, delivered = 0;
    for (unsigned k = 0; k < n; k++) {
        struct sl_rx *r = rx[k];
        switch (r->how) {
        case SL_PLACE:
        case SL_SCRATCH:
            if (open_packet(ep, r, at[k], r->how == SL_PLACE ? r->dst : ep->scratch))
                ok |= UINT64_C(1) << m;
            opened_at[m] = at[k];
            opened[m++] = r;
            break;
        case SL_DEFER:
            *deferred |= UINT64_C(1) << at[k];
            break;
        default: /* a refusal has a name; one without is of a message that nobody granted */
            drop(ep, r->reason > SL_DROP_NONE && r->reason < SL_DROP_COUNT ? r->reason : SL_DROP_NO_GRANT);
        }
    }
    if (m != 0)
        ep->sink_ops->commit(ep->sink, opened, m, ok);
    for (unsigned k = 0; k < m; k++) {
        if (!(ok >> k & 1)) {
            drop(ep, SL_DROP_BAD_TAG);
            continue;
        }
        if (opened[k]->how == SL_REFUSE) { /* authentic, and of no use: as a bad frame */
            count_authentic(ep, opened[k], ep->work.phase[opened_at[k]], now_ns);
            drop(ep, SL_DROP_BAD_CODING);
            continue;
        }
        if (opened[k]->how == SL_PLACE) {
            ep->stats.delivered_data++;
            delivered++;
        } else {
            ep->stats.scratch++;
            ep->sessions[opened[k]->session].duplicates++;
        }
        accept_packet(ep, opened[k], ep->work.phase[opened_at[k]], true, now_ns);
    }
    return delivered;
}

/* ---- FRAMES ---- */

/* Whether a frame may come here: REQUEST goes up, its answers down, and only what was sent can be
 * acknowledged. */
static bool frame_allowed(const struct sl_endpoint *ep, const struct sl_session *s, const struct sl_frame *f)
{
    switch (f->type) {
    case SL_FRAME_ACK:
        return f->ack.range[0].last < s->next_pn;
    case SL_FRAME_REQUEST:
        return ep->is_edge;
    case SL_FRAME_GRANT:
    case SL_FRAME_RESULT:
    case SL_FRAME_STEP_LOST:
        return !ep->is_edge;
    }
    return true;
}

/* Reads all frames of a packet before any is applied. */
static bool frames_valid(
    const struct sl_endpoint *ep, const struct sl_session *s, size_t len, bool *ack_eliciting)
{
    struct sl_frame f;
    *ack_eliciting = false;
    for (size_t at = 0, n; at < len; at += n) {
        n = sl_frame_decode(ep->frames + at, len - at, &f);
        if (n == 0 || !frame_allowed(ep, s, &f))
            return false;
        *ack_eliciting |= f.type != SL_FRAME_PADDING && f.type != SL_FRAME_ACK;
    }
    return true;
}

static void apply_frames(struct sl_endpoint *ep, uint32_t session, size_t len, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    struct sl_frame f;
    for (size_t at = 0; at < len;) {
        at += sl_frame_decode(ep->frames + at, len - at, &f);
        switch (f.type) {
        case SL_FRAME_ACK:
            sl_session_on_ack(ep, session, &f.ack, now_ns);
            break;
        case SL_FRAME_REQUEST:
        case SL_FRAME_GRANT:
        case SL_FRAME_RESULT:
        case SL_FRAME_STEP_LOST:
            ep->sink_ops->frame(ep->sink, session, &f, now_ns);
            break;
        case SL_FRAME_PATH_CHALLENGE:
            s->challenge = f.challenge;
            s->challenged = true;
            sl_session_update(ep, session, now_ns);
            break;
        }
    }
}

static unsigned open_frames(struct sl_endpoint *ep, const struct sl_rx *rx, unsigned i, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[rx->session];
    size_t len = rx->len - (size_t)ep->work.header_len[i] - SL_TAG_BYTES;
    bool ack_eliciting;
    if (!open_packet(ep, rx, i, ep->frames)) {
        drop(ep, SL_DROP_BAD_TAG);
        return 0;
    }
    if (!frames_valid(ep, s, len, &ack_eliciting)) {
        count_authentic(ep, rx, ep->work.phase[i], now_ns);
        drop(ep, SL_DROP_BAD_FRAME);
        return 0;
    }
    ep->stats.delivered_frames++;
    accept_packet(ep, rx, ep->work.phase[i], ack_eliciting, now_ns);
    apply_frames(ep, rx->session, len, now_ns);
    return 1;
}

/* ---- the burst ---- */

/* A packet that collided with an earlier one of its burst, alone: what it collided with has been settled
 * (rules T3). */
static unsigned open_alone(struct sl_endpoint *ep, struct sl_rx *rx, unsigned i, uint64_t now_ns)
{
    uint64_t again = 0;
    const uint8_t at = (uint8_t)i;
    enum sl_drop why = check_session(ep, rx, &ep->work.parsed[i], &ep->work.phase[i]);
    if (why != SL_DROP_NONE) {
        drop(ep, why);
        return 0;
    }
    if (ep->work.parsed[i].type == SL_PACKET_FRAMES)
        return open_frames(ep, rx, i, now_ns);
    ep->sink_ops->place(ep->sink, &rx, 1);
    unsigned delivered = open_data(ep, &rx, &at, 1, &again, now_ns);
    if (again != 0) /* alone there is nothing to wait for: the sink is out of something */
        drop(ep, SL_DROP_NO_MEMORY);
    return delivered;
}

static unsigned receive(struct sl_endpoint *ep, struct sl_rx *rx, unsigned n, uint64_t now_ns)
{
    struct sl_rx_work *w = &ep->work;
    struct sl_rx *data[SL_BURST];
    uint8_t data_at[SL_BURST], table[DUPLICATE_SLOTS];
    uint64_t alive = 0, frames = 0, deferred = 0;
    unsigned n_data = 0, delivered = 0;

    for (unsigned i = 0; i < n && i < LOOK_AHEAD; i++)
        __builtin_prefetch(rx[i].pkt);
    for (unsigned i = 0; i < n; i++) {
        if (i + LOOK_AHEAD < n)
            __builtin_prefetch(rx[i + LOOK_AHEAD].pkt);
        ep->stats.bytes_rx += rx[i].len;
        enum sl_drop why = check_header(ep, &rx[i], i);
        if (why != SL_DROP_NONE) {
            drop(ep, why);
            continue;
        }
        alive |= UINT64_C(1) << i;
        uint32_t session = sl_session_id_handle(w->parsed[i].session);
        if (session < ep->max_sessions)
            __builtin_prefetch(&ep->sessions[session]);
    }
    ep->stats.packets_rx += n;

    memset(table, NO_PACKET, sizeof(table));
    for (; alive != 0; alive &= alive - 1) {
        unsigned i = (unsigned)__builtin_ctzll(alive);
        enum sl_drop why = check_session(ep, &rx[i], &w->parsed[i], &w->phase[i]);
        if (why != SL_DROP_NONE) {
            drop(ep, why);
        } else if (seen_in_burst(table, rx, i)) {
            deferred |= UINT64_C(1) << i;
        } else if (w->parsed[i].type == SL_PACKET_FRAMES) {
            frames |= UINT64_C(1) << i;
        } else {
            data[n_data] = &rx[i];
            data_at[n_data++] = (uint8_t)i;
        }
    }

    if (n_data != 0) {
        ep->sink_ops->place(ep->sink, data, n_data);
        delivered += open_data(ep, data, data_at, n_data, &deferred, now_ns);
    }
    for (; frames != 0; frames &= frames - 1) {
        unsigned i = (unsigned)__builtin_ctzll(frames);
        delivered += open_frames(ep, &rx[i], i, now_ns);
    }
    for (; deferred != 0; deferred &= deferred - 1) {
        unsigned i = (unsigned)__builtin_ctzll(deferred);
        delivered += open_alone(ep, &rx[i], i, now_ns);
    }
    return delivered;
}

unsigned sl_rx_burst(struct sl_endpoint *ep, struct sl_rx *rx, unsigned n, uint64_t now_ns)
{
    unsigned delivered = 0;
    for (unsigned at = 0; at < n; at += SL_BURST)
        delivered += receive(ep, rx + at, n - at < SL_BURST ? n - at : SL_BURST, now_ns);
    return delivered;
}
