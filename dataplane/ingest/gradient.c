/* What the trainer gives back goes down to the device; what stays unacknowledged for too long leaves the
 * arena (rules T6). */
#include "dataplane/ingest/ingest_internal.h"

#include <errno.h>
#include <string.h>

enum { POP_BURST = 32 };
#define LOST_AGAIN_NS UINT64_C(1000000000) /* a lost grant's STEP_LOST is not said more often */

/* ---- what is owed ---- */

static int say(struct sl_ingest *in, struct sl_ingest_session *s, uint32_t grant, uint8_t what)
{
    const struct sl_grant_record *g = sl_grant_record(s, grant);
    struct sl_frame f;
    switch (what) {
    case SL_OWES_GRANT:
        f.type = SL_FRAME_GRANT;
        f.grant = (struct sl_grant){.index = grant,
            .step = g->step,
            .cumulative = grant,
            .expiry_ms = (uint32_t)(sl_ingest_patience(in, sl_grant_entry(in, s, grant)) / 1000000)};
        break;
    case SL_OWES_LOST:
        f.type = SL_FRAME_STEP_LOST;
        f.step_lost = (struct sl_step_lost){
            .grant = g->unheard_of ? 0 : grant, .step = g->step, .reason = g->lost_reason};
        break;
    default:
        f.type = SL_FRAME_RESULT;
        f.result = (struct sl_result){.grant = grant,
            .step = g->step,
            .global_step = g->global_step,
            .status = g->status,
            .flags = g->flags,
            .tokens = g->tokens,
            .nll = g->nll};
    }
    return sl_endpoint_frame(in->endpoint, sl_ingest_handle(in, s), &f, in->now_ns);
}

static void lose_gradient(
    struct sl_ingest *in, struct sl_ingest_session *s, uint32_t grant, uint64_t *counter)
{
    SL_COUNT(*counter, 1);
    sl_grant_record(s, grant)->owes = 0;
    sl_ingest_release_gradient(in, s, grant, SL_GRANT_LOST);
    /* its done() finds the grant LOST */
    sl_endpoint_cancel(in->endpoint, sl_ingest_handle(in, s), grant);
    sl_ingest_tell_lost(in, s, grant, SL_LOST_PARK_FULL);
}

/* Full tables empty themselves as acknowledgements come; a session that the endpoint has closed is about to
 * be closed here, too. */
static bool comes_later(int err)
{
    return err == -ENOBUFS || err == -ENOENT;
}

static uint32_t gradient_units(const struct sl_ingest *in, const struct sl_ingest_session *s, uint32_t grant)
{
    return sl_grant_state(s, grant) == SL_GRANT_PARKED
               ? in->park_block[s->where[grant & SL_GRANT_RING_MASK]].units
               : sl_grant_entry(in, s, grant)->slot.grid.tensor_units;
}

static void pay_grant(struct sl_ingest *in, struct sl_ingest_session *s, uint32_t grant)
{
    struct sl_grant_record *g = sl_grant_record(s, grant);
    if (g->owes & SL_OWES_LOST_AGAIN && in->now_ns - g->told_ns >= LOST_AGAIN_NS) {
        g->told_ns = in->now_ns;
        g->owes = (uint8_t)((g->owes & ~SL_OWES_LOST_AGAIN) | SL_OWES_LOST);
    }
    for (uint8_t what = SL_OWES_GRANT; what <= SL_OWES_RESULT; what = (uint8_t)(what << 1))
        if (g->owes & what && !comes_later(say(in, s, grant, what)))
            g->owes &= (uint8_t)~what;
    if (!(g->owes & SL_OWES_SEND))
        return;
    int err = sl_endpoint_send(
        in->endpoint, sl_ingest_handle(in, s), grant, gradient_units(in, s, grant), in->now_ns);
    if (comes_later(err))
        return;
    g->owes &= (uint8_t)~SL_OWES_SEND;
    if (err != 0)
        lose_gradient(
            in, s, grant, &in->stats.gradients_lost); /* larger than what the endpoint was made for */
    else if (sl_grant_state(s, grant) == SL_GRANT_SENDING)
        sl_grant_entry(in, s, grant)->slot.state = SL_SLOT_SENDING;
}

/* A session that is owed something waits its turn once, whatever it is and of which grants. */
static void queue_owing(struct sl_ingest *in, struct sl_ingest_session *s)
{
    s->queued = true;
    TAILQ_INSERT_TAIL(&in->owing, s, owing_link);
}

void sl_ingest_owe(struct sl_ingest *in, struct sl_ingest_session *s, uint32_t grant, uint8_t what)
{
    struct sl_grant_record *g = sl_grant_record(s, grant);
    g->owes |= what;
    if (s->queued) /* its turn comes: what was owed first is said first */
        return;
    pay_grant(in, s, grant);
    if (g->owes != 0 && !s->queued)
        queue_owing(in, s);
}

