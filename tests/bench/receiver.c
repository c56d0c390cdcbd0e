#include "tests/bench/receiver.h"

#include "dataplane/io/lcore/lcore.h"
#include "dataplane/io/lcore/steer.h"
#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "tests/bench/watch.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFERS = 512, LINK_WITHIN_S = 20, BUFFER = 2048, JUMBO_BUFFER = 9216, AEAD_SAMPLES = 1 << 16 };
static const double settle_s = 0.02; /* of a phase that is not measured by the wall */

/* ---- full ---- */

static void poll(void *app, uint64_t now)
{
    struct bench_lane *l = app;
    bench_meter_mark(&l->meter, BENCH_ACKNOWLEDGE);
    if (!l->consumer_thread)
        bench_lane_consume(l);
    sl_ingest_poll(l->ingest, now);
    bench_meter_mark(&l->meter, BENCH_HAND_OFF);
}

static uint64_t deadline(void *app)
{
    return sl_ingest_deadline(((struct bench_lane *)app)->ingest);
}

static const struct sl_lcore_ops lcore_ops = {.poll = poll, .deadline = deadline};

static uint64_t units_placed(const struct bench_receiver *r)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < r->n_lanes; i++) {
        struct sl_ingest_stats s;
        sl_ingest_stats(r->lane[i].ingest, &s);
        n += s.units_placed;
    }
    return n;
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

/* Turns of all lanes together; cycles a packet as the mean of the lanes' medians. */
static void sum_up(struct bench_round *out, struct bench_receiver *r, double data_share)
{
    struct bench_turns *t = &out->turns;
    double windows = 0;
    unsigned with_windows = 0;
    for (unsigned i = 0; i < r->n_lanes; i++) {
        const uint64_t *from = (const uint64_t *)&r->lane[i].meter.turns;
        for (size_t k = 0; k < sizeof(*t) / sizeof(uint64_t); k++)
            ((uint64_t *)t)[k] += from[k];
        double median = bench_sample_median(&r->lane[i].meter.windows);
        windows += median;
        with_windows += median > 0;
    }
    double packets = (double)t->packets_rx * data_share,
           all = packets + (double)t->interrupted_packets * data_share;
    out->cycles_per_packet_mean = packets > 0 ? (double)t->cycles / packets : 0;
    out->cycles_per_packet =
        with_windows != 0 ? windows / with_windows / data_share : out->cycles_per_packet_mean;
    out->cycles_per_packet_raw = all > 0 ? (double)(t->cycles + t->interrupted_cycles) / all : 0;
}

struct full_run {
    struct sl_lcore *lcore[BENCH_CORES_MAX];
    pthread_t consumer[BENCH_CORES_MAX];
    unsigned n_lcores, n_consumers;
};

static void stop_lanes(struct bench_receiver *r, struct full_run *f)
{
    for (unsigned i = 0; i < f->n_lcores; i++)
        sl_lcore_stop(f->lcore[i]);
    for (unsigned i = 0; i < r->n_lanes; i++)
        __atomic_store_n(&r->lane[i].consumer_stop, 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < f->n_consumers; i++)
        pthread_join(f->consumer[i], NULL);
    for (unsigned i = 0; i < f->n_lcores; i++)
        bench_meter_end(&r->lane[i].meter);
}

static int start_lane(struct bench_lane *l, bool staged, struct full_run *f, char *err, size_t cap)
{
    struct sl_lcore_config c = {.queue = &l->meter.queue,
        .endpoint = l->endpoint,
        .poll = SL_POLL_BUSY,
        .ops = &lcore_ops,
        .app = l,
        .cpu = l->cpu};
    l->meter.staged = staged;
    bench_meter_begin(&l->meter);
    __atomic_store_n(&l->consumer_stop, 0, __ATOMIC_RELEASE);
    if (l->consumer_thread) {
        if (pthread_create(&f->consumer[f->n_consumers], NULL, bench_lane_consumer, l) != 0) {
            snprintf(err, cap, "cannot start the trainer's thread");
            return -EAGAIN;
        }
        f->n_consumers++;
    }
    int ret = sl_lcore_start(&c, &f->lcore[f->n_lcores], err, cap);
    f->n_lcores += ret == 0;
    return ret;
}

/* All datagrams that came, and those of DATA that landed. */
static void count_delivered(const struct bench_receiver *r, uint64_t *all, uint64_t *data)
{
    *all = *data = 0;
    for (unsigned i = 0; i < r->n_lanes; i++) {
        struct sl_endpoint_stats s;
        sl_endpoint_stats(r->lane[i].endpoint, &s);
        *all += s.packets_rx;
        *data += s.delivered_data;
    }
}

int bench_receiver_full(
    struct bench_receiver *r, double seconds, bool staged, struct bench_round *out, char *err, size_t cap)
{
    struct full_run f = {0};
    uint64_t all0, data0, all1, data1;
    int ret = 0;
    *out = (struct bench_round){0};
    count_delivered(r, &all0, &data0);
    for (unsigned i = 0; i < r->n_lanes && ret == 0; i++)
        ret = start_lane(&r->lane[i], staged, &f, err, cap);
    if (ret != 0) {
        stop_lanes(r, &f);
        return ret;
    }
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
    stop_lanes(r, &f);
    count_delivered(r, &all1, &data1);
    sum_up(out, r, all1 != all0 ? (double)(data1 - data0) / (double)(all1 - all0) : 1);
    ret = ret != 0 ? ret : drained;
    return ret != 0 ? fail(err, cap, r, ret, "full") : 0;
}

/* ---- bare ---- */

struct bare_run {
    struct bench_lane *lane;
    struct bench_taken *published; /* the sender's pace */
    bool open;
    uint32_t stop; /* atomic */
    uint64_t taken, right;
    int status;
    char err[160];
    pthread_t thread;
};

