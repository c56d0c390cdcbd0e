/* sluice-bench path: cycles per DATA packet of 1,408 bytes of tensor, from the received datagram to the
 * marked slot (header, session, replay window, placement, AEAD open into the slot, acknowledgement state),
 * with the real endpoint and ingest and no port. Bursts of 32. On one lcore alone, then on several at a time,
 * each with its device on a CPU of its own: lcores that share nothing take as many cycles a packet together
 * as alone, and the packets add up. */
#include "dataplane/ingest/ingest.h"
#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    BURST = 32,
    BUFFERS = 512, /* as many as a port's ring holds: their residency in cache is part of the cost */
    BUFFER_BYTES = 2048,
    D_MODEL = 192,
    SEQS = 4,
    ROWS = 128,
    FRAGMENT_UNITS = 22,
    SAMPLES_MAX = 1 << 18,
    SLOTS = 64,
    RING = 1024,
    HOLD_MOST = 6, /* a session holds at most 8 slots */
    LCORES_MOST = 64,
};

struct device {
    struct sl_endpoint *endpoint;
    uint8_t *tensor;
    uint32_t n_units, granted;
    uint64_t step, now;
    bool request;
};

struct lcore {
    struct device device;
    struct sl_endpoint *edge;
    struct sl_ingest *ingest;
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    uint8_t *buffer;
    uint32_t at;
    uint64_t done, hold;
    uint32_t held[256];
    struct bench_sample rx_cycles, turn_cycles;
    int cpu; /* -1: any */
    int status;
    pthread_t thread;
} __attribute__((aligned(64)));

/* ---- the device's sink ---- */

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    return ((struct device *)sink)->tensor + (size_t)unit0 * 64;
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now)
{
    struct device *d = sink;
    if (f->type == SL_FRAME_GRANT && f->grant.index > d->granted) {
        d->granted = f->grant.index;
        sl_endpoint_send(d->endpoint, session, f->grant.index, d->n_units, d->now);
    } else if (f->type == SL_FRAME_RESULT || f->type == SL_FRAME_STEP_LOST) {
        d->request = true;
    }
}

static const struct sl_sink_ops device_sink = {.source = source, .done = done, .frame = frame};

static void ask(struct device *d)
{
    struct sl_frame f = {.type = SL_FRAME_REQUEST};
    f.request.step = ++d->step;
    f.request.kind = SL_REQUEST_EVAL;
    f.request.n_seqs = SEQS;
    for (unsigned i = 0; i < SEQS; i++)
        f.request.len[i] = ROWS;
    d->request = false;
    sl_endpoint_frame(d->endpoint, 0, &f, d->now);
}

/* ---- moving datagrams ---- */

static unsigned sent_by(struct lcore *b, struct sl_endpoint *from, struct sl_tx *tx, uint64_t now)
{
    for (unsigned i = 0; i < BURST; i++)
        tx[i] =
            (struct sl_tx){.buf = b->buffer + (size_t)((b->at + i) % BUFFERS) * BUFFER_BYTES, .cap = 1472};
    unsigned n = sl_tx_burst(from, tx, BURST, now);
    b->at = (b->at + n) % BUFFERS;
    return n;
}

static void received(struct sl_rx *rx, const struct sl_tx *tx, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        rx[i] =
            (struct sl_rx){.pkt = tx[i].buf, .len = tx[i].len, .local = tx[i].remote, .remote = tx[i].local};
}

/* The trainer keeps the last `hold` slots in use, then gives each back evaluated. */
static void train(struct lcore *b)
{
    uint32_t h;
    while (sl_ring_spsc_pop(b->ready, &h, 1) == 1) {
        uint32_t *at = &b->held[b->done++ % b->hold], oldest = *at;
        *at = h;
        if (b->done <= b->hold)
            continue;
        struct sl_slot *s = sl_slot_get(b->slots, oldest);
        s->outcome = (struct sl_slot_outcome){.status = SL_RESULT_EVAL};
        sl_ring_spsc_push(b->returned, &oldest, 1);
    }
}

