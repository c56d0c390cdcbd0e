#include "dataplane/ingest/ingest_internal.h"

#include "dataplane/crypto/secure_memory.h"

#include <errno.h>
#include <string.h>

enum {
    ALIGN = 64,
    DEFAULT_GRANTS = 2,
    FRAGMENT_UNITS_MAX = SL_DATAGRAM_MAX_BYTES / SL_UNIT_BYTES,
    SPARE_WAITING = 64, /* requests that wait beyond one for each session */
    PARK_MAX = UINT16_MAX,
    GRANT_FACTOR_MAX = 1000, /* times 2^32 ms fits 64 bits of ns */
};
#define RETRY_NS UINT64_C(1000000) /* until a full table of the endpoint, or a full ring, is tried again */

/* Cuts an aligned piece off the mapping; with base NULL only counts. */
static void *piece(uint8_t *base, size_t *used, size_t bytes)
{
    void *p = base == NULL ? NULL : base + *used;
    *used += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return p;
}

static uint32_t waiting_of(const struct sl_ingest_config *c)
{
    return c->waiting_requests != 0 ? c->waiting_requests : c->max_sessions + SPARE_WAITING;
}

static size_t lay_out(uint8_t *base, const struct sl_ingest_config *c, uint32_t n_park)
{
    size_t used = 0;
    struct sl_ingest *in = piece(base, &used, sizeof(*in));
    size_t before = used;
    struct sl_ingest_session *sessions = piece(base, &used, c->max_sessions * sizeof(*sessions));
    struct sl_waiting *waiting = piece(base, &used, waiting_of(c) * sizeof(*waiting));
    struct sl_waiting **queue = piece(base, &used, waiting_of(c) * sizeof(struct sl_waiting *));
    size_t for_sessions = used - before;
    const bool coded = sl_codec_is_coded(c->codec);
    uint8_t *overlap = piece(base, &used, SL_DATAGRAM_MAX_BYTES);
    uint8_t *expanded = piece(base, &used, coded ? SL_SCRATCH_STRIDE : 0);
    uint8_t *scratch = piece(base, &used, coded ? SL_INGEST_BURST * SL_SCRATCH_STRIDE : 0);
    uint16_t *park_free = piece(base, &used, n_park * sizeof(*park_free));
    struct sl_parked *park_block = piece(base, &used, n_park * sizeof(*park_block));
    uint32_t *backlog = piece(base, &used, sl_slots_count(c->slots) * sizeof(*backlog));
    if (base == NULL)
        return used;
    in->sessions = sessions;
    in->queue = queue;
    in->session_bytes = for_sessions / c->max_sessions;
    in->coded = coded;
    in->overlap = overlap;
    in->expanded = expanded;
    in->scratch = scratch;
    in->park_free = park_free;
    in->park_block = park_block;
    in->backlog = backlog;
    TAILQ_INIT(&in->waiting_free);
    in->n_waiting_free = waiting_of(c);
    for (uint32_t i = 0; i < in->n_waiting_free; i++)
        TAILQ_INSERT_TAIL(&in->waiting_free, &waiting[i], link);
    return used;
}

