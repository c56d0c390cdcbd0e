#include "tests/bench/receiver.h"

#include "dataplane/io/lcore/lcore.h"
#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "tests/bench/watch.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LOOKED_AT = 16, /* bytes at the ends of tensor and targets */
    RING = 1024,
    POP = 32,
    GATHER = 32,
    BUFFERS = 512,
    LINK_WITHIN_S = 20,
    BUFFER = 2048,
    JUMBO_BUFFER = 9216,
    AEAD_SAMPLES = 1 << 16
};
static const uint64_t expiry_ns = 2000000000u;
static const double settle_s = 0.02; /* of a phase that is not measured by the wall */

/* ---- the trainer's place ---- */

static bool as_sent(const struct bench_receiver *r, const struct sl_slot *s)
{
    size_t tensor_end = (size_t)s->grid.stored_units * SL_UNIT_BYTES,
           end = (size_t)sl_grid_slot_units(&s->grid) * SL_UNIT_BYTES;
    const uint8_t *want = r->material.stored;
    return memcmp(s->data, want, LOOKED_AT) == 0 &&
           memcmp(s->data + tensor_end - LOOKED_AT, want + tensor_end - LOOKED_AT, LOOKED_AT) == 0 &&
           memcmp(s->data + end - LOOKED_AT, want + end - LOOKED_AT, LOOKED_AT) == 0;
}

/* Takes what is ready and gives it back evaluated. */
static void consume(struct bench_receiver *r)
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

static void *consumer_main(void *arg)
{
    struct bench_receiver *r = arg;
    bench_pin(bench_cpu(2));
    while (__atomic_load_n(&r->consumer_stop, __ATOMIC_ACQUIRE) == 0)
        consume(r);
    return NULL;
}

/* ---- full ---- */

static void poll(void *app, uint64_t now)
{
    struct bench_receiver *r = app;
    if (!r->consumer_thread)
        consume(r);
    sl_ingest_poll(r->ingest, now);
    bench_meter_mark(&r->meter, BENCH_HAND_OFF);
}

static uint64_t deadline(void *app)
{
    return sl_ingest_deadline(((struct bench_receiver *)app)->ingest);
}

static const struct sl_lcore_ops lcore_ops = {.poll = poll, .deadline = deadline};

/* Ingest's sink between two marks. */
static void place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    struct bench_receiver *r = sink;
    bench_meter_mark(&r->meter, BENCH_CHECK);
    sl_ingest_sink.place(r->ingest, rx, n);
    bench_meter_mark(&r->meter, BENCH_PLACE);
}

static void commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok)
{
    struct bench_receiver *r = sink;
    bench_meter_mark(&r->meter, BENCH_OPEN);
    sl_ingest_sink.commit(r->ingest, rx, n, ok);
    bench_meter_mark(&r->meter, BENCH_MARK);
}

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return sl_ingest_sink.source(((struct bench_receiver *)sink)->ingest, session, grant, unit0, n);
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
    sl_ingest_sink.done(((struct bench_receiver *)sink)->ingest, session, grant, why);
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now)
{
    sl_ingest_sink.frame(((struct bench_receiver *)sink)->ingest, session, f, now);
}

static const struct sl_sink_ops marked_sink = {
    .place = place, .commit = commit, .source = source, .done = done, .frame = frame};

static uint64_t units_placed(const struct bench_receiver *r)
{
    struct sl_ingest_stats s;
    sl_ingest_stats(r->ingest, &s);
    return s.units_placed;
}

static int fail(char *err, size_t cap, const struct bench_receiver *r, int ret, const char *what)
{
    const char *said = r->pair->shared->err;
    if (ret == -EINTR)
        snprintf(err, cap, "stopped");
    else if (said[0] != '\0')
        snprintf(err, cap, "sender: %s", said);
    else
        snprintf(err, cap, "%s: %s", what, ret == -ECHILD ? "the sender died" : strerror(-ret));
    return ret;
}

