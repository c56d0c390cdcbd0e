#include "dataplane/transport/session.h"

static bool may_send(const struct sl_session *s)
{
    return s->open && !s->spent && s->remote_known;
}

/* Whether it has something for the peer to acknowledge. */
static bool has_content(const struct sl_session *s)
{
    return s->challenged || s->probes != 0 ||
           ((sl_session_frames_due(s) || (s->sends.first[SL_SENDS_DUE] != SL_SEND_NONE && !s->paced)) &&
               sl_cc_can_send(&s->cc));
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

bool sl_session_wants(const struct sl_endpoint *ep, uint32_t session)
{
    const struct sl_session *s = &ep->sessions[session];
    return may_send(s) && (sl_ack_now(&s->ack) || (sl_session_can_track(ep, s) && has_content(s)));
}

static uint64_t recovery_deadline(const struct sl_session *s)
{
    if (s->probes != 0 && s->recovery.loss_ns == UINT64_MAX)
        return UINT64_MAX; /* the next PTO counts from the probes about to leave */
    return sl_recovery_deadline_ns(&s->recovery);
}

/* Into the ready queue, or where a ring is lacking into the one for that; out of either it comes by itself.
 */
static void queue_up(struct sl_endpoint *ep, uint32_t session)
{
    struct sl_session *s = &ep->sessions[session];
    if (s->queued)
        return;
    if (sl_session_wants(ep, session)) {
        ep->ready[ep->ready_tail++ & ep->queue_mask] = session;
        s->queued = true;
    } else if (!s->waiting && !sl_session_can_track(ep, s) && may_send(s) && has_content(s)) {
        ep->waiting[ep->waiting_tail++ & ep->queue_mask] = session;
        s->waiting = true;
        ep->stats.record_waits++;
    }
}

void sl_session_repaced(struct sl_endpoint *ep, uint32_t session)
{
    ep->sessions[session].paced = false;
    queue_up(ep, session);
}

void sl_session_update(struct sl_endpoint *ep, uint32_t session, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    s->paced = s->paced && s->pace_next_ns > now_ns;
    queue_up(ep, session);
    uint64_t deadline = s->key_ns;
    if (!s->spent) {
        if (s->paced && s->sends.first[SL_SENDS_DUE] != SL_SEND_NONE)
            deadline = least(deadline, s->pace_next_ns);
        deadline = least(deadline, recovery_deadline(s));
        if (!sl_ack_now(&s->ack))
            deadline = least(deadline, s->ack.deadline_ns);
    }
    if (deadline < s->timer_ns) { /* a later one is found when the earlier fires: sending moves nothing */
        s->timer_ns = deadline;
        sl_wheel_arm(&ep->wheel, session, deadline, now_ns);
    }
}

/* ---- what only a session at work has ---- */

void sl_session_give_ring(struct sl_endpoint *ep, struct sl_session *s)
{
    ep->rings[ep->n_rings++] = s->recovery.ring;
    s->recovery.ring = NULL;
    while (ep->waiting_head != ep->waiting_tail) { /* the first that still wants it */
        uint32_t next = ep->waiting[ep->waiting_head++ & ep->queue_mask];
        ep->sessions[next].waiting = false;
        queue_up(ep, next);
        if (ep->sessions[next].queued)
            break;
    }
}

void sl_session_give_outbox(struct sl_endpoint *ep, struct sl_session *s)
{
    ep->outboxes[ep->n_outboxes++] = s->outbox;
    s->outbox = NULL;
}

/* ---- what becomes of packets ---- */

struct owner {
    struct sl_endpoint *ep;
    uint32_t session;
};

void sl_session_finish_send(struct sl_endpoint *ep, uint32_t session, uint32_t send, enum sl_done why)
{
    uint32_t grant = ep->sends.sends[send].grant;
    sl_send_end(&ep->sends, &ep->sessions[session].sends, send);
    ep->sink_ops->done(ep->sink, session, grant, why);
}

static void on_acked(void *arg, const struct sl_sent *r)
{
    struct owner *o = arg;
    struct sl_endpoint *ep = o->ep;
    if (!r->is_data) {
        struct sl_session *s = &ep->sessions[o->session];
        if (s->outbox != NULL) {
            sl_outbox_acked(s->outbox, r->pn, r->frames);
            if (s->outbox->used == 0)
                sl_session_give_outbox(ep, s);
        }
        return;
    }
    if (ep->sends.sends[r->send].generation != r->generation)
        return; /* the message ended before */
    if (sl_send_mark_acked(&ep->sends, &ep->sessions[o->session].sends, r->send, r->fragment))
        sl_session_finish_send(ep, o->session, r->send, SL_DONE_ACKED);
}

static void on_lost(void *arg, const struct sl_sent *r)
{
    struct owner *o = arg;
    struct sl_endpoint *ep = o->ep;
    struct sl_session *s = &ep->sessions[o->session];
    if (!r->is_data) {
        if (s->outbox != NULL)
            sl_outbox_lost(s->outbox, r->pn, r->frames);
    } else if (ep->sends.sends[r->send].generation == r->generation) {
        sl_send_mark_lost(&ep->sends, &s->sends, r->send, r->fragment);
    }
}

static const struct sl_recovery_ops recovery_ops = {.acked = on_acked, .lost = on_lost};

static void after_recovery(
    struct sl_endpoint *ep, struct sl_session *s, const struct sl_recovery_result *r, uint64_t now_ns)
{
    if (r->acked_packets != 0) {
        s->last_ack_ns = now_ns;
        s->probes = 0;
        sl_cc_on_ack(&s->cc, r->acked_packets, r->acked_bytes, &s->recovery.rtt, now_ns);
    }
    if (r->lost_packets != 0)
        sl_cc_on_loss(&s->cc, r->lost_packets, r->lost_bytes, r->lost_last_sent_ns, now_ns);
    if (s->recovery.ring != NULL && s->recovery.head == s->recovery.tail)
        sl_session_give_ring(ep, s);
}

void sl_session_on_ack(struct sl_endpoint *ep, uint32_t session, const struct sl_ack *ack, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    struct owner o = {ep, session};
    struct sl_recovery_result r = sl_recovery_on_ack(&s->recovery, ack, now_ns, &recovery_ops, &o);
    after_recovery(ep, s, &r, now_ns);
    sl_key_acked(s, ack->range[0].last, now_ns);
    sl_session_update(ep, session, now_ns);
}

struct sl_sent *sl_session_track(
    struct sl_endpoint *ep, uint32_t session, uint64_t pn, uint16_t bytes, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    if (s->recovery.ring == NULL) { /* sl_session_can_track has said that there is one */
        s->recovery.ring = ep->rings[--ep->n_rings];
        s->recovery.mask = ep->ring_capacity - 1;
        s->recovery.head = s->recovery.tail = 0;
    } else if (sl_recovery_full(&s->recovery)) { /* a silent peer's probes have filled it */
        struct owner o = {ep, session};
        struct sl_recovery_result r = sl_recovery_drop_oldest(&s->recovery, &recovery_ops, &o);
        sl_cc_on_loss(&s->cc, r.lost_packets, r.lost_bytes, r.lost_last_sent_ns, now_ns);
    }
    sl_cc_on_sent(&s->cc, bytes, now_ns);
    return sl_recovery_push(&s->recovery, pn, bytes, now_ns);
}

/* ---- timers ---- */

void sl_session_on_timer(struct sl_endpoint *ep, uint32_t session, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    s->timer_ns = UINT64_MAX;
    if (s->key_ns <= now_ns)
        sl_key_on_timer(ep, session, now_ns);
    if (s->ack.deadline_ns <= now_ns)
        s->ack.deadline_ns = 0;
    if (!s->spent && recovery_deadline(s) <= now_ns) {
        if (s->recovery.loss_ns != UINT64_MAX) {
            struct owner o = {ep, session};
            struct sl_recovery_result r = sl_recovery_on_loss_timer(&s->recovery, now_ns, &recovery_ops, &o);
            after_recovery(ep, s, &r, now_ns);
        } else {
            s->recovery.pto_count++;
            s->probes = SL_PTO_PROBES;
            s->probe_at = s->recovery.head;
            s->ptos++;
        }
    }
    sl_session_update(ep, session, now_ns);
}
