/* REQUEST to GRANT: shapes are checked, who cannot have a slot yet waits first in, first out, and what is not
 * used expires (rules T1, T2). */
#include "dataplane/ingest/ingest_internal.h"

#include <string.h>

enum { NS_PER_MS = 1000000 };

/* The grid of a request, or false where it is none that could be granted. */
static bool shape_of(const struct sl_ingest *in, const struct sl_ingest_session *s,
    const struct sl_request *r, struct sl_grid *grid)
{
    if (r->n_seqs == 0 || r->n_seqs > SL_SEQS_MAX || r->kind > SL_REQUEST_EVAL)
        return false;
    uint32_t rows = 0;
    for (unsigned i = 0; i < r->n_seqs; i++) {
        if (r->len[i] == 0)
            return false;
        rows += r->len[i];
    }
    return sl_grid_make(grid, rows, in->config.d_model, in->config.codec, 1, s->fragment_units) == 0 &&
           grid->n_units <= sl_slots_bytes(in->slots) / SL_UNIT_BYTES;
}

static bool same_shape(const struct sl_request *a, const struct sl_request *b)
{
    return a->kind == b->kind && a->n_seqs == b->n_seqs &&
           memcmp(a->len, b->len, a->n_seqs * sizeof(a->len[0])) == 0;
}

/* Of a step that never had a grant. Should the session's outbox be full, the device has dozens of frames
 * unread: it asks too much to be told of each. */
static void refuse(struct sl_ingest *in, uint32_t session, uint64_t step, enum sl_lost_reason reason)
{
    const struct sl_frame f = {
        .type = SL_FRAME_STEP_LOST, .step_lost = {.step = step, .reason = (uint8_t)reason}};
    SL_COUNT(in->stats.requests_refused, 1);
    sl_endpoint_frame(in->endpoint, session, &f, in->now_ns);
}

/* The latest grant of a step among those remembered. */
static struct sl_grant_record *grant_of_step(struct sl_ingest_session *s, uint64_t step)
{
    for (uint32_t back = 0; back < SL_GRANT_RING && back < s->last_grant; back++) {
        struct sl_grant_record *g = &s->ring[(s->last_grant - back) & SL_GRANT_RING_MASK];
        if (g->step == step)
            return g;
    }
    return NULL;
}

static struct sl_waiting *waiting_of_step(struct sl_ingest_session *s, uint64_t step)
{
    for (unsigned i = 0; i < SL_WAITING_PER_SESSION; i++)
        if (s->waiting[i].used && s->waiting[i].request.step == step)
            return &s->waiting[i];
    return NULL;
}

/* Whether the request only repeats what is granted, under way or over. A device that asks again while its
 * slot is untouched may have missed which grant it has, so that is said again. */
static bool repeats(struct sl_ingest *in, struct sl_ingest_session *s, const struct sl_request *r)
{
    struct sl_grant_record *g = grant_of_step(s, r->step);
    if (g == NULL)
        return false;
    switch (g->state) {
    case SL_GRANT_OPEN:
        if (!same_shape(&g->entry->slot.request, r)) {
            SL_COUNT(in->stats.grants_cancelled, 1);
            sl_ingest_end_grant(in, g, SL_GRANT_LOST);
            return false;
        }
        if (g->entry->slot.state == SL_SLOT_GRANTED)
            sl_ingest_owe(in, g, SL_OWES_GRANT);
        return true;
    case SL_GRANT_LOST: /* whom the news has yet to reach does not ask again for what was lost */
        g->owes &= (uint8_t)~SL_OWES_LOST_AGAIN;
        return g->owes & SL_OWES_LOST;
    default:
        return true;
    }
}

static void stop_waiting(struct sl_ingest *in, struct sl_waiting *w)
{
    TAILQ_REMOVE(w->held ? &in->sessions[w->session].held : &in->queue, w, link);
    w->used = w->held = false;
    SL_COUNT(in->stats.requests_waiting, (uint64_t)-1);
}

/* A device that asks for a step of the other kind has gone over to another phase and given up what it had
 * begun. Until its time ran out, such a grant would keep its slot, and in the end stand in the way of the
 * session's newer ones. */
static void end_given_up(struct sl_ingest *in, struct sl_ingest_session *s, const struct sl_request *r)
{
    for (unsigned i = 0; i < SL_WAITING_PER_SESSION; i++) {
        struct sl_waiting *w = &s->waiting[i];
        if (!w->used || w->request.step >= r->step || w->request.kind == r->kind)
            continue;
        stop_waiting(in, w);
        SL_COUNT(in->stats.requests_gone, 1);
    }
    for (unsigned i = 0; i < SL_GRANT_RING; i++) {
        struct sl_grant_record *g = &s->ring[i];
        if (g->state != SL_GRANT_OPEN || g->step >= r->step || g->entry->slot.request.kind == r->kind)
            continue;
        SL_COUNT(in->stats.grants_cancelled, 1);
        sl_ingest_end_grant(in, g, SL_GRANT_LOST);
    }
}