static void sum_up(struct bench_round *out, struct bench_meter *m, double data_share)
{
    const struct bench_turns *t = &m->turns;
    out->turns = *t;
    double packets = (double)t->packets_rx * data_share,
           all = packets + (double)t->interrupted_packets * data_share;
    double mean = packets > 0 ? (double)t->cycles / packets : 0,
           window = bench_sample_median(&m->windows) / data_share;
    out->cycles_per_packet = window > 0 ? window : mean;
    out->cycles_per_packet_mean = mean;
    out->cycles_per_packet_raw = all > 0 ? (double)(t->cycles + t->interrupted_cycles) / all : 0;
}

int bench_receiver_full(
    struct bench_receiver *r, double seconds, bool staged, struct bench_round *out, char *err, size_t cap)
{
    struct sl_lcore *lcore;
    struct sl_endpoint_stats before, after;
    pthread_t consumer;
    struct sl_lcore_config c = {.queue = &r->meter.queue,
        .endpoint = r->endpoint,
        .poll = SL_POLL_BUSY,
        .ops = &lcore_ops,
        .app = r,
        .cpu = r->load->cpu[BENCH_RECEIVER]};
    *out = (struct bench_round){0};
    sl_endpoint_stats(r->endpoint, &before);
    r->meter.staged = staged;
    bench_meter_begin(&r->meter);
    __atomic_store_n(&r->consumer_stop, 0, __ATOMIC_RELEASE);
    if (r->consumer_thread && pthread_create(&consumer, NULL, consumer_main, r) != 0)
        return fail(err, cap, r, -EAGAIN, "consumer's thread");
    int ret = sl_lcore_start(&c, &lcore, err, cap);
    if (ret != 0)
        return ret;
    ret = bench_pair_ask(r->pair, BENCH_FULL);
    if (ret == 0 && bench_sleep(settle_s)) {
        uint64_t units = units_placed(r), t0 = bench_now_ns();
        bench_sleep(seconds);
        out->seconds = 1e-9 * (double)(bench_now_ns() - t0);
        out->bytes = (units_placed(r) - units) * SL_UNIT_BYTES;
        out->packets = out->bytes / ((uint64_t)r->load->fragment_units * SL_UNIT_BYTES);
    }
    int drained = bench_pair_ask(r->pair, BENCH_DRAIN);
    bench_receiver_await_rest(r);
    sl_lcore_stop(lcore);
    __atomic_store_n(&r->consumer_stop, 1, __ATOMIC_RELEASE);
    if (r->consumer_thread)
        pthread_join(consumer, NULL);
    bench_meter_end(&r->meter);
    sl_endpoint_stats(r->endpoint, &after);
    uint64_t all = after.packets_rx - before.packets_rx, data = after.delivered_data - before.delivered_data;
    sum_up(out, &r->meter, all != 0 ? (double)data / (double)all : 1);
    ret = ret != 0 ? ret : drained;
    return ret != 0 ? fail(err, cap, r, ret, "full") : 0;
}

/* ---- bare ---- */

struct bare_run {
    struct bench_receiver *r;
    bool open;
    uint32_t stop; /* atomic */
    uint64_t taken, right;
    int status;
    char err[160];
};

static void bare_turn(struct bare_run *b)
{
    struct bench_receiver *r = b->r;
    struct sl_dgram d[SL_PORT_BURST];
    unsigned n = sl_queue_rx(&r->meter.queue, d, SL_PORT_BURST);
    if (n == 0)
        return;
    b->right += b->open ? bench_bare_open(&r->bare, d, n, r->slot_of_session) : n;
    sl_queue_free(&r->meter.queue, d, n);
    b->taken += n;
    __atomic_store_n(&r->pair->shared->taken, b->taken, __ATOMIC_RELEASE);
}

static void *bare_main(void *arg)
{
    struct bare_run *b = arg;
    struct bench_receiver *r = b->r;
    b->status = bench_pin(r->load->cpu[BENCH_RECEIVER]);
    if (b->status == 0)
        b->status = sl_queue_enter(&r->meter.queue, b->err, sizeof(b->err));
    if (b->status != 0)
        return NULL;
    while (__atomic_load_n(&b->stop, __ATOMIC_ACQUIRE) == 0)
        bare_turn(b);
    sl_queue_leave(&r->meter.queue);
    return NULL;
}

