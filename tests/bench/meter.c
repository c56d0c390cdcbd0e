#include "tests/bench/meter.h"

#include "dataplane/io/lcore/cycles.h"

#include <string.h>

/* A burst of 64 jumbo frames through the slowest twin takes less. */
enum {
    INTERRUPTED_CYCLES_A_PACKET = 16384,
    INTERRUPTED_CYCLES = 100000,
    WAIT_LEAST = 64,
    WAIT_MOST = 100000,
    WINDOWS = 1 << 15
};

static const char *const names[BENCH_STAGES] = {
    [BENCH_RECEIVE] = "receive",
    [BENCH_CHECK] = "check",
    [BENCH_PLACE] = "place",
    [BENCH_OPEN] = "open",
    [BENCH_MARK] = "mark",
    [BENCH_ACKNOWLEDGE] = "acknowledge",
    [BENCH_RECYCLE] = "recycle_buffers",
    [BENCH_HAND_OFF] = "hand_off_and_slots",
    [BENCH_SEND] = "send",
};

const char *bench_stage_name(enum bench_stage s)
{
    return names[s];
}

void bench_meter_mark(struct bench_meter *m, enum bench_stage s)
{
    if (!m->staged)
        return;
    uint64_t now = sl_cycles();
    m->polled |= s == BENCH_HAND_OFF;
    m->stage[s] += now - m->last;
    m->last = now;
}

static void close_turn(struct bench_meter *m, uint64_t now)
{
    struct bench_turns *t = &m->turns;
    uint64_t took = now - m->began;
    if (m->began == 0)
        return;
    if (m->rx + m->tx == 0) {
        t->empty++;
    } else if (took > INTERRUPTED_CYCLES + (m->rx + m->tx) * (INTERRUPTED_CYCLES_A_PACKET + m->slow)) {
        t->interrupted++;
        t->interrupted_cycles += took;
        t->interrupted_packets += m->rx;
    } else {
        t->turns++;
        t->cycles += took;
        t->packets_rx += m->rx;
        t->packets_tx += m->tx;
        m->window_cycles += took;
        m->window_packets += m->rx;
        if (m->window_packets >= BENCH_WINDOW_PACKETS) {
            bench_sample_add(&m->windows, (double)m->window_cycles / (double)m->window_packets);
            m->window_cycles = m->window_packets = 0;
        }
        for (unsigned i = 0; i < BENCH_STAGES; i++)
            t->stage[i] += m->stage[i];
    }
    m->began = 0;
}

/* Longer where too few came, shorter where the burst was full. */
static void gather(struct bench_meter *m, unsigned got)
{
    if (got < m->gather)
        m->wait += m->wait / 8 + WAIT_LEAST;
    else if (got == SL_PORT_BURST)
        m->wait -= m->wait / 4;
    if (m->wait > WAIT_MOST)
        m->wait = WAIT_MOST;
    uint64_t until = sl_cycles() + m->wait;
    while (sl_cycles() < until)
        __builtin_ia32_pause();
}

static unsigned rx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    struct bench_meter *m = (struct bench_meter *)q;
    unsigned last = m->rx;
    bench_meter_mark(m, BENCH_SEND);
    close_turn(m, sl_cycles());
    if (m->gather != 0)
        gather(m, last);
    if (m->staged)
        memset(m->stage, 0, sizeof(m->stage));
    m->tx = 0;
    m->polled = false;
    m->began = m->last = sl_cycles();
    m->rx = sl_queue_rx(m->inner, d, n);
    if (m->slow != 0) {
        uint64_t until = sl_cycles() + m->slow * m->rx;
        while (sl_cycles() < until)
            continue;
    }
    bench_meter_mark(m, BENCH_RECEIVE);
    return m->rx;
}

static unsigned alloc(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    return sl_queue_alloc(((struct bench_meter *)q)->inner, d, n);
}

static unsigned tx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    struct bench_meter *m = (struct bench_meter *)q;
    unsigned sent = sl_queue_tx(m->inner, d, n);
    m->tx += sent;
    return sent;
}

static void give_back(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    struct bench_meter *m = (struct bench_meter *)q;
    bench_meter_mark(m, m->polled ? BENCH_SEND : BENCH_ACKNOWLEDGE);
    sl_queue_free(m->inner, d, n);
    bench_meter_mark(m, BENCH_RECYCLE);
}

static int enter(struct sl_queue *q, char *err, size_t cap)
{
    return sl_queue_enter(((struct bench_meter *)q)->inner, err, cap);
}

static void leave(struct sl_queue *q)
{
    sl_queue_leave(((struct bench_meter *)q)->inner);
}

static bool rests(struct sl_queue *q)
{
    return sl_queue_rests(((struct bench_meter *)q)->inner);
}

static void sleep_for(struct sl_queue *q, uint64_t ns)
{
    sl_queue_sleep(((struct bench_meter *)q)->inner, ns);
}

int bench_meter_init(struct bench_meter *m, struct sl_queue *inner)
{
    static const struct sl_port_ops ops = {.enter = enter,
        .leave = leave,
        .rx = rx,
        .alloc = alloc,
        .tx = tx,
        .free = give_back,
        .rests = rests,
        .sleep = sleep_for};
    *m = (struct bench_meter){.queue.ops = &ops, .inner = inner};
    return bench_sample_init(&m->windows, WINDOWS);
}

void bench_meter_free(struct bench_meter *m)
{
    bench_sample_free(&m->windows);
}

void bench_meter_begin(struct bench_meter *m)
{
    memset(&m->turns, 0, sizeof(m->turns));
    bench_sample_clear(&m->windows);
    m->window_cycles = m->window_packets = 0;
    m->began = 0;
    m->rx = m->tx = 0;
}

void bench_meter_end(struct bench_meter *m)
{
    close_turn(m, sl_cycles());
}