void sl_ingest_tell_lost(
    struct sl_ingest *in, struct sl_ingest_session *s, uint32_t grant, enum sl_lost_reason reason)
{
    struct sl_grant_record *g = sl_grant_record(s, grant);
    g->lost_reason = (uint8_t)reason;
    g->told_ns = in->now_ns;
    sl_ingest_owe(in, s, grant, SL_OWES_LOST);
}

/* All that the session is owed, the oldest grant first. */
static void pay_session(struct sl_ingest *in, struct sl_ingest_session *s)
{
    bool owing = false, freed = false;
    s->queued = false;
    for (uint32_t grant = s->last_grant - SL_GRANT_RING + 1; grant != s->last_grant + 1; grant++) {
        struct sl_grant_record *g = sl_grant_record(s, grant);
        if (g->owes == 0)
            continue;
        pay_grant(in, s, grant);
        owing |= g->owes != 0;
        freed |= g->owes == 0;
    }
    if (owing && !s->queued)
        queue_owing(in, s);
    if (freed)
        sl_ingest_unhold(in, s);
}

void sl_ingest_pay(struct sl_ingest *in)
{
    struct sl_ingest_session *s, *last = TAILQ_LAST(&in->owing, sl_owing_list);
    while (last != NULL) {
        s = TAILQ_FIRST(&in->owing);
        TAILQ_REMOVE(&in->owing, s, owing_link);
        pay_session(in, s);
        if (s == last)
            break;
    }
}

/* ---- back from the trainer ---- */

static void orphaned(struct sl_ingest *in, struct sl_slot_entry *e)
{
    SL_COUNT(in->stats.returned_session_gone, 1);
    sl_slots_give(in->slots, e);
    sl_ingest_note_use(in);
}

static void returned(struct sl_ingest *in, struct sl_slot_entry *e)
{
    const struct sl_slot *slot = &e->slot;
    const uint32_t grant = e->grant;
    struct sl_ingest_session *s = &in->sessions[e->session];
    e->with_trainer = false;
    SL_COUNT(in->stats.with_trainer, (uint64_t)-1);
    if (!s->open || s->epoch != e->epoch) {
        orphaned(in, e);
        return;
    }
    struct sl_grant_record *g = sl_grant_record(s, grant);
    g->global_step = slot->outcome.global_step;
    g->status = slot->outcome.status & SL_RESULT_SKIPPED;
    g->flags = slot->outcome.flags & SL_RESULT_BOUNDARY;
    g->tokens = slot->grid.rows;
    g->nll = slot->outcome.nll;
    switch (slot->outcome.status) {
    case SL_RESULT_GRADIENT:
        SL_COUNT(in->stats.returned_gradient, 1);
        SL_COUNT(in->stats.gradients_outstanding, 1);
        sl_grant_set(s, grant, SL_GRANT_SENDING);
        e->slot.state = SL_SLOT_GRADIENT;
        e->progress_ns = in->now_ns;
        TAILQ_INSERT_TAIL(&in->sending, e, link);
        sl_ingest_owe(in, s, grant, SL_OWES_RESULT | SL_OWES_SEND);
        return;
    case SL_RESULT_REFUSED:
    case SL_OUTCOME_STALE:
        SL_COUNT(in->stats.returned_refused, 1);
        sl_grant_set(s, grant, SL_GRANT_DONE);
        sl_ingest_release_slot(in, s, grant);
        sl_ingest_tell_lost(
            in, s, grant, slot->outcome.status == SL_OUTCOME_STALE ? SL_LOST_STALE : SL_LOST_CONTENT);
        return;
    case SL_RESULT_EVAL:
        SL_COUNT(in->stats.returned_eval, 1);
        break;
    default:
        g->status = SL_RESULT_SKIPPED;
        SL_COUNT(in->stats.returned_skipped, 1);
    }
    sl_grant_set(s, grant, SL_GRANT_DONE);
    sl_ingest_release_slot(in, s, grant);
    sl_ingest_owe(in, s, grant, SL_OWES_RESULT);
}

void sl_ingest_take_returned(struct sl_ingest *in)
{
    uint32_t handles[POP_BURST];
    unsigned n;
    while ((n = sl_ring_spsc_pop(in->config.returned, handles, POP_BURST)) != 0) {
        for (unsigned i = 0; i < n; i++) {
            struct sl_slot_entry *e = sl_slots_entry(in->slots, handles[i]);
            if (e != NULL && e->with_trainer)
                returned(in, e);
            else
                SL_COUNT(in->stats.returned_stale, 1);
        }
    }
}

