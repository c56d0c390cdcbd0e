#include "dataplane/transport/session.h"

bool sl_session_wants(const struct sl_endpoint *ep, uint32_t session)
{
    const struct sl_session *s = &ep->sessions[session];
    if (!s->open || s->spent || !s->remote_known)
        return false;
    if (s->ack.now || s->challenged || s->probes != 0)
        return true;
    return (ep->outboxes[session].due != 0 || s->sends.first[SL_SENDS_DUE] != SL_SEND_NONE) &&
           sl_cc_can_send(&s->cc);
}

static uint64_t recovery_deadline(const struct sl_session *s)
{
    if (s->probes != 0 && s->recovery.loss_ns == UINT64_MAX)
        return UINT64_MAX; /* the next PTO counts from the probes about to leave */
    return sl_recovery_deadline_ns(&s->recovery);
}

void sl_session_update(struct sl_endpoint *ep, uint32_t session, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    if (!s->queued && sl_session_wants(ep, session)) {
        ep->ready[ep->ready_tail++ & ep->ready_mask] = session;
        s->queued = true;
    }
    if (s->spent)
        return;
    uint64_t deadline = recovery_deadline(s);
    if (!s->ack.now && s->ack.deadline_ns < deadline)
        deadline = s->ack.deadline_ns;
    if (deadline < s->timer_ns) { /* a later one is found when the earlier fires: sending moves nothing */
        s->timer_ns = deadline;
        sl_wheel_arm(&ep->wheel, session, deadline, now_ns);
    }
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
        sl_outbox_acked(&ep->outboxes[o->session], r->pn, r->frames);
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
    if (!r->is_data)
        sl_outbox_lost(&ep->outboxes[o->session], r->pn, r->frames);
    else if (ep->sends.sends[r->send].generation == r->generation)
        sl_send_mark_lost(&ep->sends, &ep->sessions[o->session].sends, r->send, r->fragment);
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
    if (s->recovery.ring != NULL && s->recovery.head == s->recovery.tail) {
        ep->rings[ep->n_rings++] = s->recovery.ring;
        s->recovery.ring = NULL;
    }
}

void sl_session_on_ack(struct sl_endpoint *ep, uint32_t session, const struct sl_ack *ack, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    struct owner o = {ep, session};
    struct sl_recovery_result r = sl_recovery_on_ack(&s->recovery, ack, now_ns, &recovery_ops, &o);
    after_recovery(ep, s, &r, now_ns);
    sl_session_update(ep, session, now_ns);
}

struct sl_sent *sl_session_track(
    struct sl_endpoint *ep, uint32_t session, uint32_t pn, uint16_t bytes, uint64_t now_ns)
{
    struct sl_session *s = &ep->sessions[session];
    if (s->recovery.ring == NULL) { /* there is a ring for every session */
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
    if (s->ack.deadline_ns <= now_ns)
        s->ack.now = true;
    if (recovery_deadline(s) <= now_ns) {
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
