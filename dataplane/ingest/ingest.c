#include "dataplane/ingest/ingest_internal.h"

#include "dataplane/crypto/secure_memory.h"

#include <errno.h>
#include <string.h>

enum { ALIGN = 64, DEFAULT_GRANTS = 2, FRAGMENT_UNITS_MAX = SL_DATAGRAM_MAX_BYTES / SL_UNIT_BYTES };
#define RETRY_NS UINT64_C(1000000) /* until a full table of the endpoint, or a full ring, is tried again */

/* Cuts an aligned piece off the mapping; with base NULL only counts. */
static void *piece(uint8_t *base, size_t *used, size_t bytes)
{
    void *p = base == NULL ? NULL : base + *used;
    *used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

static size_t lay_out(uint8_t *base, const struct sl_ingest_config *c, uint32_t n_park)
{
    size_t used = 0;
    struct sl_ingest *in = piece(base, &used, sizeof(*in));
    struct sl_ingest_session *sessions = piece(base, &used, c->max_sessions * sizeof(*sessions));
    uint8_t *overlap = piece(base, &used, SL_DATAGRAM_MAX_BYTES);
    int32_t *park_free = piece(base, &used, n_park * sizeof(*park_free));
    uint32_t *backlog = piece(base, &used, sl_slots_count(c->slots) * sizeof(*backlog));
    if (base == NULL)
        return used;
    in->sessions = sessions;
    in->overlap = overlap;
    in->park_free = park_free;
    in->backlog = backlog;
    return used;
}

static void init_session(struct sl_ingest_session *s)
{
    TAILQ_INIT(&s->held);
    for (unsigned i = 0; i < SL_GRANT_RING; i++)
        s->ring[i].park = SL_PARK_NONE;
}

int sl_ingest_create(const struct sl_ingest_config *c, struct sl_ingest **out)
{
    if (c->max_sessions == 0 || c->d_model == 0 || c->fragment_units == 0 ||
        c->fragment_units > FRAGMENT_UNITS_MAX || c->grants_per_session > SL_GRANT_RING ||
        c->grant_expiry_ns == 0)
        return -EINVAL;
    size_t blocks = c->park_bytes / sl_slots_bytes(c->slots), most = (size_t)c->max_sessions * SL_GRANT_RING;
    uint32_t n_park = (uint32_t)(blocks < most ? blocks : most);
    size_t bytes = lay_out(NULL, c, n_park), park_bytes = n_park * sl_slots_bytes(c->slots);
    uint8_t *base = sl_secure_map(bytes);
    uint8_t *park = n_park == 0 ? NULL : sl_secure_map(park_bytes);
    if (base == NULL || (n_park != 0 && park == NULL)) {
        sl_secure_unmap(base, bytes);
        sl_secure_unmap(park, park_bytes);
        return -ENOMEM;
    }
    struct sl_ingest *in = (struct sl_ingest *)(void *)base;
    lay_out(base, c, n_park);
    in->config = *c;
    if (in->config.grants_per_session == 0)
        in->config.grants_per_session = DEFAULT_GRANTS;
    in->slots = c->slots;
    in->max_sessions = c->max_sessions;
    in->park_after_ns = c->park_after_ns;
    in->mapped_bytes = bytes;
    in->park = park;
    in->park_mapped = park_bytes;
    in->n_park = in->n_park_free = n_park;
    for (uint32_t i = 0; i < n_park; i++)
        in->park_free[n_park - 1 - i] = (int32_t)i;
    TAILQ_INIT(&in->queue);
    TAILQ_INIT(&in->expiring);
    TAILQ_INIT(&in->sending);
    TAILQ_INIT(&in->parked);
    TAILQ_INIT(&in->owing);
    for (uint32_t i = 0; i < c->max_sessions; i++)
        init_session(&in->sessions[i]);
    sl_ingest_note_use(in);
    *out = in;
    return 0;
}

void sl_ingest_free(struct sl_ingest *in)
{
    if (in == NULL)
        return;
    sl_secure_unmap(in->park, in->park_mapped);
    sl_secure_unmap(in, in->mapped_bytes);
}

void sl_ingest_bind(struct sl_ingest *in, struct sl_endpoint *endpoint)
{
    in->endpoint = endpoint;
}

void sl_ingest_note_use(struct sl_ingest *in)
{
    uint32_t free = sl_slots_free_count(in->slots), used = sl_slots_count(in->slots) - free;
    __atomic_store_n(&in->stats.slots_free, free, __ATOMIC_RELAXED);
    __atomic_store_n(&in->stats.slots_in_use, used, __ATOMIC_RELAXED);
    if (used > in->stats.slots_in_use_max)
        __atomic_store_n(&in->stats.slots_in_use_max, used, __ATOMIC_RELAXED);
}

/* The grant's slot is free again; where it is on a list it has been taken off. */
void sl_ingest_release_slot(struct sl_ingest *in, struct sl_grant_record *g)
{
    struct sl_ingest_session *s = &in->sessions[g->session];
    sl_slots_give(in->slots, g->entry);
    sl_ingest_note_use(in);
    g->entry = NULL;
    s->n_slots--;
    sl_ingest_unhold(in, s);
}

/* ---- sessions ---- */

static void close_grant(struct sl_ingest *in, struct sl_grant_record *g)
{
    switch (g->state) {
    case SL_GRANT_OPEN:
        SL_COUNT(in->stats.grants_cancelled, 1);
        sl_ingest_end_grant(in, g, SL_GRANT_NONE);
        break;
    case SL_GRANT_SENDING:
        SL_COUNT(in->stats.gradients_gone, 1);
        sl_ingest_release_gradient(in, g, SL_GRANT_NONE);
        break;
    default: /* READY: the trainer has it, and the session's next epoch tells when it comes back */
        break;
    }
    g->index = 0;
    g->state = SL_GRANT_NONE;
    g->owes = 0;
    g->entry = NULL;
    g->step = 0;
}

void sl_ingest_session_closed(struct sl_ingest *in, uint32_t session)
{
    if (session >= in->max_sessions || !in->sessions[session].open)
        return;
    struct sl_ingest_session *s = &in->sessions[session];
    sl_ingest_drop_waiting(in, s);
    for (unsigned i = 0; i < SL_GRANT_RING; i++)
        close_grant(in, &s->ring[i]);
    s->open = false;
}

void sl_ingest_session_opened(struct sl_ingest *in, uint32_t session, uint64_t device)
{
    if (session >= in->max_sessions)
        return;
    sl_ingest_session_closed(in, session);
    struct sl_ingest_session *s = &in->sessions[session];
    s->open = true;
    s->epoch++;
    s->device = device;
    s->last_grant = s->n_slots = 0;
    s->fragment_units = in->config.fragment_units;
    s->divisor = sl_grid_divisor(s->fragment_units);
}

int sl_ingest_set_fragment_units(struct sl_ingest *in, uint32_t session, uint16_t units)
{
    if (session >= in->max_sessions || !in->sessions[session].open)
        return -ENOENT;
    if (units == 0 || units > FRAGMENT_UNITS_MAX)
        return -EINVAL;
    in->sessions[session].fragment_units = units;
    in->sessions[session].divisor = sl_grid_divisor(units);
    return 0;
}

/* ---- the sink ---- */

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
    struct sl_ingest *in = sink;
    in->now_ns = now_ns;
    if (f->type == SL_FRAME_REQUEST && session < in->max_sessions && in->sessions[session].open)
        sl_ingest_on_request(in, session, &f->request);
}