/* ---- until it is acknowledged ---- */

/* The end of a gradient that is in its slot or parked. */
void sl_ingest_release_gradient(
    struct sl_ingest *in, struct sl_ingest_session *s, uint32_t grant, enum sl_grant_state state)
{
    const bool parked = sl_grant_state(s, grant) == SL_GRANT_PARKED;
    const uint16_t where = s->where[grant & SL_GRANT_RING_MASK];
    sl_grant_set(s, grant, state);
    sl_grant_record(s, grant)->owes &= (uint8_t)~SL_OWES_SEND;
    SL_COUNT(in->stats.gradients_outstanding, (uint64_t)-1);
    if (parked) {
        struct sl_parked *p = &in->park_block[where];
        TAILQ_REMOVE(&in->parked, p, link);
        in->park_free[in->n_park_free++] = where;
        SL_COUNT(in->stats.park_bytes, (uint64_t)0 - (uint64_t)p->units * SL_UNIT_BYTES);
        sl_ingest_unhold(in, s);
        return;
    }
    TAILQ_REMOVE(&in->sending, &in->entries[where], link);
    sl_ingest_release_slot(in, s, grant);
}

static uint8_t *block_of(const struct sl_ingest *in, uint32_t i)
{
    return in->park + (size_t)i * sl_slots_bytes(in->slots);
}

const uint8_t *sl_ingest_source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    struct sl_ingest *in = sink;
    const struct sl_ingest_session *s = sl_ingest_session(in, session);
    const enum sl_grant_state state = s == NULL ? SL_GRANT_NONE : sl_grant_state(s, grant);
    if (state != SL_GRANT_SENDING && state != SL_GRANT_PARKED)
        return NULL;
    const uint32_t units = gradient_units(in, s, grant);
    if (unit0 > units || n > units - unit0)
        return NULL;
    const uint8_t *from = state == SL_GRANT_PARKED ? block_of(in, s->where[grant & SL_GRANT_RING_MASK])
                                                   : sl_grant_entry(in, s, grant)->data;
    return from + (size_t)unit0 * SL_UNIT_BYTES;
}

void sl_ingest_done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
    struct sl_ingest *in = sink;
    struct sl_ingest_session *s = sl_ingest_session(in, session);
    const enum sl_grant_state state = s == NULL ? SL_GRANT_NONE : sl_grant_state(s, grant);
    if (state != SL_GRANT_SENDING && state != SL_GRANT_PARKED)
        return;
    switch (why) {
    case SL_DONE_ACKED:
        SL_COUNT(in->stats.gradients_acked, 1);
        sl_ingest_release_gradient(in, s, grant, SL_GRANT_DONE);
        break;
    case SL_DONE_SESSION_GONE:
        SL_COUNT(in->stats.gradients_gone, 1);
        sl_ingest_release_gradient(in, s, grant, SL_GRANT_DONE);
        break;
    case SL_DONE_CANCELLED:
        lose_gradient(in, s, grant, &in->stats.gradients_lost);
        break;
    }
}

static void park(struct sl_ingest *in, struct sl_slot_entry *e)
{
    struct sl_ingest_session *s = &in->sessions[e->session];
    const uint32_t grant = e->grant, units = e->slot.grid.tensor_units;
    if (in->n_park == 0) {
        lose_gradient(in, s, grant, &in->stats.park_dropped);
        return;
    }
    if (in->n_park_free == 0) {
        const struct sl_parked *oldest = TAILQ_FIRST(&in->parked);
        lose_gradient(in, &in->sessions[oldest->session], oldest->grant, &in->stats.park_dropped);
    }
    const uint16_t at = in->park_free[--in->n_park_free];
    in->park_block[at] = (struct sl_parked){.session = e->session, .grant = grant, .units = units};
    TAILQ_INSERT_TAIL(&in->parked, &in->park_block[at], link);
    memcpy(block_of(in, at), e->data, (size_t)units * SL_UNIT_BYTES);
    TAILQ_REMOVE(&in->sending, e, link);
    sl_ingest_release_slot(in, s, grant);
    s->where[grant & SL_GRANT_RING_MASK] = at;
    sl_grant_set(s, grant, SL_GRANT_PARKED);
    SL_COUNT(in->stats.parked, 1);
    SL_COUNT(in->stats.park_bytes, (uint64_t)units * SL_UNIT_BYTES);
}

void sl_ingest_park_late(struct sl_ingest *in)
{
    const uint64_t after = __atomic_load_n(&in->park_after_ns, __ATOMIC_RELAXED);
    struct sl_slot_entry *e;
    while ((e = TAILQ_FIRST(&in->sending)) != NULL && in->now_ns - e->progress_ns >= after)
        park(in, e);
}