int bench_receiver_bare(
    struct bench_receiver *r, double seconds, bool open, struct bench_round *out, char *err, size_t cap)
{
    struct bare_run b = {.r = r, .open = open};
    uint64_t *taken = &r->pair->shared->taken;
    pthread_t thread;
    *out = (struct bench_round){0};
    r->meter.staged = false;
    bench_meter_begin(&r->meter);
    __atomic_store_n(taken, 0, __ATOMIC_RELEASE);
    if (pthread_create(&thread, NULL, bare_main, &b) != 0)
        return fail(err, cap, r, -EAGAIN, "bare loop's thread");
    int ret = bench_pair_ask(r->pair, BENCH_BARE);
    if (ret == 0 && bench_sleep(settle_s)) {
        uint64_t from = __atomic_load_n(taken, __ATOMIC_ACQUIRE), t0 = bench_now_ns();
        bench_sleep(seconds);
        out->seconds = 1e-9 * (double)(bench_now_ns() - t0);
        out->packets = __atomic_load_n(taken, __ATOMIC_ACQUIRE) - from;
        out->bytes = out->packets * r->load->fragment_units * SL_UNIT_BYTES;
    }
    int idle = bench_pair_ask(r->pair, BENCH_IDLE);
    bench_receiver_await_rest(r);
    __atomic_store_n(&b.stop, 1, __ATOMIC_RELEASE);
    pthread_join(thread, NULL);
    bench_meter_end(&r->meter);
    sum_up(out, &r->meter, 1);
    r->bare_taken += b.taken;
    r->bare_wrong += b.taken - b.right;
    if (b.status != 0) {
        snprintf(err, cap, "bare loop: %s", b.err[0] != '\0' ? b.err : strerror(-b.status));
        return b.status;
    }
    ret = ret != 0 ? ret : idle;
    return ret != 0 ? fail(err, cap, r, ret, "bare") : 0;
}

struct aead_run {
    struct sl_dgram d[BUFFERS];
    struct bench_bare sealer;
    struct bench_sample cycles;
    uint8_t *memory;
};

static double open_buffers(struct bench_receiver *r, struct aead_run *a, double seconds)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9);
    bench_sample_clear(&a->cycles);
    do {
        for (unsigned i = 0; i < BUFFERS; i += SL_PORT_BURST) {
            uint64_t t0 = sl_cycles();
            bench_bare_open(&r->bare, a->d + i, SL_PORT_BURST, r->slot_of_session);
            bench_sample_add(&a->cycles, (double)(sl_cycles() - t0) / SL_PORT_BURST);
        }
    } while (bench_now_ns() < until);
    return bench_sample_median(&a->cycles);
}

int bench_receiver_aead(
    struct bench_receiver *r, double seconds, double *alone, double *beside, char *err, size_t cap)
{
    size_t stride = r->load->link.mtu > SL_DEFAULT_MTU ? JUMBO_BUFFER : BUFFER;
    struct aead_run *a = calloc(1, sizeof(*a));
    int ret = a == NULL ? -ENOMEM : bench_sample_init(&a->cycles, AEAD_SAMPLES);
    cpu_set_t before;
    sched_getaffinity(0, sizeof(before), &before);
    if (ret == 0 && (a->memory = aligned_alloc(64, BUFFERS * stride)) == NULL)
        ret = -ENOMEM;
    if (ret == 0)
        ret = bench_bare_init(&a->sealer, r->load);
    if (ret == 0) {
        bench_pin(r->load->cpu[BENCH_RECEIVER]);
        for (unsigned i = 0; i < BUFFERS; i++) {
            a->d[i].data = a->memory + i * stride;
            a->d[i].len = bench_bare_seal(&a->sealer, &r->material, a->d[i].data);
        }
        *alone = open_buffers(r, a, seconds / 2);
        ret = bench_pair_ask(r->pair, BENCH_SEAL);
        if (ret == 0)
            *beside = open_buffers(r, a, seconds / 2);
        int idle = bench_pair_ask(r->pair, BENCH_IDLE);
        ret = ret != 0 ? ret : idle;
        bench_bare_free(&a->sealer);
        sched_setaffinity(0, sizeof(before), &before);
    }
    if (a != NULL) {
        bench_sample_free(&a->cycles);
        free(a->memory);
    }
    free(a);
    return ret != 0 ? fail(err, cap, r, ret, "aead") : 0;
}

