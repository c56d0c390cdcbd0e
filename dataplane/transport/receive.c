/* The receive side: what came is checked in stages over a whole burst, the cheapest refusal first (rules T3,
 * T16). Nothing of a packet is believed, and no state of its session changes, before its tag was found right.
 */
#include "dataplane/transport/session.h"

#include <string.h>

enum {
    HEADER_AHEAD = 12, /* packets whose headers are asked for before they are read: as many lines as a core
                          awaits at a time */
    OPEN_AHEAD = 2,    /* packets whose bytes, slots and keys are asked for before they are opened */
    LINE = 64,
};

static const struct sl_addr unknown_addr;

static inline void drop(struct sl_endpoint *ep, enum sl_drop why)
{
    ep->stats.drops[why]++;
}

/* ---- before anything is opened ---- */

/* The header, copied once: what is checked is what is authenticated (rules T8). */
static inline enum sl_drop check_header(struct sl_endpoint *ep, struct sl_rx *rx, unsigned i)
{
    struct sl_rx_work *w = &ep->work;
    struct sl_header h;
    size_t header_len = SL_HEADER_DATA_BYTES;
    if (rx->len < SL_DATAGRAM_MIN_BYTES)
        return SL_DROP_TOO_SHORT;
    memcpy(w->header[i], rx->pkt, SL_HEADER_DATA_BYTES);
    if (!sl_header_decode_data(w->header[i], rx->len, &h)) {
        enum sl_drop why = sl_header_decode(w->header[i], rx->len, &h, &header_len);
        if (why != SL_DROP_NONE)
            return why;
    }
    w->header_len[i] = (uint8_t)header_len;
    w->flags[i] = h.flags;
    w->id[i] = h.session;
    rx->session = sl_session_id_handle(h.session);
    rx->grant = h.grant;
    rx->unit0 = h.unit0;
    rx->n_units = h.n_units;
    rx->coded = h.coded;
    rx->pn = h.pn;
    return SL_DROP_NONE;
}

static inline bool is_frames(const struct sl_rx_work *w, unsigned i)
{
    return w->header_len[i] == SL_HEADER_FRAMES_BYTES;
}

/* The session, the key's phase and the packet number. */
static inline enum sl_drop check_session(struct sl_endpoint *ep, struct sl_rx *rx, unsigned i)
{
    struct sl_rx_work *w = &ep->work;
    if (rx->session >= ep->max_sessions)
        return SL_DROP_UNKNOWN_SESSION;
    const struct sl_session *s = &ep->sessions[rx->session];
    if (!s->open || s->local_id != w->id[i])
        return SL_DROP_UNKNOWN_SESSION;
    w->phase[i] = s->rx_phase;
    if (((w->flags[i] ^ s->rx_phase) & SL_FLAG_KEY_PHASE) != 0 || rx->pn >= s->rx_limit) {
        enum sl_drop why = sl_key_phase_of(s, w->flags[i], rx->pn, &w->phase[i]);
        if (why != SL_DROP_NONE)
            return why;
    }
    if (!sl_pn_window_fresh(&s->window, s->older, rx->pn))
        return SL_DROP_REPLAYED;
    if (rx->unit0 > UINT32_MAX - rx->n_units)
        return SL_DROP_OFF_GRID;
    rx->how = SL_REFUSE;
    rx->reason = SL_DROP_NONE;
    rx->dst = NULL;
    return SL_DROP_NONE;
}

/* The burst's packets `before` i, by bits, one of which may have the same number. */
static bool number_occurred(const struct sl_rx *rx, uint64_t before, unsigned i)
{
    for (; before != 0; before &= before - 1) {
        const struct sl_rx *other = &rx[__builtin_ctzll(before)];
        if (other->pn == rx[i].pn && other->session == rx[i].session)
            return true;
    }
    return false;
}

/* Where the burst's highest number of a session stands; a new place where it had none. */
static inline struct sl_burst_top *top_of(struct sl_rx_work *w, uint32_t session)
{
    unsigned at = session % SL_BURST_TOPS;
    while (w->top[at].burst == w->burst && w->top[at].session != session)
        at = (at + 1) % SL_BURST_TOPS;
    struct sl_burst_top *t = &w->top[at];
    if (t->burst != w->burst)
        *t = (struct sl_burst_top){.burst = w->burst, .session = session, .next = 0};
    return t;
}

/* ---- opening ---- */

/* What opening will touch, while another packet is opened: the key where it is another, the sealed bytes and
 * their place. */