static void bare_turn(struct bare_run *b)
{
    struct bench_lane *l = b->lane;
    struct sl_dgram d[SL_PORT_BURST];
    unsigned n = sl_queue_rx(&l->meter.queue, d, SL_PORT_BURST);
    if (n == 0)
        return;
    b->right += b->open ? bench_bare_open(&l->bare, d, n, l->slot_of_session) : n;
    sl_queue_free(&l->meter.queue, d, n);
    b->taken += n;
    __atomic_store_n(&b->published->packets, b->taken, __ATOMIC_RELEASE);
}

static void *bare_main(void *arg)
{
    struct bare_run *b = arg;
    struct bench_lane *l = b->lane;
    b->status = bench_pin(l->cpu);
    if (b->status == 0)
        b->status = sl_queue_enter(&l->meter.queue, b->err, sizeof(b->err));
    if (b->status != 0)
        return NULL;
    while (__atomic_load_n(&b->stop, __ATOMIC_ACQUIRE) == 0)
        bare_turn(b);
    sl_queue_leave(&l->meter.queue);
    return NULL;
}

static int start_bare(struct bench_receiver *r, struct bare_run *b, unsigned i, bool open)
{
    *b = (struct bare_run){.lane = &r->lane[i], .published = &r->pair->shared->taken[i], .open = open};
    b->lane->meter.staged = false;
    bench_meter_begin(&b->lane->meter);
    __atomic_store_n(&b->published->packets, 0, __ATOMIC_RELEASE);
    return -pthread_create(&b->thread, NULL, bare_main, b);
}

static int stop_bare(struct bare_run *b, char *err, size_t cap)
{
    __atomic_store_n(&b->stop, 1, __ATOMIC_RELEASE);
    pthread_join(b->thread, NULL);
    bench_meter_end(&b->lane->meter);
    b->lane->bare_taken += b->taken;
    b->lane->bare_wrong += b->taken - b->right;
    if (b->status != 0)
        snprintf(err, cap, "bare loop: %s", b->err[0] != '\0' ? b->err : strerror(-b->status));
    return b->status;
}

int bench_receiver_bare(
    struct bench_receiver *r, double seconds, bool open, struct bench_round *out, char *err, size_t cap)
{
    static struct bare_run b[BENCH_CORES_MAX];
    unsigned n = 0;
    int ret = 0;
    *out = (struct bench_round){0};
    for (; n < r->n_lanes && ret == 0; n += ret == 0)
        ret = start_bare(r, &b[n], n, open);
    if (ret == 0)
        ret = bench_pair_ask(r->pair, BENCH_BARE);
    if (ret == 0 && bench_sleep(settle_s)) {
        uint64_t from = bench_taken(r->pair->shared), t0 = bench_now_ns();
        bench_sleep(seconds);
        out->seconds = 1e-9 * (double)(bench_now_ns() - t0);
        out->packets = bench_taken(r->pair->shared) - from;
        out->bytes = out->packets * r->load->fragment_units * SL_UNIT_BYTES;
    }
    int idle = bench_pair_ask(r->pair, BENCH_IDLE), ended = 0;
    bench_receiver_await_rest(r);
    for (unsigned i = 0; i < n; i++) {
        int status = stop_bare(&b[i], err, cap);
        ended = ended != 0 ? ended : status;
    }
    sum_up(out, r, 1);
    if (ended != 0)
        return ended;
    ret = ret != 0 ? ret : idle;
    return ret != 0 ? fail(err, cap, r, ret, "bare") : 0;
}

struct aead_run {
    struct sl_dgram d[BUFFERS];
    struct bench_bare sealer;
    struct bench_sample cycles;
    uint8_t *memory;
};

static double open_buffers(struct bench_lane *l, struct aead_run *a, double seconds)
{
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9);
    bench_sample_clear(&a->cycles);
    do {
        for (unsigned i = 0; i < BUFFERS; i += SL_PORT_BURST) {
            uint64_t t0 = sl_cycles();
            bench_bare_open(&l->bare, a->d + i, SL_PORT_BURST, l->slot_of_session);
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
        bench_pin(r->lane[0].cpu);
        for (unsigned i = 0; i < BUFFERS; i++) {
            a->d[i].data = a->memory + i * stride;
            uint32_t session;
            a->d[i].len = bench_bare_seal(&a->sealer, &r->material, a->d[i].data, &session);
        }
        *alone = open_buffers(&r->lane[0], a, seconds / 2);
        ret = bench_pair_ask(r->pair, BENCH_SEAL);
        if (ret == 0)
            *beside = open_buffers(&r->lane[0], a, seconds / 2);
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

int bench_receiver_make(
    struct bench_receiver *r, struct bench_load *l, struct bench_pair *pair, char *err, size_t cap)
{
    *r = (struct bench_receiver){.load = l, .pair = pair};
    int ret = bench_material_make(&r->material, l);
    for (; ret == 0 && r->n_lanes < l->cores; r->n_lanes++)
        ret = bench_lane_make(&r->lane[r->n_lanes], r->n_lanes, l, &r->material);
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
    if (r->n_lanes > 1)
        ret = sl_steer_open(r->port, r->n_lanes, &r->port, err, cap);
    for (unsigned i = 0; i < r->n_lanes && ret == 0; i++)
        if ((ret = bench_lane_enter(&r->lane[i], sl_port_queue(r->port, i))) != 0)
            snprintf(err, cap, "out of memory");
    if (ret != 0)
        return ret;
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
    for (unsigned i = 0; i < BENCH_CORES_MAX; i++)
        bench_lane_free(&r->lane[i]);
    bench_material_free(&r->material);
    *r = (struct bench_receiver){0};
}
