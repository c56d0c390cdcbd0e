/* REQUEST to GRANT: shapes are checked, who cannot have a slot yet waits for its share, and what is not used
 * expires (rules T1, T2). */
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
           sl_grid_slot_units(grid) <= sl_slots_bytes(in->slots) / SL_UNIT_BYTES;
}

static bool same_shape(const struct sl_request *a, const struct sl_request *b)
{
    return a->kind == b->kind && a->cut == b->cut && a->n_seqs == b->n_seqs &&
           memcmp(a->len, b->len, a->n_seqs * sizeof(a->len[0])) == 0;
}

/* Of a step that never had a grant. Should the session's outbox be full, the device has dozens of frames
 * unread: it asks too much to be told of each. */
static void refuse(struct sl_ingest *in, uint32_t session, uint64_t step, enum sl_lost_reason reason)
{
    const struct sl_frame f = {
        .type = SL_FRAME_STEP_LOST, .step_lost = {.step = step, .reason = (uint8_t)reason}};
    sl_endpoint_frame(in->endpoint, session, &f, in->now_ns);
}

/* The latest grant of a step among those remembered; 0: none. */
static uint32_t grant_of_step(struct sl_ingest_session *s, uint64_t step)
{
    for (uint32_t back = 0; back < SL_GRANT_RING && back < s->last_grant; back++)
        if (sl_grant_record(s, s->last_grant - back)->step == step)
            return s->last_grant - back;
    return 0;
}

static struct sl_waiting *waiting_of_step(struct sl_ingest_session *s, uint64_t step)
{
    struct sl_waiting *w;
    TAILQ_FOREACH(w, &s->waiting, own)
    if (w->request.step == step)
        return w;
    return NULL;
}

/* Whether the request only repeats what is granted, under way or over. A device that asks again while its
 * slot is untouched may have missed which grant it has, so that is said again. */
static bool repeats(struct sl_ingest *in, struct sl_ingest_session *s, const struct sl_request *r)
{
    const uint32_t grant = grant_of_step(s, r->step);
    if (grant == 0)
        return false;
    struct sl_grant_record *g = sl_grant_record(s, grant);
    const struct sl_slot *slot;
    switch (sl_grant_state(s, grant)) {
    case SL_GRANT_OPEN:
        slot = &sl_grant_entry(in, s, grant)->slot;
        if (!same_shape(&slot->request, r)) {
            SL_COUNT(in->stats.grants_cancelled, 1);
            sl_ingest_end_grant(in, s, grant, SL_GRANT_LOST);
            return false;
        }
        if (slot->state == SL_SLOT_GRANTED)
            sl_ingest_owe(in, s, grant, SL_OWES_GRANT);
        return true;
    case SL_GRANT_LOST: /* whom the news has yet to reach does not ask again for what was lost */
        g->owes &= (uint8_t)~SL_OWES_LOST_AGAIN;
        return g->owes & SL_OWES_LOST;
    default:
        return true;
    }
}

/* ---- who waits ---- */

/* Every session can have one request wait; a further one only where that leaves a place for each of the
 * others. */
static struct sl_waiting *take_place(struct sl_ingest *in, struct sl_ingest_session *s)
{
    const uint32_t kept = in->n_open - in->n_open_waiting;
    if (s->n_waiting == SL_WAITING_PER_SESSION || in->n_waiting_free == 0 ||
        (s->n_waiting != 0 && in->n_waiting_free <= kept))
        return NULL;
    struct sl_waiting *w = TAILQ_FIRST(&in->waiting_free);
    TAILQ_REMOVE(&in->waiting_free, w, link);
    in->n_waiting_free--;
    in->n_open_waiting += s->n_waiting++ == 0;
    return w;
}

/* Up to where the session will have been served with what it has asked for already: its requests wait one
 * behind another. */
static uint64_t spoken_for(const struct sl_ingest_session *s)
{
    const struct sl_waiting *last = TAILQ_LAST(&s->waiting, sl_waiting_list);
    return last == NULL ? s->served : last->tag + last->rows;
}

static void stop_waiting(struct sl_ingest *in, struct sl_waiting *w)
{
    struct sl_ingest_session *s = &in->sessions[w->session];
    if (!w->held)
        sl_ingest_queue_remove(in, w);
    TAILQ_REMOVE(&s->waiting, w, own);
    TAILQ_INSERT_HEAD(&in->waiting_free, w, link); /* what was used last is in cache */
    in->n_waiting_free++;
    in->n_open_waiting -= --s->n_waiting == 0;
    SL_COUNT(in->stats.requests_waiting, (uint64_t)-1);
}

