/* What the data path of the edge costs: cycles per DATA packet of 1,408 bytes of tensor, from the received
 * datagram to the marked slot (header, session, replay window, placement, AEAD open into the slot,
 * acknowledgement state), with the real endpoint and ingest and no port. Bursts of 32; median and tenth
 * percentile over the bursts, so that a busy host shows less. Usage: data_path [MESSAGES [SLOTS [LCORES]]]
 *
 * With LCORES the same runs on one lcore alone and then on all at a time, each with its device on a CPU of
 * its own: lcores that share nothing take as many cycles a packet together as alone, and the packets add up.
 */
#include "dataplane/ingest/ingest.h"

#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <x86intrin.h>

enum {
    BURST = 32,
    BUFFERS = 512, /* as many as a port's ring holds: their residency in cache is part of the cost */
    BUFFER_BYTES = 2048,
    D_MODEL = 192,
    SEQS = 4,
    ROWS = 128,
    FRAGMENT_UNITS = 22,
    SAMPLES_MAX = 1 << 20,
};

struct device {
    struct sl_endpoint *endpoint;
    uint8_t *tensor;
    uint32_t n_units, granted;
    uint64_t step, now;
    bool request;
};

struct bench {
    struct device device;
    struct sl_endpoint *edge;
    struct sl_ingest *ingest;
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    uint8_t *buffer;
    uint32_t at;
    uint64_t done, hold;
    uint32_t held[256];
    uint32_t *rx_cycles, *turn_cycles;
    size_t n;
    uint64_t messages;
    int cpu; /* -1: any */
    pthread_t thread;
} __attribute__((aligned(64)));

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

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
    } else if (f->type == SL_FRAME_RESULT) {
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

static unsigned sent_by(struct bench *b, struct sl_endpoint *from, struct sl_tx *tx, uint64_t now)
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
static void train(struct bench *b)
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

static void turn(struct bench *b)
{
    struct sl_tx tx[BURST];
    struct sl_rx rx[BURST];
    uint64_t now = now_ns();
    b->device.now = now;
    if (b->device.request || b->done + 1 > b->device.step)
        ask(&b->device);
    unsigned n = sent_by(b, b->device.endpoint, tx, now);
    received(rx, tx, n);
    uint64_t t0 = __rdtsc();
    sl_rx_burst(b->edge, rx, n, now);
    uint64_t t1 = __rdtsc();
    sl_ingest_poll(b->ingest, now);
    unsigned back = sent_by(b, b->edge, tx, now);
    uint64_t t2 = __rdtsc();
    if (n == BURST && b->n < SAMPLES_MAX) {
        b->rx_cycles[b->n] = (uint32_t)((t1 - t0) / BURST);
        b->turn_cycles[b->n++] = (uint32_t)((t2 - t0) / BURST);
    }
    received(rx, tx, back);
    sl_rx_burst(b->device.endpoint, rx, back, now);
    train(b);
}

/* ---- making it ---- */

static int check(int status, const char *what)
{
    if (status != 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(-status));
        exit(1);
    }
    return status;
}

static void make_endpoints(struct bench *b)
{
    struct sl_grid g;
    struct sl_endpoint_config c = {.max_sessions = 1, .max_sends = 256, .window_packets = 256};
    check(sl_grid_make(&g, SEQS * ROWS, D_MODEL, SL_CODEC_BF16, 1, FRAGMENT_UNITS), "grid");
    c.max_message_units = b->device.n_units = g.n_units;
    b->device.tensor = aligned_alloc(64, (size_t)g.n_units * 64);
    memset(b->device.tensor, 1, (size_t)g.n_units * 64);
    check(sl_endpoint_create(&c, &device_sink, &b->device, &b->device.endpoint), "device's endpoint");
    c.is_edge = true;
    check(sl_endpoint_create(&c, &sl_ingest_sink, b->ingest, &b->edge), "edge's endpoint");
    sl_ingest_bind(b->ingest, b->edge);
    struct sl_session_config s = {.fragment_units = FRAGMENT_UNITS, .mtu = 1500, .initial_rtt_ns = 1000000};
    s.remote = (struct sl_addr){.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7444};
    s.local_id = sl_session_id(0, 0, 1);
    s.peer_id = sl_session_id(0, 0, 2);
    check(sl_endpoint_open(b->device.endpoint, &s, now_ns()), "device's session");
    s.peer_id = s.local_id;
    s.local_id = sl_session_id(0, 0, 2);
    check(sl_endpoint_open(b->edge, &s, now_ns()), "edge's session");
    sl_ingest_session_opened(b->ingest, 0, 0);
}