static void turn(struct lcore *b)
{
    struct sl_tx tx[BURST];
    struct sl_rx rx[BURST];
    uint64_t now = bench_now_ns();
    b->device.now = now;
    if (b->device.request || b->done + 1 > b->device.step)
        ask(&b->device);
    unsigned n = sent_by(b, b->device.endpoint, tx, now);
    received(rx, tx, n);
    uint64_t t0 = sl_cycles();
    sl_rx_burst(b->edge, rx, n, now);
    uint64_t t1 = sl_cycles();
    sl_ingest_poll(b->ingest, now);
    unsigned back = sent_by(b, b->edge, tx, now);
    uint64_t t2 = sl_cycles();
    if (n == BURST) {
        bench_sample_add(&b->rx_cycles, (double)(t1 - t0) / BURST);
        bench_sample_add(&b->turn_cycles, (double)(t2 - t0) / BURST);
    }
    received(rx, tx, back);
    sl_rx_burst(b->device.endpoint, rx, back, now);
    train(b);
}

/* ---- making it ---- */

static int make_endpoints(struct lcore *b)
{
    struct sl_grid g;
    struct sl_endpoint_config c = {.max_sessions = 1, .max_sends = 256, .window_packets = 256};
    int err = sl_grid_make(&g, SEQS * ROWS, D_MODEL, SL_CODEC_BF16, 1, FRAGMENT_UNITS);
    c.max_message_units = b->device.n_units = g.n_units;
    b->device.tensor = aligned_alloc(64, (size_t)g.n_units * 64);
    if (err != 0 || b->device.tensor == NULL)
        return err != 0 ? err : -ENOMEM;
    memset(b->device.tensor, 1, (size_t)g.n_units * 64);
    err = sl_endpoint_create(&c, &device_sink, &b->device, &b->device.endpoint);
    c.is_edge = true;
    if (err == 0)
        err = sl_endpoint_create(&c, &sl_ingest_sink, b->ingest, &b->edge);
    if (err != 0)
        return err;
    sl_ingest_bind(b->ingest, b->edge);
    struct sl_session_config s = {.fragment_units = FRAGMENT_UNITS, .mtu = 1500, .initial_rtt_ns = 1000000};
    s.remote = (struct sl_addr){.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7444};
    s.local_id = sl_session_id(0, 0, 1);
    s.peer_id = sl_session_id(0, 0, 2);
    err = sl_endpoint_open(b->device.endpoint, &s, bench_now_ns());
    s.peer_id = s.local_id;
    s.local_id = sl_session_id(0, 0, 2);
    if (err == 0)
        err = sl_endpoint_open(b->edge, &s, bench_now_ns());
    sl_ingest_session_opened(b->ingest, 0, 0);
    return err;
}

static int make(struct lcore *b)
{
    size_t slot_bytes = (size_t)SEQS * ROWS * (D_MODEL * 2 + 4);
    int err = sl_slots_create(SLOTS, slot_bytes, &b->slots);
    b->ready = sl_ring_spsc_create(RING);
    b->returned = sl_ring_spsc_create(RING);
    b->buffer = aligned_alloc(4096, (size_t)BUFFERS * BUFFER_BYTES);
    if (err != 0 || b->ready == NULL || b->returned == NULL || b->buffer == NULL ||
        bench_sample_init(&b->rx_cycles, SAMPLES_MAX) != 0 ||
        bench_sample_init(&b->turn_cycles, SAMPLES_MAX) != 0)
        return err != 0 ? err : -ENOMEM;
    memset(b->buffer, 0, (size_t)BUFFERS * BUFFER_BYTES);
    struct sl_ingest_config c = {.slots = b->slots,
        .ready = b->ready,
        .returned = b->returned,
        .max_sessions = 1,
        .d_model = D_MODEL,
        .codec = SL_CODEC_BF16,
        .fragment_units = FRAGMENT_UNITS,
        .grants_per_session = 8,
        .grant_expiry_ns = 1000000000,
        .park_after_ns = 1000000000};
    err = sl_ingest_create(&c, &b->ingest);
    return err != 0 ? err : make_endpoints(b);
}

static void unmake(struct lcore *b)
{
    sl_endpoint_free(b->device.endpoint);
    sl_endpoint_free(b->edge);
    sl_ingest_free(b->ingest);
    sl_slots_free(b->slots);
    sl_ring_spsc_free(b->ready);
    sl_ring_spsc_free(b->returned);
    bench_sample_free(&b->rx_cycles);
    bench_sample_free(&b->turn_cycles);
    free(b->device.tensor);
    free(b->buffer);
}