/* A device that asks for a step of the other kind has gone over to another phase and given up what it had
 * begun. Until its time ran out, such a grant would keep its slot, and in the end stand in the way of the
 * session's newer ones. */
static void end_given_up(struct sl_ingest *in, struct sl_ingest_session *s, const struct sl_request *r)
{
    for (struct sl_waiting *w = TAILQ_FIRST(&s->waiting), *next; w != NULL; w = next) {
        next = TAILQ_NEXT(w, own);
        if (w->request.step >= r->step || w->request.kind == r->kind)
            continue;
        stop_waiting(in, w);
        SL_COUNT(in->stats.requests_gone, 1);
    }
    for (uint32_t back = 0; back < SL_GRANT_RING && back < s->last_grant; back++) {
        const uint32_t grant = s->last_grant - back;
        if (sl_grant_state(s, grant) != SL_GRANT_OPEN || sl_grant_record(s, grant)->step >= r->step ||
            sl_grant_entry(in, s, grant)->slot.request.kind == r->kind)
            continue;
        SL_COUNT(in->stats.grants_cancelled, 1);
        sl_ingest_end_grant(in, s, grant, SL_GRANT_LOST);
    }
}

void sl_ingest_on_request(struct sl_ingest *in, struct sl_ingest_session *s, const struct sl_request *r)
{
    const uint32_t session = sl_ingest_handle(in, s);
    struct sl_grid grid;
    SL_COUNT(in->stats.requests, 1);
    if (!shape_of(in, s, r, &grid)) {
        SL_COUNT(in->stats.requests_refused, 1);
        refuse(in, session, r->step, SL_LOST_REFUSED_SHAPE);
        return;
    }
    struct sl_waiting *w = waiting_of_step(s, r->step);
    if (w != NULL || repeats(in, s, r)) {
        SL_COUNT(in->stats.requests_repeated, 1);
        if (w != NULL)
            w->request = *r, w->rows = grid.rows;
        return;
    }
    end_given_up(in, s, r);
    w = take_place(in, s);
    if (w == NULL) {
        SL_COUNT(in->stats.requests_no_room, 1);
        refuse(in, session, r->step, SL_LOST_EXPIRED);
        return;
    }
    w->session = session;
    w->request = *r;
    w->rows = grid.rows;
    w->tag = sl_share_tag(&in->share, spoken_for(s));
    w->arrival = in->arrivals++;
    TAILQ_INSERT_TAIL(&s->waiting, w, own);
    sl_ingest_queue_add(in, w);
    SL_COUNT(in->stats.requests_waiting, 1);
    sl_ingest_grant_waiting(in);
}

void sl_ingest_drop_waiting(struct sl_ingest *in, struct sl_ingest_session *s)
{
    struct sl_waiting *w;
    while ((w = TAILQ_FIRST(&s->waiting)) != NULL) {
        stop_waiting(in, w);
        SL_COUNT(in->stats.requests_gone, 1);
    }
}

/* Something of the session's ended: those it held back queue up again. */
void sl_ingest_unhold(struct sl_ingest *in, struct sl_ingest_session *s)
{
    struct sl_waiting *w;
    TAILQ_FOREACH(w, &s->waiting, own)
    {
        if (w->held)
            sl_ingest_queue_add(in, w);
    }
}

/* ---- grants ---- */

static bool may_have_another(const struct sl_ingest *in, struct sl_ingest_session *s)
{
    const uint32_t i = (s->last_grant + 1) & SL_GRANT_RING_MASK;
    return s->n_slots < in->config.grants_per_session &&
           !sl_grant_has_slot((enum sl_grant_state)s->state[i]) && s->state[i] != SL_GRANT_PARKED &&
           s->ring[i].owes == 0;
}

uint64_t sl_ingest_patience(const struct sl_ingest *in, const struct sl_slot_entry *e)
{
    const struct sl_ingest_config *c = &in->config;
    if (c->grant_margin_ns == 0)
        return c->grant_expiry_ns;
    uint64_t ns = c->grant_margin_ns;
    if (e->slot.state == SL_SLOT_GRANTED)
        ns += (uint64_t)e->slot.request.ready_in_ms * NS_PER_MS * c->grant_factor;
    return ns < c->grant_expiry_ns ? ns : c->grant_expiry_ns;
}