static void make(struct bench *b, uint32_t n_slots)
{
    size_t slot_bytes = (size_t)SEQS * ROWS * (D_MODEL * 2 + 4);
    check(sl_slots_create(n_slots, slot_bytes, &b->slots), "slots");
    b->ready = sl_ring_spsc_create(1024);
    b->returned = sl_ring_spsc_create(1024);
    b->buffer = aligned_alloc(4096, (size_t)BUFFERS * BUFFER_BYTES);
    b->rx_cycles = calloc(SAMPLES_MAX, sizeof(uint32_t));
    b->turn_cycles = calloc(SAMPLES_MAX, sizeof(uint32_t));
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
    check(sl_ingest_create(&c, &b->ingest), "ingest");
    make_endpoints(b);
}

static int ascending(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return (a > b) - (a < b);
}

static void print(const char *what, uint32_t *cycles, size_t n)
{
    qsort(cycles, n, sizeof(*cycles), ascending);
    printf("  %-34s median %5u  p10 %5u cycles a packet\n", what, cycles[n / 2], cycles[n / 10]);
}

/* The i-th CPU that the process may run on. */
static int cpu_of(unsigned i)
{
    cpu_set_t set;
    sched_getaffinity(0, sizeof(set), &set);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &set) && i-- == 0)
            return cpu;
    return -1;
}

static void *run(void *arg)
{
    struct bench *b = arg;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (b->cpu >= 0)
        CPU_SET(b->cpu, &set);
    if (b->cpu >= 0)
        pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    make(b, 64); /* on the thread that uses it */
    uint64_t until = now_ns() + 60000000000u;
    while (b->done < b->messages && now_ns() < until)
        turn(b);
    return NULL;
}

static int measure(unsigned lcores, uint64_t messages, uint32_t hold)
{
    struct bench *b = aligned_alloc(64, lcores * sizeof(*b));
    memset(b, 0, lcores * sizeof(*b));
    uint64_t packets = 0, from = now_ns();
    for (unsigned i = 0; i < lcores; i++) {
        b[i].messages = messages;
        b[i].hold = hold < 1 ? 1 : hold > 6 ? 6 : hold; /* a session holds at most 8 slots */
        b[i].cpu = lcores > 1 ? cpu_of(i) : -1;
        check(-pthread_create(&b[i].thread, NULL, run, &b[i]), "thread");
    }
    for (unsigned i = 0; i < lcores; i++)
        pthread_join(b[i].thread, NULL);
    double s = (double)(now_ns() - from) * 1e-9;
    for (unsigned i = 0; i < lcores; i++) {
        struct sl_endpoint_stats stats;
        sl_endpoint_stats(b[i].edge, &stats);
        packets += stats.delivered_data;
        if (b[i].done < messages || b[i].n == 0) {
            fprintf(stderr, "%llu of %llu messages in 60 s\n", (unsigned long long)b[i].done,
                (unsigned long long)messages);
            return 1;
        }
    }
    printf("%u lcore%s: %llu messages of %u units each, %llu DATA packets, %.0f a second, %u slots in turn\n",
        lcores, lcores > 1 ? "s" : "", (unsigned long long)messages, b[0].device.n_units,
        (unsigned long long)packets, (double)packets / s, (unsigned)b[0].hold);
    for (unsigned i = 0; i < lcores; i++) {
        print("received to marked slot", b[i].rx_cycles, b[i].n);
        print("with ingest's poll and the ACKs", b[i].turn_cycles, b[i].n);
    }
    free(b);
    return 0;
}

int main(int argc, char **argv)
{
    uint64_t messages = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000;
    uint32_t hold = argc > 2 ? (uint32_t)atoi(argv[2]) : 4;
    unsigned lcores = argc > 3 ? (unsigned)atoi(argv[3]) : 1;
    int status = measure(1, messages, hold);
    return lcores > 1 && status == 0 ? measure(lcores, messages, hold) : status;
}
