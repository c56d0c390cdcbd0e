#include "tests/io/lcore/fake_port.h"

#include "tests/wire/test.h"

#include <stdlib.h>
#include <time.h>

static struct fake_queue *of(struct sl_queue *q)
{
    return (struct fake_queue *)q;
}

static struct sl_dgram take(struct fake_queue *q, uint16_t len)
{
    assert_true(q->n_free > 0);
    struct fake_buffer *b = &q->buffer[q->free[--q->n_free]];
    assert_false(b->out);
    b->out = true;
    return (struct sl_dgram){.data = b->bytes, .len = len, .buffer = b};
}

static void put_back(struct fake_queue *q, const struct sl_dgram *d)
{
    struct fake_buffer *b = d->buffer;
    assert_ptr_equal(b->of, q);
    assert_true(b->out);
    b->out = false;
    q->free[q->n_free++] = (uint32_t)(b - q->buffer);
}

static unsigned rx(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct fake_queue *q = of(queue);
    unsigned got = 0;
    while (got < n && q->at < q->n_arrived)
        d[got++] = q->arrived[q->at++];
    q->received += got;
    return got;
}

static unsigned alloc(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct fake_queue *q = of(queue);
    if (q->n_free < n)
        return 0;
    for (unsigned i = 0; i < n; i++)
        d[i] = take(q, FAKE_BYTES);
    return n;
}

static unsigned tx(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct fake_queue *q = of(queue);
    assert_false(q->rests);
    for (unsigned i = 0; i < n; i++) {
        q->sent_value += d[i].data[d[i].len - 1];
        put_back(q, &d[i]);
    }
    q->sent += n;
    return n;
}

static void free_dgrams(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        put_back(of(queue), &d[i]);
    of(queue)->freed += n;
}

static bool rests(struct sl_queue *queue)
{
    return of(queue)->rests;
}

static void sleep_on(struct sl_queue *queue, uint64_t ns)
{
    (void)ns;
    sem_wait(&of(queue)->woken); /* for ever, if nobody wakes it */
}

static void wake(struct sl_queue *queue)
{
    sem_post(&of(queue)->woken);
}

static int enter(struct sl_queue *queue, char *err, size_t cap)
{
    (void)queue, (void)err, (void)cap;
    return 0;
}

static void leave(struct sl_queue *queue)
{
    (void)queue;
}

static bool link_up(struct sl_port *p)
{
    (void)p;
    return true;
}

static int wait_for_link(struct sl_port *p, char *text, size_t cap)
{
    (void)p, (void)text, (void)cap;
    return 0;
}

static void stats(struct sl_port *p, struct sl_port_stats *out)
{
    (void)p;
    *out = (struct sl_port_stats){0};
}

static void close_port(struct sl_port *port)
{
    struct fake_port *p = (struct fake_port *)port;
    p->closed = true;
    p->out_at_close = fake_out(p);
}

static struct sl_queue *queue(struct sl_port *port, unsigned index)
{
    return &((struct fake_port *)port)->fake[index]->queue;
}

static const struct sl_port_ops ops = {.close = close_port,
    .link_up = link_up,
    .wait = wait_for_link,
    .stats = stats,
    .enter = enter,
    .leave = leave,
    .rx = rx,
    .alloc = alloc,
    .tx = tx,
    .free = free_dgrams,
    .rests = rests,
    .sleep = sleep_on,
    .wake = wake};

struct fake_port *fake_port_open(unsigned n_queues)
{
    struct fake_port *p = calloc(1, sizeof(*p));
    p->port = (struct sl_port){.ops = &ops, .n_queues = n_queues, .queue = queue};
    for (unsigned i = 0; i < n_queues; i++) {
        struct fake_queue *q = p->fake[i] = calloc(1, sizeof(*q));
        q->queue = (struct sl_queue){.ops = &ops, .wakeable = true};
        sem_init(&q->woken, 0, 0);
        for (uint32_t k = 0; k < FAKE_BUFFERS; k++) {
            q->buffer[k].of = q;
            q->free[q->n_free++] = k;
        }
    }
    return p;
}

void fake_port_free(struct fake_port *p)
{
    for (unsigned i = 0; i < p->port.n_queues; i++)
        free(p->fake[i]);
    free(p);
}

void fake_arrive(struct fake_queue *q, uint8_t lcore, uint8_t value)
{
    struct sl_dgram d = take(q, SL_DATAGRAM_MIN_BYTES);
    d.data[SL_HEADER_LCORE_AT] = lcore;
    d.data[d.len - 1] = value;
    q->arrived[q->n_arrived++] = d;
}

uint32_t fake_out(const struct fake_port *p)
{
    uint32_t n = 0;
    for (unsigned i = 0; i < p->port.n_queues; i++)
        n += FAKE_BUFFERS - p->fake[i]->n_free - (p->fake[i]->n_arrived - p->fake[i]->at);
    return n;
}