const struct sl_sink_ops sl_ingest_sink = {.place = sl_ingest_place,
    .commit = sl_ingest_commit,
    .source = sl_ingest_source,
    .done = sl_ingest_done,
    .frame = frame};

/* ---- the turn ---- */

void sl_ingest_poll(struct sl_ingest *in, uint64_t now_ns)
{
    in->now_ns = now_ns;
    sl_ingest_push_backlog(in);
    sl_ingest_take_returned(in);
    sl_ingest_expire(in);
    sl_ingest_park_late(in);
    sl_ingest_pay(in);
    sl_ingest_grant_waiting(in);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t sl_ingest_deadline(const struct sl_ingest *in)
{
    uint64_t at = UINT64_MAX;
    const uint64_t park_after = __atomic_load_n(&in->park_after_ns, __ATOMIC_RELAXED);
    if (!TAILQ_EMPTY(&in->queue) && sl_slots_free_count(in->slots) != 0)
        return in->now_ns;
    if (in->backlog_n != 0 || !TAILQ_EMPTY(&in->owing))
        at = in->now_ns + RETRY_NS;
    if (!TAILQ_EMPTY(&in->expiring))
        at = earlier(at, TAILQ_FIRST(&in->expiring)->timer_ns);
    if (!TAILQ_EMPTY(&in->sending) && park_after < UINT64_MAX - in->now_ns)
        at = earlier(at, TAILQ_FIRST(&in->sending)->progress_ns + park_after);
    return at;
}

void sl_ingest_set_park_after(struct sl_ingest *in, uint64_t ns)
{
    __atomic_store_n(&in->park_after_ns, ns, __ATOMIC_RELAXED);
}

void sl_ingest_stats(const struct sl_ingest *in, struct sl_ingest_stats *out)
{
#define LOAD(field) out->field = __atomic_load_n(&in->stats.field, __ATOMIC_RELAXED)
    LOAD(requests);
    LOAD(requests_repeated);
    LOAD(requests_refused);
    LOAD(requests_gone);
    LOAD(requests_waiting);
    LOAD(granted);
    LOAD(ready);
    LOAD(grants_expired);
    LOAD(grants_cancelled);
    LOAD(grants_outstanding);
    LOAD(with_trainer);
    LOAD(returned_gradient);
    LOAD(returned_eval);
    LOAD(returned_refused);
    LOAD(returned_skipped);
    LOAD(returned_session_gone);
    LOAD(returned_stale);
    LOAD(gradients_acked);
    LOAD(gradients_gone);
    LOAD(gradients_lost);
    LOAD(gradients_outstanding);
    LOAD(parked);
    LOAD(park_dropped);
    LOAD(park_bytes);
    LOAD(units_placed);
    LOAD(units_scratch);
    LOAD(units_released);
    LOAD(slots_free);
    LOAD(slots_in_use);
    LOAD(slots_in_use_max);
#undef LOAD
}
