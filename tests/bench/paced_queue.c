#include "tests/bench/paced_queue.h"

enum { STUCK_TURNS = 100000 };

static struct sl_queue *inner(struct sl_queue *q)
{
    return ((struct bench_paced_queue *)q)->inner;
}

static int enter(struct sl_queue *q, char *err, size_t cap)
{
    return sl_queue_enter(inner(q), err, cap);
}

static void leave(struct sl_queue *q)
{
    sl_queue_leave(inner(q));
}

static unsigned rx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    return sl_queue_rx(inner(q), d, n);
}

static unsigned alloc(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    return sl_queue_alloc(inner(q), d, n);
}

static unsigned tx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    return sl_queue_tx(inner(q), d, n);
}

static void give_back(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    sl_queue_free(inner(q), d, n);
}

static bool rests(struct sl_queue *q)
{
    struct bench_paced_queue *p = (struct bench_paced_queue *)q;
    if (p->sent - p->taken - p->lost <= p->most) {
        p->stuck = 0;
    } else {
        p->stuck = p->taken == p->taken_before ? p->stuck + 1 : 0;
        p->taken_before = p->taken;
        if (p->stuck < STUCK_TURNS)
            return true;
        p->lost = p->sent - p->taken;
    }
    return sl_queue_rests(p->inner);
}

static void nap(struct sl_queue *q, uint64_t ns)
{
    sl_queue_sleep(inner(q), ns);
}

void bench_paced_queue_init(struct bench_paced_queue *p, struct sl_queue *in, uint64_t most)
{
    static const struct sl_port_ops ops = {.enter = enter,
        .leave = leave,
        .rx = rx,
        .alloc = alloc,
        .tx = tx,
        .free = give_back,
        .rests = rests,
        .sleep = nap};
    *p = (struct bench_paced_queue){.queue = {.ops = &ops}, .inner = in, .most = most};
}
