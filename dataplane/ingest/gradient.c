/* What the trainer gives back goes down to the device; what stays unacknowledged for too long leaves the
 * arena (rules T6). */
#include "dataplane/ingest/ingest_internal.h"

#include <errno.h>
#include <string.h>

enum { POP_BURST = 32 };
#define LOST_AGAIN_NS UINT64_C(1000000000) /* a lost grant's STEP_LOST is not said more often */

/* ---- what is owed ---- */

static int say(struct sl_ingest *in, const struct sl_grant_record *g, uint8_t what)
{
    struct sl_frame f;
    switch (what) {
    case SL_OWES_GRANT:
        f.type = SL_FRAME_GRANT;
        f.grant = (struct sl_grant){.index = g->index,
            .step = g->step,
            .cumulative = g->index,
            .expiry_ms = (uint32_t)(in->config.grant_expiry_ns / 1000000)};
        break;
    case SL_OWES_LOST:
        f.type = SL_FRAME_STEP_LOST;
        f.step_lost = (struct sl_step_lost){
            .grant = g->unheard_of ? 0 : g->index, .step = g->step, .reason = g->lost_reason};
        break;
    default:
        f.type = SL_FRAME_RESULT;
        f.result = g->result;
    }
    return sl_endpoint_frame(in->endpoint, g->session, &f, in->now_ns);
}

static void lose_gradient(struct sl_ingest *in, struct sl_grant_record *g, uint64_t *counter)
{
    SL_COUNT(*counter, 1);
    g->owes = 0;
    sl_ingest_release_gradient(in, g, SL_GRANT_LOST);
    sl_endpoint_cancel(in->endpoint, g->session, g->index); /* its done() finds the grant LOST */
    sl_ingest_tell_lost(in, g, SL_LOST_PARK_FULL);
}

/* Full tables empty themselves as acknowledgements come; a session that the endpoint has closed is about to
 * be closed here, too. */
static bool comes_later(int err)
{
    return err == -ENOBUFS || err == -ENOENT;
}

static void pay_one(struct sl_ingest *in, struct sl_grant_record *g)
{
    if (g->owes & SL_OWES_LOST_AGAIN && in->now_ns - g->told_ns >= LOST_AGAIN_NS) {
        g->told_ns = in->now_ns;
        g->owes = (uint8_t)((g->owes & ~SL_OWES_LOST_AGAIN) | SL_OWES_LOST);
    }
    for (uint8_t what = SL_OWES_GRANT; what <= SL_OWES_RESULT; what = (uint8_t)(what << 1))
        if (g->owes & what && !comes_later(say(in, g, what)))
            g->owes &= (uint8_t)~what;
    if (!(g->owes & SL_OWES_SEND))
        return;
    int err = sl_endpoint_send(in->endpoint, g->session, g->index, g->source_units, in->now_ns);
    if (comes_later(err))
        return;
    g->owes &= (uint8_t)~SL_OWES_SEND;
    if (err != 0)
        lose_gradient(in, g, &in->stats.gradients_lost); /* larger than what the endpoint was made for */
    else if (g->entry != NULL)
        g->entry->slot.state = SL_SLOT_SENDING;
}

static void queue_owing(struct sl_ingest *in, struct sl_grant_record *g)
{
    if (g->owes == 0 || g->queued)
        return;
    g->queued = true;
    TAILQ_INSERT_TAIL(&in->owing, g, owing_link);
}

void sl_ingest_owe(struct sl_ingest *in, struct sl_grant_record *g, uint8_t what)
{
    g->owes |= what;
    if (!g->queued) /* else its turn comes: what was owed first is said first */
        pay_one(in, g);
    queue_owing(in, g);
}

void sl_ingest_tell_lost(struct sl_ingest *in, struct sl_grant_record *g, enum sl_lost_reason reason)
{
    g->lost_reason = (uint8_t)reason;
    g->told_ns = in->now_ns;
    sl_ingest_owe(in, g, SL_OWES_LOST);
}