/* ---- the verb ---- */

static uint64_t messages = 2000, hold = 4, lcores = 1;

static const uint64_t within_ns = 60000000000u;

static const struct bench_option options[] = {
    {"messages", BENCH_NUMBER, &messages, "N", "of 192 KiB, through each lcore", 1, 1e9, NULL},
    {"hold", BENCH_NUMBER, &hold, "N", "slots in use at a time", 1, HOLD_MOST, NULL},
    {"lcores", BENCH_NUMBER, &lcores, "N", "at a time, after one alone", 1, LCORES_MOST, NULL},
    {0},
};

static void *run_lcore(void *arg)
{
    struct lcore *b = arg;
    if (b->cpu >= 0)
        b->status = bench_pin(b->cpu);
    if (b->status == 0)
        b->status = make(b); /* on the thread that uses it */
    uint64_t until = bench_now_ns() + within_ns;
    while (b->status == 0 && b->done < messages && !bench_stopping()) {
        turn(b);
        if (bench_now_ns() > until)
            b->status = -ETIMEDOUT;
    }
    return NULL;
}

static cJSON *describe(const struct sl_endpoint_stats *s, struct lcore *b)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "cpu", b->cpu);
    cJSON_AddNumberToObject(j, "messages", (double)b->done);
    cJSON_AddNumberToObject(j, "packets", (double)s->delivered_data);
    cJSON_AddItemToObject(j, "received_to_marked_slot", bench_sample_json(&b->rx_cycles));
    cJSON_AddItemToObject(j, "with_ingests_poll_and_acks", bench_sample_json(&b->turn_cycles));
    return j;
}

static int measure(unsigned n, cJSON *result, const char *name, double *pps, char *err, size_t cap)
{
    struct lcore *b = aligned_alloc(64, n * sizeof(*b));
    unsigned started = 0;
    uint64_t packets = 0, from = bench_now_ns();
    int status = b == NULL ? -ENOMEM : 0;
    if (status == 0)
        memset(b, 0, n * sizeof(*b));
    for (; status == 0 && started < n; started += status == 0) {
        b[started].hold = hold;
        b[started].cpu = lcores > 1 ? bench_cpu(started) : -1;
        status = -pthread_create(&b[started].thread, NULL, run_lcore, &b[started]);
    }
    cJSON *list = cJSON_AddArrayToObject(result, name);
    for (unsigned i = 0; i < started; i++)
        pthread_join(b[i].thread, NULL);
    double s = (double)(bench_now_ns() - from) * 1e-9;
    for (unsigned i = 0; i < started; i++) {
        struct sl_endpoint_stats stats = {0};
        status = status != 0 ? status : b[i].status;
        if (b[i].edge != NULL)
            sl_endpoint_stats(b[i].edge, &stats);
        packets += stats.delivered_data;
        cJSON_AddItemToArray(list, describe(&stats, &b[i]));
        unmake(&b[i]);
    }
    free(b);
    *pps = (double)packets / s;
    if (status != 0)
        snprintf(err, cap, "an lcore: %s", strerror(-status));
    return status;
}

static int run(cJSON *result, char *err, size_t cap)
{
    double alone = 0, together = 0;
    int status = measure(1, result, "alone", &alone, err, cap);
    cJSON_AddNumberToObject(result, "alone_pps", alone);
    if (status == 0 && lcores > 1 && !bench_stopping()) {
        status = measure((unsigned)lcores, result, "together", &together, err, cap);
        cJSON_AddNumberToObject(result, "together_pps", together);
        cJSON_AddNumberToObject(result, "together_over_alone", alone > 0 ? together / alone : 0);
    }
    return bench_stopping() ? BENCH_STOPPED : status != 0 ? BENCH_FAILED : BENCH_OK;
}

const struct bench_verb bench_path = {
    .name = "path",
    .summary = "datagram to marked slot without a port, on one lcore and on several",
    .examples = "  sluice-bench path\n  sluice-bench path --messages 400 --lcores 2 --json\n",
    .options = options,
    .run = run,
};