static inline void fetch(struct sl_endpoint *ep, const struct sl_rx *rx, const struct sl_rx *before)
{
    const struct sl_session *s = &ep->sessions[rx->session];
    if (rx->session != before->session && s->rx_schedule < ep->schedules.n) {
        const uint8_t *key = sl_schedule_bytes(&ep->schedules, s->rx_schedule);
        for (size_t at = 0; at < ep->schedules.stride; at += LINE)
            __builtin_prefetch(key + at);
    }
    /* four lines a round; that a few beyond the end are asked for does no harm */
    for (const uint8_t *p = rx->pkt, *end = p + rx->len; p < end; p += 4 * LINE) {
        __builtin_prefetch(p);
        __builtin_prefetch(p + LINE);
        __builtin_prefetch(p + 2 * LINE);
        __builtin_prefetch(p + 3 * LINE);
    }
    if (rx->how != SL_PLACE || rx->coded != 0)
        return;
    for (const uint8_t *p = rx->dst, *end = p + rx->len; p < end; p += 4 * LINE) {
        __builtin_prefetch(p, 1);
        __builtin_prefetch(p + LINE, 1);
        __builtin_prefetch(p + 2 * LINE, 1);
        __builtin_prefetch(p + 3 * LINE, 1);
    }
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

/* ---- after a right tag ---- */

/* What came of one session, in a row: told to it at once. */
struct arrivals {
    uint32_t session;
    unsigned packets, eliciting;
    uint64_t bytes;
    bool in_order;           /* each was the next after the highest */
    const struct sl_rx *top; /* the packet that was the highest so far; NULL: none was */
};

/* The number is spent. */
static inline void arrive(struct sl_endpoint *ep, struct sl_session *s, struct arrivals *a,
    const struct sl_rx *rx, uint8_t phase, uint64_t now_ns)
{
    if (phase != s->rx_phase || rx->pn < s->rx_limit - SL_PN_RECEIVE_LIMIT)
        sl_key_opened(ep, rx->session, phase, rx->pn, now_ns);
    if (rx->pn >= s->window.next)
        a->top = rx;
    a->in_order &= rx->pn == s->window.next;
    sl_pn_window_mark(&s->window, s->older, rx->pn);
    a->packets++;
    a->bytes += rx->len;
}

static inline bool same_addr(const struct sl_addr *a, const struct sl_addr *b)
{
    return memcmp(a, b, sizeof(*a)) == 0;
}

/* Only the packet with the highest number so far moves a session (rules T9); a device's peer does not move.
 */
static inline void follow_address(struct sl_endpoint *ep, struct sl_session *s, const struct sl_rx *rx)
{
    if (s->remote_known && !ep->is_edge)
        return;
    if (same_addr(&s->remote, &rx->remote) && same_addr(&s->local, &rx->local))
        return;
    if (same_addr(&rx->remote, &unknown_addr))
        return;
    s->remote = rx->remote;
    s->local = rx->local;
    s->remote_known = true;
}

/* What follows from it: address, acknowledgement, and whether the session now has something to do. */
static inline void settle(struct sl_endpoint *ep, const struct arrivals *a, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[a->session];
    bool knew_remote = s->remote_known;
    s->packets_rx += a->packets;
    s->bytes_rx += a->bytes;
    if (a->top != NULL) {
        s->ack.largest_ns = now_ns;
        follow_address(ep, s, a->top);
    }
    if (a->eliciting != 0)
        sl_ack_owed(&s->ack, a->eliciting, a->in_order, now_ns);
    if (!knew_remote || (sl_ack_now(&s->ack) ? !s->queued : s->ack.deadline_ns < s->timer_ns))
        sl_session_update(ep, a->session, now_ns);
}

/* ---- DATA ---- */

/* Packets that the sink wanted opened: which they are in the burst, and which tags were right. */
struct opened {
    struct sl_rx *rx[SL_BURST];
    uint8_t at[SL_BURST];
    unsigned n;
    uint64_t ok;
};

/* Opens what place() wants opened. at[k]: the packet's index in the burst. */
static void open_placed(struct sl_endpoint *ep, struct sl_rx *const *rx, const uint8_t *at, unsigned n,
    struct opened *o, uint64_t *deferred)
{
    unsigned m = 0;
    uint64_t ok = 0;
    for (unsigned k = 0; k < n; k++) {
        struct sl_rx *r = rx[k];
        if (k + OPEN_AHEAD < n)
            fetch(ep, rx[k + OPEN_AHEAD], rx[k + OPEN_AHEAD - 1]);
        switch (r->how) {
        case SL_PLACE:
        case SL_SCRATCH:
            ok |= (uint64_t)open_packet(ep, r, at[k], r->how == SL_PLACE ? r->dst : ep->scratch) << m;
            o->at[m] = at[k];
            o->rx[m++] = r;
            break;
        case SL_DEFER:
            *deferred |= UINT64_C(1) << at[k];
            break;
        default: /* a refusal has a name; one without is of a message that nobody granted */
            drop(ep, r->reason > SL_DROP_NONE && r->reason < SL_DROP_COUNT ? r->reason : SL_DROP_NO_GRANT);
        }
    }
    o->n = m;
    o->ok = ok;
}

/* Accounts for packets [k, ...) of one session, in a row. Returns how many; *delivered: how many of them
 * reached their place. */
static inline unsigned accept_run(
    struct sl_endpoint *ep, const struct opened *o, unsigned k, unsigned *delivered, uint64_t now_ns)
{
    struct arrivals a = {.session = o->rx[k]->session, .in_order = true};
    struct sl_session *s = &ep->sessions[a.session];
    unsigned from = k, placed = 0, scratch = 0;
    for (; k < o->n && o->rx[k]->session == a.session; k++) {
        const struct sl_rx *r = o->rx[k];
        if (!(o->ok >> k & 1)) {
            drop(ep, SL_DROP_BAD_TAG);
            continue;
        }
        arrive(ep, s, &a, r, ep->work.phase[o->at[k]], now_ns);
        placed += r->how == SL_PLACE;
        scratch += r->how == SL_SCRATCH;
    }
    a.eliciting = placed + scratch;
    if (a.packets != a.eliciting) /* authentic, and of no use: as a bad frame */
        ep->stats.drops[SL_DROP_BAD_CODING] += a.packets - a.eliciting;
    ep->stats.delivered_data += placed;
    *delivered += placed;
    if (scratch != 0) {
        ep->stats.scratch += scratch;
        s->duplicates += scratch;
    }
    if (a.packets != 0)
        settle(ep, &a, now_ns);
    return k - from;
}

/* Opens, commits, and accounts for all n. */
static unsigned open_data(struct sl_endpoint *ep, struct sl_rx *const *rx, const uint8_t *at, unsigned n,
    uint64_t *deferred, uint64_t now_ns)
{
    struct opened o;
    unsigned delivered = 0;
    open_placed(ep, rx, at, n, &o, deferred);
    if (o.n != 0)
        ep->sink_ops->commit(ep->sink, o.rx, o.n, o.ok);
    for (unsigned k = 0; k < o.n;)
        k += accept_run(ep, &o, k, &delivered, now_ns);
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
    struct arrivals a = {.session = rx->session, .in_order = true};
    bool valid = frames_valid(ep, s, len, &ack_eliciting);
    arrive(ep, s, &a, rx, ep->work.phase[i], now_ns);
    a.eliciting = valid && ack_eliciting;
    settle(ep, &a, now_ns);
    if (!valid) {
        drop(ep, SL_DROP_BAD_FRAME);
        return 0;
    }
    ep->stats.delivered_frames++;
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
    enum sl_drop why = check_session(ep, rx, i);
    if (why != SL_DROP_NONE) {
        drop(ep, why);
        return 0;
    }
    if (is_frames(&ep->work, i))
        return open_frames(ep, rx, i, now_ns);
    ep->sink_ops->place(ep->sink, &rx, 1);
    unsigned delivered = open_data(ep, &rx, &at, 1, &again, now_ns);
    if (again != 0) /* alone there is nothing to wait for: the sink is out of something */
        drop(ep, SL_DROP_NO_MEMORY);
    return delivered;
}

/* Headers, and the sessions that they name. Returns those that passed, as bits. */
static uint64_t check_headers(struct sl_endpoint *ep, struct sl_rx *rx, unsigned n)
{
    uint64_t alive = 0, bytes = 0;
    for (unsigned i = 0; i < n && i < HEADER_AHEAD; i++)
        __builtin_prefetch(rx[i].pkt);
    for (unsigned i = 0; i < n; i++) {
        if (i + HEADER_AHEAD < n)
            __builtin_prefetch(rx[i + HEADER_AHEAD].pkt);
        bytes += rx[i].len;
        enum sl_drop why = check_header(ep, &rx[i], i);
        if (why != SL_DROP_NONE) {
            drop(ep, why);
            continue;
        }
        alive |= UINT64_C(1) << i;
        if (rx[i].session < ep->max_sessions) {
            __builtin_prefetch(&ep->sessions[rx[i].session]);
            __builtin_prefetch(&ep->sessions[rx[i].session].packets_rx, 1);
        }
    }
    ep->stats.packets_rx += n;
    ep->stats.bytes_rx += bytes;
    return alive;
}

static unsigned receive(struct sl_endpoint *ep, struct sl_rx *rx, unsigned n, uint64_t now_ns)
{
    struct sl_rx_work *w = &ep->work;
    struct sl_rx *data[SL_BURST];
    uint8_t data_at[SL_BURST];
    uint64_t alive = check_headers(ep, rx, n), passed = 0, frames = 0, deferred = 0;
    unsigned n_data = 0, delivered = 0;

    w->burst++;
    for (; alive != 0; alive &= alive - 1) {
        unsigned i = (unsigned)__builtin_ctzll(alive);
        enum sl_drop why = check_session(ep, &rx[i], i);
        if (why != SL_DROP_NONE) {
            drop(ep, why);
            continue;
        }
        struct sl_burst_top *top = top_of(w, rx[i].session);
        if (rx[i].pn < top->next && number_occurred(rx, passed, i)) {
            deferred |= UINT64_C(1) << i;
            continue;
        }
        top->next = rx[i].pn < top->next ? top->next : rx[i].pn + 1;
        passed |= UINT64_C(1) << i;
        if (is_frames(w, i)) {
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