void sl_ingest_pay(struct sl_ingest *in)
{
    struct sl_grant_record *g, *last = TAILQ_LAST(&in->owing, sl_owing_list);
    while (last != NULL) {
        g = TAILQ_FIRST(&in->owing);
        TAILQ_REMOVE(&in->owing, g, owing_link);
        g->queued = false;
        pay_one(in, g);
        queue_owing(in, g);
        if (g->owes == 0)
            sl_ingest_unhold(in, &in->sessions[g->session]);
        if (g == last)
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
    const struct sl_ingest_session *s = &in->sessions[slot->session];
    e->with_trainer = false;
    SL_COUNT(in->stats.with_trainer, (uint64_t)-1);
    if (!s->open || s->epoch != e->epoch) {
        orphaned(in, e);
        return;
    }
    struct sl_grant_record *g = sl_ingest_grant(in, slot->session, slot->grant);
    g->result = (struct sl_result){.grant = slot->grant,
        .step = slot->request.step,
        .global_step = slot->outcome.global_step,
        .status = slot->outcome.status,
        .flags = slot->outcome.flags,
        .tokens = slot->grid.rows,
        .nll = slot->outcome.nll};
    switch (slot->outcome.status) {
    case SL_RESULT_GRADIENT:
        SL_COUNT(in->stats.returned_gradient, 1);
        SL_COUNT(in->stats.gradients_outstanding, 1);
        g->state = SL_GRANT_SENDING;
        g->source = slot->data;
        g->source_units = slot->grid.tensor_units;
        e->slot.state = SL_SLOT_GRADIENT;
        e->progress_ns = in->now_ns;
        TAILQ_INSERT_TAIL(&in->sending, e, link);
        sl_ingest_owe(in, g, SL_OWES_RESULT | SL_OWES_SEND);
        return;
    case SL_RESULT_REFUSED:
        SL_COUNT(in->stats.returned_refused, 1);
        g->state = SL_GRANT_DONE;
        sl_ingest_release_slot(in, g);
        sl_ingest_tell_lost(in, g, SL_LOST_CONTENT);
        return;
    case SL_RESULT_EVAL:
        SL_COUNT(in->stats.returned_eval, 1);
        break;
    default:
        g->result.status = SL_RESULT_SKIPPED;
        SL_COUNT(in->stats.returned_skipped, 1);
    }
    g->state = SL_GRANT_DONE;
    sl_ingest_release_slot(in, g);
    sl_ingest_owe(in, g, SL_OWES_RESULT);
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
void sl_ingest_release_gradient(struct sl_ingest *in, struct sl_grant_record *g, enum sl_grant_state state)
{
    g->state = (uint8_t)state;
    g->owes &= (uint8_t)~SL_OWES_SEND;
    g->source = NULL;
    SL_COUNT(in->stats.gradients_outstanding, (uint64_t)-1);
    if (g->park != SL_PARK_NONE) {
        TAILQ_REMOVE(&in->parked, g, park_link);
        in->park_free[in->n_park_free++] = g->park;
        g->park = SL_PARK_NONE;
        SL_COUNT(in->stats.park_bytes, (uint64_t)0 - (uint64_t)g->source_units * SL_UNIT_BYTES);
        sl_ingest_unhold(in, &in->sessions[g->session]);
        return;
    }
    TAILQ_REMOVE(&in->sending, g->entry, link);
    sl_ingest_release_slot(in, g);
}

const uint8_t *sl_ingest_source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    const struct sl_grant_record *g = sl_ingest_grant(sink, session, grant);
    if (g == NULL || g->source == NULL || unit0 > g->source_units || n > g->source_units - unit0)
        return NULL;
    return g->source + (size_t)unit0 * SL_UNIT_BYTES;
}

void sl_ingest_done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
    struct sl_ingest *in = sink;
    struct sl_grant_record *g = sl_ingest_grant(in, session, grant);
    if (g == NULL || g->state != SL_GRANT_SENDING)
        return;
    switch (why) {
    case SL_DONE_ACKED:
        SL_COUNT(in->stats.gradients_acked, 1);
        sl_ingest_release_gradient(in, g, SL_GRANT_DONE);
        break;
    case SL_DONE_SESSION_GONE:
        SL_COUNT(in->stats.gradients_gone, 1);
        sl_ingest_release_gradient(in, g, SL_GRANT_DONE);
        break;
    case SL_DONE_CANCELLED:
        lose_gradient(in, g, &in->stats.gradients_lost);
        break;
    }
}

static void park(struct sl_ingest *in, struct sl_grant_record *g)
{
    size_t bytes = (size_t)g->source_units * SL_UNIT_BYTES;
    if (in->n_park_free == 0)
        lose_gradient(in, in->n_park == 0 ? g : TAILQ_FIRST(&in->parked), &in->stats.park_dropped);
    if (in->n_park_free == 0)
        return;
    g->park = in->park_free[--in->n_park_free];
    uint8_t *block = in->park + (size_t)g->park * sl_slots_bytes(in->slots);
    memcpy(block, g->source, bytes);
    g->source = block;
    TAILQ_INSERT_TAIL(&in->parked, g, park_link);
    TAILQ_REMOVE(&in->sending, g->entry, link);
    sl_ingest_release_slot(in, g);
    SL_COUNT(in->stats.parked, 1);
    SL_COUNT(in->stats.park_bytes, bytes);
}

void sl_ingest_park_late(struct sl_ingest *in)
{
    const uint64_t after = __atomic_load_n(&in->park_after_ns, __ATOMIC_RELAXED);
    struct sl_slot_entry *e;
    while ((e = TAILQ_FIRST(&in->sending)) != NULL && in->now_ns - e->progress_ns >= after)
        park(in, sl_ingest_grant(in, e->slot.session, e->slot.grant));
}
