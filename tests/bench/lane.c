#include "tests/bench/lane.h"

#include "tests/bench/machine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOKED_AT = 16, /* bytes at the ends of tensor and targets */
    RING = 1024,
    POP = 32,
    GATHER = 32,
};
static const uint64_t expiry_ns = 2000000000u;

/* ---- the trainer's place ---- */

static bool as_sent(const struct bench_lane *r, const struct sl_slot *s)
{
    size_t tensor_end = (size_t)s->grid.stored_units * SL_UNIT_BYTES,
           end = (size_t)sl_grid_slot_units(&s->grid) * SL_UNIT_BYTES;
    const uint8_t *want = r->material->stored;
    return memcmp(s->data, want, LOOKED_AT) == 0 &&
           memcmp(s->data + tensor_end - LOOKED_AT, want + tensor_end - LOOKED_AT, LOOKED_AT) == 0 &&
           memcmp(s->data + end - LOOKED_AT, want + end - LOOKED_AT, LOOKED_AT) == 0;
}

void bench_lane_consume(struct bench_lane *r)
{
    uint32_t h[POP];
    unsigned n = sl_ring_spsc_pop(r->ready, h, POP);
    for (unsigned i = 0; i < n; i++) {
        struct sl_slot *s = sl_slot_get(r->slots, h[i]);
        r->wrong += !as_sent(r, s);
        s->outcome = (struct sl_slot_outcome){.status = SL_RESULT_EVAL};
    }
    r->consumed += n;
    for (unsigned done = 0; done < n;)
        done += sl_ring_spsc_push(r->returned, h + done, n - done);
}

void *bench_lane_consumer(void *arg)
{
    struct bench_lane *r = arg;
    bench_pin(bench_cpu(r->load->cores + 1 + r->index));
    while (__atomic_load_n(&r->consumer_stop, __ATOMIC_ACQUIRE) == 0)
        bench_lane_consume(r);
    return NULL;
}

/* ---- stages ---- */

/* Ingest's sink between two marks. */
static void place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    struct bench_lane *r = sink;
    bench_meter_mark(&r->meter, BENCH_CHECK);
    sl_ingest_sink.place(r->ingest, rx, n);
    bench_meter_mark(&r->meter, BENCH_PLACE);
}

static void commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok)
{
    struct bench_lane *r = sink;
    bench_meter_mark(&r->meter, BENCH_OPEN);
    sl_ingest_sink.commit(r->ingest, rx, n, ok);
    bench_meter_mark(&r->meter, BENCH_MARK);
}

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return sl_ingest_sink.source(((struct bench_lane *)sink)->ingest, session, grant, unit0, n);
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
    sl_ingest_sink.done(((struct bench_lane *)sink)->ingest, session, grant, why);
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now)
{
    sl_ingest_sink.frame(((struct bench_lane *)sink)->ingest, session, f, now);
}

static const struct sl_sink_ops marked_sink = {
    .place = place, .commit = commit, .source = source, .done = done, .frame = frame};

/* ---- making it ---- */

/* The arena's slots, as the full path uses them last in, first out. */
static int point_at_slots(struct bench_lane *r)
{
    const struct bench_load *l = r->load;
    uint8_t **at = calloc(l->slots, sizeof(*at));
    struct sl_slot_entry **e = calloc(l->slots, sizeof(*e));
    r->slot_of_session = calloc(l->sessions, sizeof(*r->slot_of_session));
    if (at == NULL || e == NULL || r->slot_of_session == NULL) {
        free(at);
        free(e);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < l->slots; i++) {
        e[i] = sl_slots_take(r->slots, l->grid.n_units);
        at[i] = e[i]->slot.data;
        memset(at[i], 0,
            (size_t)sl_grid_slot_units(&l->grid) * SL_UNIT_BYTES); /* in memory before anything is timed */
    }
    for (uint32_t i = l->slots; i-- > 0;)
        sl_slots_give(r->slots, e[i]);
    for (uint32_t i = 0; i < l->sessions; i++)
        r->slot_of_session[i] = at[i % l->slots];
    free(at);
    free(e);
    return 0;
}

static int make_ingest(struct bench_lane *r)
{
    const struct bench_load *l = r->load;
    r->ready = sl_ring_spsc_create(RING);
    r->returned = sl_ring_spsc_create(RING);
    int ret = sl_slots_create(l->slots, (size_t)sl_grid_slot_units(&l->grid) * SL_UNIT_BYTES, &r->slots);
    if (ret != 0 || r->ready == NULL || r->returned == NULL)
        return ret != 0 ? ret : -ENOMEM;
    struct sl_ingest_config c = {.slots = r->slots,
        .ready = r->ready,
        .returned = r->returned,
        .max_sessions = l->sessions,
        .d_model = l->d_model,
        .codec = l->codec,
        .fragment_units = l->fragment_units,
        .grants_per_session = l->grants_per_session,
        .grant_expiry_ns = expiry_ns,
        .park_after_ns = expiry_ns};
    return sl_ingest_create(&c, &r->ingest);
}

static int make_endpoint(struct bench_lane *r)
{
    const struct bench_load *l = r->load;
    struct sl_endpoint_config c = {.max_sessions = l->sessions,
        .max_sends = 64,
        .max_message_units = l->grid.n_units,
        .window_packets = l->window,
        .lcore = (uint8_t)r->index,
        .is_edge = true};
    int ret = sl_endpoint_create(&c, &marked_sink, r, &r->endpoint);
    if (ret != 0)
        return ret;
    sl_ingest_bind(r->ingest, r->endpoint);
    for (uint32_t i = r->index; i < l->sessions && ret == 0; i += l->cores) {
        struct sl_session_config sc = bench_load_session(l, BENCH_RECEIVER, i);
        ret = sl_endpoint_open(r->endpoint, &sc, bench_now_ns());
        sl_ingest_session_opened(r->ingest, sl_session_id_handle(sc.local_id), i);
    }
    return ret;
}

int bench_lane_make(
    struct bench_lane *r, unsigned index, struct bench_load *l, const struct bench_material *m)
{
    *r = (struct bench_lane){.index = index,
        .cpu = bench_cpu(index) >= 0 ? bench_cpu(index) : bench_cpu(0),
        .load = l,
        .material = m,
        .consumer_thread = bench_machine()->cpus_usable > 2 * l->cores};
    int ret = bench_bare_init(&r->bare, l);
    if (ret == 0)
        ret = make_ingest(r);
    if (ret == 0)
        ret = make_endpoint(r);
    return ret != 0 ? ret : point_at_slots(r);
}

int bench_lane_enter(struct bench_lane *r, struct sl_queue *q)
{
    int ret = bench_meter_init(&r->meter, q);
    r->meter.gather = GATHER;
    return ret;
}

void bench_lane_free(struct bench_lane *r)
{
    sl_endpoint_free(r->endpoint);
    sl_ingest_free(r->ingest);
    sl_slots_free(r->slots);
    sl_ring_spsc_free(r->ready);
    sl_ring_spsc_free(r->returned);
    bench_meter_free(&r->meter);
    if (r->bare.keys != NULL)
        bench_bare_free(&r->bare);
    free(r->slot_of_session);
    *r = (struct bench_lane){0};
}