/* Into the list of those that may expire, by time: nearly always its end. */
static void watch(struct sl_ingest *in, struct sl_slot_entry *e)
{
    e->timer_ns = e->progress_ns + sl_ingest_patience(in, e);
    struct sl_slot_entry *before = TAILQ_LAST(&in->expiring, sl_slot_list);
    while (before != NULL && before->timer_ns > e->timer_ns)
        before = TAILQ_PREV(before, sl_slot_list, link);
    if (before == NULL)
        TAILQ_INSERT_HEAD(&in->expiring, e, link);
    else
        TAILQ_INSERT_AFTER(&in->expiring, before, e, link);
}

static void grant_slot(struct sl_ingest *in, struct sl_ingest_session *s, const struct sl_request *r)
{
    struct sl_grid grid;
    shape_of(in, s, r, &grid); /* it was good when it was asked for, and no limit changes */
    struct sl_slot_entry *e = sl_slots_take(in->slots, sl_grid_slot_units(&grid));
    e->n_units = e->missing = grid.n_units; /* never more than what the slot holds of it */
    e->plain_from = in->config.codec == SL_CODEC_INT8_LZ4 ? grid.tensor_units : 0;
    sl_ingest_note_use(in);
    const uint32_t index = ++s->last_grant;
    *sl_grant_record(s, index) = (struct sl_grant_record){.step = r->step};
    sl_grant_set(s, index, SL_GRANT_OPEN);
    s->where[index & SL_GRANT_RING_MASK] = (uint16_t)(e - in->entries);
    s->n_slots++;
    e->fragment_units = grid.fragment_units;
    e->divisor = sl_grid_divisor(grid.fragment_units);
    e->session = sl_ingest_handle(in, s);
    e->grant = index;
    e->epoch = s->epoch;
    e->progress_ns = in->now_ns;
    e->slot.session = e->session;
    e->slot.device = s->device;
    e->slot.grant = index;
    e->slot.request = *r;
    e->slot.grid = grid;
    e->slot.granted_ns = in->now_ns;
    watch(in, e);
    if (in->config.granted) {
        uint32_t device = (uint32_t)s->device;
        sl_ring_spsc_push(in->config.granted, &device, 1);
    }
    SL_COUNT(in->stats.granted, 1);
    SL_COUNT(in->stats.grants_outstanding, 1);
    sl_ingest_owe(in, s, index, SL_OWES_GRANT);
}

void sl_ingest_grant_waiting(struct sl_ingest *in)
{
    struct sl_waiting *w;
    while (sl_slots_free_count(in->slots) != 0 && in->n_queue != 0) {
        w = in->queue[0];
        struct sl_ingest_session *s = &in->sessions[w->session];
        if (may_have_another(in, s)) {
            s->served = sl_share_serve(&in->share, w->tag, w->rows);
            stop_waiting(in, w);
            grant_slot(in, s, &w->request);
        } else {
            sl_ingest_queue_remove(in, w);
            w->held = true;
        }
    }
}

void sl_ingest_end_grant(
    struct sl_ingest *in, struct sl_ingest_session *s, uint32_t grant, enum sl_grant_state state)
{
    struct sl_grant_record *g = sl_grant_record(s, grant);
    sl_grant_set(s, grant, state);
    g->unheard_of = (g->owes & SL_OWES_GRANT) != 0;
    g->owes = 0;
    SL_COUNT(in->stats.grants_outstanding, (uint64_t)-1);
    TAILQ_REMOVE(&in->expiring, sl_grant_entry(in, s, grant), link);
    sl_ingest_release_slot(in, s, grant);
}

/* A message that makes progress is left to itself: its time runs from the last good fragment. */
void sl_ingest_expire(struct sl_ingest *in)
{
    struct sl_slot_entry *e;
    while ((e = TAILQ_FIRST(&in->expiring)) != NULL && e->timer_ns <= in->now_ns) {
        if (e->progress_ns + sl_ingest_patience(in, e) > in->now_ns) {
            TAILQ_REMOVE(&in->expiring, e, link);
            watch(in, e);
            continue;
        }
        struct sl_ingest_session *s = &in->sessions[e->session];
        const uint32_t grant = e->grant;
        SL_COUNT(in->stats.grants_expired, 1);
        sl_ingest_end_grant(in, s, grant, SL_GRANT_LOST);
        sl_ingest_tell_lost(in, s, grant, SL_LOST_EXPIRED);
    }
}
