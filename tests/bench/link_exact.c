#include "tests/bench/link_exact.h"

#include "tests/device-sim/plain_codel.h"
#include "tests/device-sim/plain_pie.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { OPPORTUNITY = 1500 };
static const double never = INFINITY;

struct exact {
    const struct bench_link_model *m;
    struct bench_arrival *a;
    struct plain_codel fifo; /* its queue serves every discipline; its own dropping only CoDel */
    struct plain_pie pie;
    double next_tick; /* PIE's */
    /* service */
    int serving;
    double begin, end; /* of the packet in service, or when the head's begins */
    double free_at;
    uint64_t opportunity; /* trace: number of the one in hand, and what is left of it */
    uint32_t left;
};

static double opportunity_ns(const struct exact *e, uint64_t k)
{
    uint64_t n = e->m->n_up, period = e->m->up_ms[n - 1];

    return 1e6 * (double)(k / n * period + e->m->up_ms[k % n]);
}

static double service_begin(struct exact *e, double at)
{
    at = fmax(at, floor(e->free_at));
    if (e->m->up_ms == NULL)
        return at;
    while (opportunity_ns(e, e->opportunity) < at) {
        e->opportunity++;
        e->left = OPPORTUNITY;
    }
    return opportunity_ns(e, e->opportunity);
}

static double service_end(struct exact *e, double begin, uint32_t bytes)
{
    if (e->m->up_ms == NULL) {
        if (begin > e->free_at)
            e->free_at = begin;
        e->free_at += bytes * 8e3 / e->m->rate_mbps;
        return floor(e->free_at);
    }
    double at = begin;
    while (bytes > 0) {
        if (e->left == 0) {
            e->opportunity++;
            e->left = OPPORTUNITY;
        }
        uint32_t used = bytes < e->left ? bytes : e->left;
        at = opportunity_ns(e, e->opportunity);
        e->left -= used;
        bytes -= used;
    }
    if (e->left == 0) {
        e->opportunity++;
        e->left = OPPORTUNITY;
    }
    e->free_at = at;
    return at;
}

static bool is(const struct exact *e, const char *queue)
{
    return strcmp(e->m->queue, queue) == 0;
}

/* The packet whose service begins; -1: none is left. */
static int dequeue(struct exact *e, double now)
{
    if (is(e, "codel"))
        return plain_deque(&e->fifo, now);
    if (e->fifo.head == e->fifo.tail)
        return -1;
    int p = (int)e->fifo.head++;
    e->fifo.bytes -= e->fifo.packet[p].size;
    e->pie.current_qdelay = e->fifo.bytes > 0 ? 1e-9 * (now - e->fifo.packet[p].tstamp) : 0;
    return p;
}

static void ticks(struct exact *e, double until)
{
    for (; e->next_tick <= until; e->next_tick += 1e9 * PLAIN_T_UPDATE)
        plain_pie_update(&e->pie);
}

/* Everything that the link does by itself up to a time. packet[i] is the fifo's i-th, arrival[i] which that
 * is. */
static void advance(struct exact *e, const size_t *arrival, double until)
{
    for (;;) {
        double at = e->serving >= 0                ? e->end
                    : e->fifo.head == e->fifo.tail ? never
                                                   : (e->begin = service_begin(e, e->begin));
        if (at > until)
            break;
        ticks(e, at);
        if (e->serving >= 0) {
            struct bench_arrival *a = &e->a[arrival[e->serving]];
            a->due_ns = (uint64_t)at + e->m->up.delay_ns;
            a->wait_ns = (uint64_t)at - a->at_ns;
            e->serving = -1;
            e->begin = at;
        } else {
            e->serving = dequeue(e, at);
            if (e->serving >= 0)
                e->end = service_end(e, at, e->fifo.packet[e->serving].size);
        }
    }
    ticks(e, until);
}

static uint64_t queued_bytes(const struct exact *e, double now)
{
    if (e->serving < 0)
        return e->fifo.bytes;
    uint32_t size = e->fifo.packet[e->serving].size;
    if (e->m->up_ms != NULL)
        return e->fifo.bytes + size;
    return e->fifo.bytes + (uint64_t)(size * (e->end - now) / (e->end - e->begin));
}

static bool admitted(struct exact *e, uint32_t bytes, double now)
{
    uint64_t queued = queued_bytes(e, now), packets = e->fifo.tail - e->fifo.head + (e->serving >= 0);

    if (packets > 0 && !is(e, "none") &&
        ((e->m->up.queue.bytes != 0 && queued + bytes > e->m->up.queue.bytes) ||
            (e->m->up.queue.packets != 0 && packets + 1 > e->m->up.queue.packets))) {
        e->pie.accu_prob = 0;
        return false;
    }
    return !is(e, "pie") || plain_enqueue(&e->pie, queued);
}

int bench_link_exact(const struct bench_link_model *m, struct bench_arrival *a, size_t n)
{
    struct exact e = {.m = m, .a = a, .serving = -1, .left = OPPORTUNITY, .next_tick = never};
    size_t *arrival = calloc(n + 1, sizeof(*arrival));

    e.fifo = (struct plain_codel){.target = 1e6 * (m->target_ms > 0 ? m->target_ms : 5),
        .interval = 1e6 * (m->interval_ms > 0 ? m->interval_ms : 100),
        .packet = calloc(n + 1, sizeof(*e.fifo.packet)),
        .fate = calloc(n + 1, 1)};
    e.pie = (struct plain_pie){.qdelay_ref = 1e-3 * (m->target_ms > 0 ? m->target_ms : 15),
        .key = sl_rng_key(m->key, "pie"),
        .burst_allowance = PLAIN_MAX_BURST};
    bool room = arrival != NULL && e.fifo.packet != NULL && e.fifo.fate != NULL;
    for (size_t i = 0; room && i < n; i++) {
        double now = (double)a[i].at_ns;
        advance(&e, arrival, now);
        if (is(&e, "pie") && e.next_tick == never)
            e.next_tick = now + 1e9 * PLAIN_T_UPDATE;
        a[i].due_ns = 0;
        if (!admitted(&e, a[i].bytes, now))
            continue;
        if (e.serving < 0 && e.fifo.head == e.fifo.tail)
            e.begin = now;
        arrival[e.fifo.tail] = i;
        e.fifo.packet[e.fifo.tail++] = (struct plain_packet){now, a[i].bytes};
        e.fifo.bytes += a[i].bytes;
    }
    if (room)
        advance(&e, arrival, n > 0 ? 1e12 + (double)a[n - 1].at_ns : 0);
    free(arrival);
    free(e.fifo.packet);
    free(e.fifo.fate);
    return room ? 0 : -ENOMEM;
}