int sl_ingest_create(const struct sl_ingest_config *c, struct sl_ingest **out)
{
    if (c->max_sessions == 0 || c->d_model == 0 || c->fragment_units == 0 ||
        c->fragment_units > FRAGMENT_UNITS_MAX || c->grants_per_session > SL_GRANT_RING ||
        c->grant_expiry_ns == 0 || c->grant_factor > GRANT_FACTOR_MAX || (unsigned)c->codec >= SL_CODEC_COUNT)
        return -EINVAL;
    size_t blocks = c->park_bytes / sl_slots_bytes(c->slots), most = (size_t)c->max_sessions * SL_GRANT_RING;
    most = most < PARK_MAX ? most : PARK_MAX;
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
    in->entries = sl_slots_entries(c->slots);
    in->max_sessions = c->max_sessions;
    in->park_after_ns = c->park_after_ns;
    in->mapped_bytes = bytes;
    in->park = park;
    in->park_mapped = park_bytes;
    in->n_park = in->n_park_free = n_park;
    for (uint32_t i = 0; i < n_park; i++)
        in->park_free[n_park - 1 - i] = (uint16_t)i;
    TAILQ_INIT(&in->expiring);
    TAILQ_INIT(&in->sending);
    TAILQ_INIT(&in->parked);
    TAILQ_INIT(&in->owing);
    for (uint32_t i = 0; i < c->max_sessions; i++)
        TAILQ_INIT(&in->sessions[i].waiting);
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

size_t sl_ingest_session_bytes(const struct sl_ingest *in)
{
    return in->session_bytes;
}

void sl_ingest_release_slot(struct sl_ingest *in, struct sl_ingest_session *s, uint32_t grant)
{
    sl_slots_give(in->slots, sl_grant_entry(in, s, grant));
    sl_ingest_note_use(in);
    s->n_slots--;
    sl_ingest_unhold(in, s);
}

/* ---- sessions ---- */

static void close_grant(struct sl_ingest *in, struct sl_ingest_session *s, uint32_t grant)
{
    switch (sl_grant_state(s, grant)) {
    case SL_GRANT_OPEN:
        SL_COUNT(in->stats.grants_cancelled, 1);
        sl_ingest_end_grant(in, s, grant, SL_GRANT_NONE);
        break;
    case SL_GRANT_SENDING:
    case SL_GRANT_PARKED:
        SL_COUNT(in->stats.gradients_gone, 1);
        sl_ingest_release_gradient(in, s, grant, SL_GRANT_NONE);
        break;
    default: /* READY: the trainer has it, and the session's next epoch tells when it comes back */
        break;
    }
}

void sl_ingest_session_closed(struct sl_ingest *in, uint32_t session)
{
    struct sl_ingest_session *s = sl_ingest_session(in, session);
    if (s == NULL)
        return;
    sl_ingest_drop_waiting(in, s);
    for (uint32_t back = 0; back < SL_GRANT_RING && back < s->last_grant; back++)
        close_grant(in, s, s->last_grant - back);
    if (s->queued)
        TAILQ_REMOVE(&in->owing, s, owing_link);
    s->open = s->queued = false;
    in->n_open--;
}

void sl_ingest_session_opened(struct sl_ingest *in, uint32_t session, uint64_t device)
{
    if (session >= in->max_sessions)
        return;
    sl_ingest_session_closed(in, session);
    struct sl_ingest_session *s = &in->sessions[session];
    s->open = true;
    in->n_open++;
    s->epoch++;
    s->device = device;
    s->last_grant = 0;
    s->n_slots = 0;
    s->served = 0; /* its tags begin with the present one */
    s->fragment_units = in->config.fragment_units;
    s->divisor = sl_grid_divisor(s->fragment_units);
    memset(s->state, SL_GRANT_NONE, sizeof(s->state));
    memset(s->ring, 0, sizeof(s->ring));
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
    struct sl_ingest_session *s = sl_ingest_session(in, session);
    if (f->type == SL_FRAME_REQUEST && s != NULL)
        sl_ingest_on_request(in, s, &f->request);
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
    if (in->n_queue != 0 && sl_slots_free_count(in->slots) != 0)
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

uint64_t sl_ingest_waiting_for_slots(const struct sl_ingest *in)
{
    return __atomic_load_n(&in->stats.slots_free, __ATOMIC_RELAXED)
               ? 0
               : __atomic_load_n(&in->stats.requests_waiting, __ATOMIC_RELAXED);
}

void sl_ingest_stats(const struct sl_ingest *in, struct sl_ingest_stats *out)
{
#define LOAD(field) out->field = __atomic_load_n(&in->stats.field, __ATOMIC_RELAXED)
    LOAD(requests);
    LOAD(requests_repeated);
    LOAD(requests_refused);
    LOAD(requests_no_room);
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
    LOAD(fragments_expanded);
    LOAD(slots_free);
    LOAD(slots_in_use);
    LOAD(slots_in_use_max);
#undef LOAD
}
