#include "device-sim/virtual/cable.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 256 }; /* buffers made at a time */

struct queue {
    struct sl_queue base;
    struct sl_cable *cable;
    struct queue *peer;
    struct sl_dgram *fifo; /* [mask + 1], of what lies here */
    uint32_t head, tail;
    struct sl_port_stats stats;
};
struct end {
    struct sl_port base;
    struct queue queue;
};
struct sl_cable {
    struct end end[SL_CABLE_ENDS];
    uint16_t buffer_bytes;
    uint32_t mask, max_buffers, n_buffers;
    void **chunks;
    uint32_t n_chunks;
    uint8_t **free;
    uint32_t n_free;
};

/* ---- buffers ---- */

static bool make_buffers(struct sl_cable *c)
{
    uint8_t *chunk;

    if (c->n_buffers + CHUNK > c->max_buffers)
        return false;
    chunk = malloc((size_t)CHUNK * c->buffer_bytes);
    if (!chunk)
        return false;
    c->chunks[c->n_chunks++] = chunk;
    for (uint32_t i = 0; i < CHUNK; i++)
        c->free[c->n_free++] = chunk + (size_t)i * c->buffer_bytes;
    c->n_buffers += CHUNK;
    return true;
}

static unsigned queue_alloc(struct sl_queue *base, struct sl_dgram *d, unsigned n)
{
    struct queue *q = (struct queue *)base;
    struct sl_cable *c = q->cable;

    while (c->n_free < n) {
        if (!make_buffers(c)) {
            q->stats.drops[SL_PORT_NO_BUFFER]++;
            return 0;
        }
    }
    for (unsigned i = 0; i < n; i++) {
        d[i].buffer = d[i].data = c->free[--c->n_free];
        d[i].len = c->buffer_bytes;
    }
    return n;
}

static void queue_free(struct sl_queue *base, struct sl_dgram *d, unsigned n)
{
    struct sl_cable *c = ((struct queue *)base)->cable;

    for (unsigned i = 0; i < n; i++)
        c->free[c->n_free++] = d[i].buffer;
}

/* ---- datagrams ---- */

static unsigned queue_tx(struct sl_queue *base, struct sl_dgram *d, unsigned n)
{
    struct queue *q = (struct queue *)base, *to = q->peer;

    for (unsigned i = 0; i < n; i++) { /* has room for every buffer that there is */
        to->fifo[to->tail++ & q->cable->mask] = d[i];
        q->stats.tx_bytes += d[i].len;
        to->stats.rx_bytes += d[i].len;
    }
    q->stats.tx_packets += n;
    to->stats.rx_packets += n;
    return n;
}

static unsigned queue_rx(struct sl_queue *base, struct sl_dgram *d, unsigned n)
{
    struct queue *q = (struct queue *)base;
    unsigned got = 0;

    while (got < n && q->head != q->tail)
        d[got++] = q->fifo[q->head++ & q->cable->mask];
    return got;
}

/* ---- what a port is besides ---- */

static int queue_enter(struct sl_queue *q, char *err, size_t cap)
{
    return 0;
}

static void queue_leave(struct sl_queue *q)
{
}

static bool queue_rests(struct sl_queue *q)
{
    return false;
}

static void queue_sleep(struct sl_queue *q, uint64_t ns)
{
}

static void queue_wake(struct sl_queue *q)
{
}

static void port_close(struct sl_port *p)
{
}

static bool port_link_up(struct sl_port *p)
{
    return true;
}

static int port_wait(struct sl_port *p, char *text, size_t cap)
{
    return 0;
}

static void port_stats(struct sl_port *p, struct sl_port_stats *out)
{
    *out = ((struct end *)p)->queue.stats;
    out->link_up = true;
}

static struct sl_queue *port_queue(struct sl_port *p, unsigned index)
{
    return &((struct end *)p)->queue.base;
}

static const struct sl_port_ops ops = {.close = port_close,
    .link_up = port_link_up,
    .wait = port_wait,
    .stats = port_stats,
    .enter = queue_enter,
    .leave = queue_leave,
    .rx = queue_rx,
    .alloc = queue_alloc,
    .tx = queue_tx,
    .free = queue_free,
    .rests = queue_rests,
    .sleep = queue_sleep,
    .wake = queue_wake};

int sl_cable_create(uint32_t mtu, uint32_t max_buffers, struct sl_cable **out)
{
    struct sl_cable *c = calloc(1, sizeof(*c));

    *out = c;
    if (!c)
        return -ENOMEM;
    c->buffer_bytes = (uint16_t)((mtu + 63) / 64 * 64);
    c->max_buffers = (max_buffers + CHUNK - 1) / CHUNK * CHUNK;
    for (c->mask = 1; c->mask < c->max_buffers; c->mask = 2 * c->mask + 1)
        ;
    c->chunks = calloc(c->max_buffers / CHUNK, sizeof(*c->chunks));
    c->free = calloc(c->max_buffers, sizeof(*c->free));
    for (unsigned e = 0; e < SL_CABLE_ENDS; e++) {
        struct end *end = &c->end[e];
        end->base = (struct sl_port){.ops = &ops, .n_queues = 1, .queue = port_queue};
        end->queue.base.ops = &ops;
        end->queue.cable = c;
        end->queue.peer = &c->end[!e].queue;
        end->queue.fifo = calloc((size_t)c->mask + 1, sizeof(struct sl_dgram));
    }
    if (c->chunks && c->free && c->end[0].queue.fifo && c->end[1].queue.fifo)
        return 0;
    sl_cable_free(c);
    *out = NULL;
    return -ENOMEM;
}

void sl_cable_free(struct sl_cable *c)
{
    if (!c)
        return;
    for (uint32_t i = 0; i < c->n_chunks; i++)
        free(c->chunks[i]);
    for (unsigned e = 0; e < SL_CABLE_ENDS; e++)
        free(c->end[e].queue.fifo);
    free(c->chunks);
    free(c->free);
    free(c);
}

struct sl_port *sl_cable_port(struct sl_cable *c, unsigned end)
{
    return &c->end[end].base;
}