/* ---- making it ---- */

/* The arena's slots, as the full path uses them last in, first out. */
static int point_at_slots(struct bench_receiver *r)
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

static int make_ingest(struct bench_receiver *r)
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

static int make_endpoint(struct bench_receiver *r)
{
    const struct bench_load *l = r->load;
    struct sl_endpoint_config c = {.max_sessions = l->sessions,
        .max_sends = 64,
        .max_message_units = l->grid.n_units,
        .window_packets = l->window,
        .is_edge = true};
    int ret = sl_endpoint_create(&c, &marked_sink, r, &r->endpoint);
    if (ret != 0)
        return ret;
    sl_ingest_bind(r->ingest, r->endpoint);
    for (uint32_t i = 0; i < l->sessions && ret == 0; i++) {
        struct sl_session_config sc = bench_load_session(l, BENCH_RECEIVER, i);
        ret = sl_endpoint_open(r->endpoint, &sc, bench_now_ns());
        sl_ingest_session_opened(r->ingest, i, i);
    }
    return ret;
}

int bench_receiver_make(
    struct bench_receiver *r, struct bench_load *l, struct bench_pair *pair, char *err, size_t cap)
{
    *r = (struct bench_receiver){
        .load = l, .pair = pair, .consumer_thread = bench_machine()->cpus_usable >= 3};
    int ret = bench_material_make(&r->material, l);
    if (ret == 0)
        ret = bench_bare_init(&r->bare, l);
    if (ret == 0)
        ret = make_ingest(r);
    if (ret == 0)
        ret = make_endpoint(r);
    if (ret == 0)
        ret = point_at_slots(r);
    if (ret != 0)
        snprintf(err, cap, "receiver: %s", strerror(-ret));
    return ret;
}

static int await_link(struct bench_receiver *r, char *err, size_t cap)
{
    struct sl_queue *q = sl_port_queue(r->port, 0);
    struct sl_dgram d[SL_PORT_BURST];
    uint64_t until = bench_now_ns() + (uint64_t)LINK_WITHIN_S * 1000000000u;
    int ret = sl_queue_enter(q, err, cap);
    if (ret != 0)
        return ret;
    while (!sl_port_link_up(r->port) && bench_pair_alive(r->pair) && bench_now_ns() < until &&
           !bench_stopping()) {
        sl_queue_free(q, d, sl_queue_rx(q, d, SL_PORT_BURST));
        bench_sleep(0.001);
    }
    sl_queue_leave(q);
    if (sl_port_link_up(r->port))
        return 0;
    return fail(err, cap, r,
        !bench_pair_alive(r->pair) ? -ECHILD
        : bench_stopping()         ? -EINTR
                                   : -ETIMEDOUT,
        "link");
}

int bench_receiver_open(struct bench_receiver *r, char *err, size_t cap)
{
    int ret = bench_link_open(&r->load->link, BENCH_RECEIVER, &r->port, err, cap);
    if (ret != 0)
        return ret;
    ret = bench_meter_init(&r->meter, sl_port_queue(r->port, 0));
    if (ret != 0) {
        snprintf(err, cap, "out of memory");
        return ret;
    }
    r->meter.gather = GATHER;
    ret = await_link(r, err, cap);
    if (ret != 0)
        return ret;
    ret = bench_pair_wait_ready(r->pair);
    return ret != 0 ? fail(err, cap, r, ret, "sender") : 0;
}

void bench_receiver_free(struct bench_receiver *r)
{
    if (r->port != NULL)
        bench_link_close(r->port);
    sl_endpoint_free(r->endpoint);
    sl_ingest_free(r->ingest);
    sl_slots_free(r->slots);
    sl_ring_spsc_free(r->ready);
    sl_ring_spsc_free(r->returned);
    bench_meter_free(&r->meter);
    if (r->bare.keys != NULL)
        bench_bare_free(&r->bare);
    free(r->slot_of_session);
    bench_material_free(&r->material);
    *r = (struct bench_receiver){0};
}