void sl_ingest_on_request(struct sl_ingest *in, uint32_t session, const struct sl_request *r)
{
    struct sl_ingest_session *s = &in->sessions[session];
    struct sl_grid grid;
    SL_COUNT(in->stats.requests, 1);
    if (!shape_of(in, s, r, &grid)) {
        refuse(in, session, r->step, SL_LOST_REFUSED_SHAPE);
        return;
    }
    struct sl_waiting *w = waiting_of_step(s, r->step);
    if (w != NULL || repeats(in, s, r)) {
        SL_COUNT(in->stats.requests_repeated, 1);
        if (w != NULL) {
            w->request = *r;
            w->grid = grid;
        }
        return;
    }
    end_given_up(in, s, r);
    for (w = s->waiting; w < s->waiting + SL_WAITING_PER_SESSION && w->used; w++)
        ;
    if (w == s->waiting + SL_WAITING_PER_SESSION) {
        refuse(in, session, r->step, SL_LOST_EXPIRED);
        return;
    }
    w->used = true;
    w->held = false;
    w->session = session;
    w->request = *r;
    w->grid = grid;
    TAILQ_INSERT_TAIL(&in->queue, w, link);
    SL_COUNT(in->stats.requests_waiting, 1);
    sl_ingest_grant_waiting(in);
}

void sl_ingest_drop_waiting(struct sl_ingest *in, struct sl_ingest_session *s)
{
    for (unsigned i = 0; i < SL_WAITING_PER_SESSION; i++) {
        if (!s->waiting[i].used)
            continue;
        stop_waiting(in, &s->waiting[i]);
        SL_COUNT(in->stats.requests_gone, 1);
    }
}

/* Something of the session's ended: those it held back queue up again. */
void sl_ingest_unhold(struct sl_ingest *in, struct sl_ingest_session *s)
{
    struct sl_waiting *w;
    while ((w = TAILQ_FIRST(&s->held)) != NULL) {
        TAILQ_REMOVE(&s->held, w, link);
        w->held = false;
        TAILQ_INSERT_TAIL(&in->queue, w, link);
    }
}

static bool may_have_another(const struct sl_ingest *in, const struct sl_ingest_session *s)
{
    const struct sl_grant_record *next = &s->ring[(s->last_grant + 1) & SL_GRANT_RING_MASK];
    return s->n_slots < in->config.grants_per_session && next->entry == NULL && next->park == SL_PARK_NONE &&
           next->owes == 0;
}

/* Into the list of those that may expire, by time: nearly always its end. */
static void watch(struct sl_ingest *in, struct sl_slot_entry *e)
{
    e->timer_ns = e->progress_ns + in->config.grant_expiry_ns;
    struct sl_slot_entry *before = TAILQ_LAST(&in->expiring, sl_slot_list);
    while (before != NULL && before->timer_ns > e->timer_ns)
        before = TAILQ_PREV(before, sl_slot_list, link);
    if (before == NULL)
        TAILQ_INSERT_HEAD(&in->expiring, e, link);
    else
        TAILQ_INSERT_AFTER(&in->expiring, before, e, link);
}

static void grant(struct sl_ingest *in, const struct sl_waiting *w)
{
    struct sl_ingest_session *s = &in->sessions[w->session];
    struct sl_slot_entry *e = sl_slots_take(in->slots, w->grid.n_units);
    sl_ingest_note_use(in);
    uint32_t index = ++s->last_grant;
    struct sl_grant_record *g = &s->ring[index & SL_GRANT_RING_MASK];
    g->index = index;
    g->state = SL_GRANT_OPEN;
    g->lost_reason = 0;
    g->unheard_of = false;
    g->fragment_units = w->grid.fragment_units;
    g->divisor = sl_grid_divisor(w->grid.fragment_units);
    g->n_units = w->grid.n_units;
    g->entry = e;
    g->source = NULL;
    g->session = w->session;
    g->step = w->request.step;
    e->epoch = s->epoch;
    e->progress_ns = in->now_ns;
    e->slot.session = w->session;
    e->slot.device = s->device;
    e->slot.grant = index;
    e->slot.request = w->request;
    e->slot.grid = w->grid;
    e->slot.granted_ns = in->now_ns;
    s->n_slots++;
    watch(in, e);
    SL_COUNT(in->stats.granted, 1);
    SL_COUNT(in->stats.grants_outstanding, 1);
    sl_ingest_owe(in, g, SL_OWES_GRANT);
}

void sl_ingest_grant_waiting(struct sl_ingest *in)
{
    struct sl_waiting *w;
    while (sl_slots_free_count(in->slots) != 0 && (w = TAILQ_FIRST(&in->queue)) != NULL) {
        struct sl_ingest_session *s = &in->sessions[w->session];
        if (may_have_another(in, s)) {
            stop_waiting(in, w);
            grant(in, w);
        } else {
            TAILQ_REMOVE(&in->queue, w, link);
            w->held = true;
            TAILQ_INSERT_TAIL(&s->held, w, link);
        }
    }
}

void sl_ingest_end_grant(struct sl_ingest *in, struct sl_grant_record *g, enum sl_grant_state state)
{
    g->state = (uint8_t)state;
    g->unheard_of = g->owes & SL_OWES_GRANT;
    g->owes = 0;
    SL_COUNT(in->stats.grants_outstanding, (uint64_t)-1);
    TAILQ_REMOVE(&in->expiring, g->entry, link);
    sl_ingest_release_slot(in, g);
}

/* A message that makes progress is left to itself: its time runs from the last good fragment. */
void sl_ingest_expire(struct sl_ingest *in)
{
    struct sl_slot_entry *e;
    while ((e = TAILQ_FIRST(&in->expiring)) != NULL && e->timer_ns <= in->now_ns) {
        if (e->progress_ns + in->config.grant_expiry_ns > in->now_ns) {
            TAILQ_REMOVE(&in->expiring, e, link);
            watch(in, e);
            continue;
        }
        struct sl_grant_record *g = sl_ingest_grant(in, e->slot.session, e->slot.grant);
        SL_COUNT(in->stats.grants_expired, 1);
        sl_ingest_end_grant(in, g, SL_GRANT_LOST);
        sl_ingest_tell_lost(in, g, SL_LOST_EXPIRED);
    }
}
