#include "dataplane/io/lcore/steer.h"

#include "dataplane/ring/ring.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    ARRIVALS = 256, /* passed on and not yet back, of one lcore to one other */
    LEASES = 256,   /* buffers lent to a lcore without a queue: more than it keeps and sends in a turn */
    LEND = 32,      /* at a time */
    RING = 1024,    /* holds them all: a push cannot fail */
    LINE = 64,
};

enum verb { FREE, SEND };

/* A buffer out of its owner's hands. `d.buffer` in the user's hands points to this record. */
struct record {
    struct sl_dgram d;
    void *buffer; /* the back end's */
    struct lane *lane;
    bool out; /* owner's: not in a free list */
    uint8_t verb;
};

/* From the lcore that owns the buffers to one that uses them. */
struct lane {
    struct sl_ring_spsc *arrivals, *room; /* owner to user */
    struct sl_ring_spsc *back;            /* user to owner */
    struct record *record;                /* [ARRIVALS + LEASES] */
    struct steer *steer;
    unsigned owner;
    bool lends;
    /* the owner's */
    uint32_t n_free_arrivals, n_free_leases;
    uint32_t free_arrivals[ARRIVALS], free_leases[LEASES];
} __attribute__((aligned(LINE)));

struct steer_queue {
    struct sl_queue queue; /* first */
    struct steer *steer;
    struct sl_queue *below; /* NULL: it has none */
    unsigned index, home, next;
    struct sl_steer_stats stats __attribute__((aligned(LINE))); /* atomic counters of the lcore */
    uint32_t asleep; /* atomic: or about to be, after a look at its rings */
} __attribute__((aligned(LINE)));

struct steer {
    struct sl_port port; /* first */
    struct sl_port *below;
    unsigned n, owners; /* lcores; the first of them have a queue below */
    struct record *records;
    size_t n_records;
    struct lane *lanes; /* [owners][n]: of owner, to user */
    struct steer_queue queue[];
};

static void count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline struct lane *lane_of(struct steer *s, unsigned owner, unsigned user)
{
    return &s->lanes[owner * s->n + user];
}

static inline struct steer_queue *queue_of(struct sl_queue *q)
{
    return (struct steer_queue *)q;
}

/* The record of a buffer that is lent or passed on; NULL: the lcore's own. */
static inline struct record *record_of(const struct steer *s, const struct sl_dgram *d)
{
    uintptr_t at = (uintptr_t)d->buffer - (uintptr_t)s->records;
    return at < s->n_records * sizeof(struct record) ? d->buffer : NULL;
}

static inline uint32_t index_of(const struct record *r)
{
    return (uint32_t)(r - r->lane->record);
}

/* After something was put on a ring to `to`. What was put there before its writer could see `asleep` is found
 * by the look that the other takes between setting it and sleeping. */
static void wake(const struct steer *s, unsigned to)
{
    const struct steer_queue *q = &s->queue[to];
    if (!q->queue.wakeable)
        return;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_load_n(&q->asleep, __ATOMIC_RELAXED) != 0)
        sl_queue_wake(q->below);
}

/* ---- the owner's side ---- */

static void release(struct lane *l, struct record *r)
{
    uint32_t i = index_of(r);
    r->out = false;
    if (i < ARRIVALS)
        l->free_arrivals[l->n_free_arrivals++] = i;
    else
        l->free_leases[l->n_free_leases++] = i;
}

/* What users are done with: freed or sent, by the queue that it is of. */
static void take_back(struct steer_queue *q, struct lane *l)
{
    uint32_t at[SL_PORT_BURST];
    struct sl_dgram done[SL_PORT_BURST], send[SL_PORT_BURST];
    unsigned n = sl_ring_spsc_pop(l->back, at, SL_PORT_BURST), n_done = 0, n_send = 0;
    for (unsigned i = 0; i < n; i++) {
        struct record *r = &l->record[at[i]];
        struct sl_dgram *d = r->verb == SEND ? &send[n_send++] : &done[n_done++];
        *d = r->d;
        d->buffer = r->buffer;
        release(l, r);
    }
    if (n_done > 0)
        sl_queue_free(q->below, done, n_done);
    if (n_send > 0)
        sl_queue_tx(q->below, send, n_send);
}

static void lend(struct steer_queue *q, struct lane *l)
{
    struct sl_dgram d[LEND];
    uint32_t at[LEND];
    while (l->n_free_leases >= LEND && sl_queue_alloc(q->below, d, LEND) == LEND) {
        for (unsigned i = 0; i < LEND; i++) {
            at[i] = l->free_leases[--l->n_free_leases];
            struct record *r = &l->record[at[i]];
            r->d = d[i];
            r->buffer = d[i].buffer;
            r->out = true;
        }
        sl_ring_spsc_push(l->room, at, LEND);
    }
}

/* An owner's duties to the others, once a turn. While the port rests nothing is taken back: it might have to
 * be sent. */
static void serve(struct steer_queue *q)
{
    if (sl_queue_rests(q->below))
        return;
    for (unsigned i = 0; i < q->steer->n; i++) {
        struct lane *l = lane_of(q->steer, q->index, i);
        if (i == q->index)
            continue;
        take_back(q, l);
        if (l->lends)
            lend(q, l);
    }
}

/* Whose sessions' a datagram is. What names no lcore stays here, and is refused by the endpoint in its own
 * words. */
static inline unsigned lcore_of(const struct steer_queue *q, const struct sl_dgram *d)
{
    if (d->len < SL_DATAGRAM_MIN_BYTES)
        return q->index;
    unsigned lcore = d->data[SL_HEADER_LCORE_AT];
    return lcore < q->steer->n ? lcore : q->index;
}

static bool pass_on(struct steer_queue *q, unsigned to, const struct sl_dgram *d, uint32_t *at)
{
    struct lane *l = lane_of(q->steer, q->index, to);
    if (l->n_free_arrivals == 0)
        return false;
    *at = l->free_arrivals[--l->n_free_arrivals];
    struct record *r = &l->record[*at];
    r->d = *d;
    r->buffer = d->buffer;
    r->out = true;
    return true;
}

/* Keeps the lcore's own at the front of d; the rest goes to whose it is, or is dropped where its ring is
 * full. */
static unsigned sort(struct steer_queue *q, struct sl_dgram *d, unsigned n)
{
    uint32_t at[SL_LCORES_MAX][SL_PORT_BURST];
    unsigned passed[SL_LCORES_MAX] = {0}, own = 0, away = 0;
    for (unsigned i = 0; i < n; i++) {
        unsigned to = lcore_of(q, &d[i]);
        if (to == q->index) {
            if (own != i)
                d[own] = d[i];
            own++;
        } else if (pass_on(q, to, &d[i], &at[to][passed[to]])) {
            passed[to]++;
            away++;
        } else {
            count(&q->stats.steer_full, 1);
            sl_queue_free(q->below, &d[i], 1);
        }
    }
    for (unsigned i = 0; i < q->steer->n && away > 0; i++) {
        if (passed[i] == 0)
            continue;
        sl_ring_spsc_push(lane_of(q->steer, q->index, i)->arrivals, at[i], passed[i]);
        wake(q->steer, i);
    }
    count(&q->stats.steered, own);
    count(&q->stats.passed_on, away);
    return own;
}

/* ---- the user's side ---- */

static unsigned take_arrivals(struct steer_queue *q, struct lane *l, struct sl_dgram *d, unsigned n)
{
    uint32_t at[SL_PORT_BURST];
    n = sl_ring_spsc_pop(l->arrivals, at, n);
    for (unsigned i = 0; i < n; i++) {
        struct record *r = &l->record[at[i]];
        d[i] = r->d;
        d[i].buffer = r;
    }
    count(&q->stats.passed_in, n);
    return n;
}

/* From the others in turn, at most n. */
static unsigned collect(struct steer_queue *q, struct sl_dgram *d, unsigned n)
{
    unsigned got = 0, owners = q->steer->owners;
    q->next = q->next + 1 < owners ? q->next + 1 : 0;
    for (unsigned k = 0; k < owners && got < n; k++) {
        unsigned from = q->next + k < owners ? q->next + k : q->next + k - owners;
        if (from != q->index)
            got += take_arrivals(q, lane_of(q->steer, from, q->index), d + got, n - got);
    }
    return got;
}

static void give_back(struct record *r, const struct sl_dgram *d, enum verb verb)
{
    uint32_t at = index_of(r);
    if (verb == SEND)
        r->d = *d;
    r->verb = (uint8_t)verb;
    sl_ring_spsc_push(r->lane->back, &at, 1);
    if (verb == SEND) /* what is only freed can wait */
        wake(r->lane->steer, r->lane->owner);
}

/* ---- the port ---- */

/* Half of a burst may come from the others, so that neither they nor the queue below have to wait for ever.
 */
static unsigned rx(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct steer_queue *q = queue_of(queue);
    n = n < SL_PORT_BURST ? n : SL_PORT_BURST;
    unsigned got = collect(q, d, q->below != NULL ? (n + 1) / 2 : n);
    if (q->below == NULL)
        return got;
    serve(q);
    return got + sort(q, d + got, sl_queue_rx(q->below, d + got, n - got));
}

static unsigned alloc(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct steer_queue *q = queue_of(queue);
    uint32_t at[SL_PORT_BURST];
    if (q->below != NULL)
        return sl_queue_alloc(q->below, d, n);
    struct lane *l = lane_of(q->steer, q->home, q->index);
    if (n > SL_PORT_BURST || sl_ring_spsc_count(l->room) < n) {
        count(&q->stats.no_room, n);
        return 0;
    }
    n = sl_ring_spsc_pop(l->room, at, n);
    for (unsigned i = 0; i < n; i++) {
        struct record *r = &l->record[at[i]];
        d[i] = r->d;
        d[i].buffer = r;
    }
    return n;
}

/* The first of those in d that are the lcore's own, in one piece; the others have gone back with `verb`. */
static unsigned own_run(struct steer_queue *q, struct sl_dgram *d, unsigned n, enum verb verb, unsigned *back)
{
    unsigned run = 0;
    *back = 0;
    while (run < n && record_of(q->steer, &d[run]) == NULL)
        run++;
    for (unsigned i = run; i < n; i++) {
        struct record *r = record_of(q->steer, &d[i]);
        if (r == NULL)
            break;
        give_back(r, &d[i], verb);
        ++*back;
    }
    return run;
}

static unsigned tx(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct steer_queue *q = queue_of(queue);
    unsigned sent = 0, back;
    for (unsigned i = 0; i < n;) {
        unsigned run = own_run(q, d + i, n - i, SEND, &back);
        if (run > 0)
            sent += sl_queue_tx(q->below, d + i, run);
        sent += back;
        i += run + back;
        count(&q->stats.tx_passed, back);
    }
    return sent;
}

static void free_dgrams(struct sl_queue *queue, struct sl_dgram *d, unsigned n)
{
    struct steer_queue *q = queue_of(queue);
    unsigned back;
    for (unsigned i = 0; i < n;) {
        unsigned run = own_run(q, d + i, n - i, FREE, &back);
        if (run > 0)
            sl_queue_free(q->below, d + i, run);
        i += run + back;
    }
}

static bool rests(struct sl_queue *queue)
{
    struct steer_queue *q = queue_of(queue);
    return q->below != NULL && sl_queue_rests(q->below);
}

static bool has_mail(const struct steer_queue *q)
{
    const struct steer *s = q->steer;
    bool any = false;
    for (unsigned i = 0; i < s->owners; i++)
        any = any || (i != q->index && sl_ring_spsc_count(s->lanes[i * s->n + q->index].arrivals) > 0);
    for (unsigned i = 0; i < s->n; i++)
        any = any || (i != q->index && sl_ring_spsc_count(s->lanes[q->index * s->n + i].back) > 0);
    return any;
}

static void sleep_on(struct sl_queue *queue, uint64_t ns)
{
    struct steer_queue *q = queue_of(queue);
    struct timespec t = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    if (q->below == NULL) {
        clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
        return;
    }
    __atomic_store_n(&q->asleep, 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!has_mail(q))
        sl_queue_sleep(q->below, ns);
    __atomic_store_n(&q->asleep, 0, __ATOMIC_RELAXED);
}

static void wake_queue(struct sl_queue *queue)
{
    sl_queue_wake(queue_of(queue)->below);
}

static int enter(struct sl_queue *queue, char *err, size_t cap)
{
    struct steer_queue *q = queue_of(queue);
    return q->below != NULL ? sl_queue_enter(q->below, err, cap) : 0;
}

static void leave(struct sl_queue *queue)
{
    struct steer_queue *q = queue_of(queue);
    if (q->below != NULL)
        sl_queue_leave(q->below);
}

static void steering(struct sl_queue *queue, struct sl_steer_stats *out)
{
    const uint64_t *from = &queue_of(queue)->stats.steered;
    uint64_t *to = &out->steered;
    for (size_t i = 0; i < sizeof(*out) / sizeof(uint64_t); i++)
        to[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

static bool link_up(struct sl_port *p)
{
    return sl_port_link_up(((struct steer *)p)->below);
}

static int wait_for_link(struct sl_port *p, char *text, size_t cap)
{
    return sl_port_wait(((struct steer *)p)->below, text, cap);
}

static void read_stats(struct sl_port *p, struct sl_port_stats *out)
{
    struct steer *s = (struct steer *)p;
    sl_port_stats(s->below, out);
    for (unsigned i = 0; i < s->n; i++) {
        struct sl_steer_stats q;
        steering(&s->queue[i].queue, &q);
        out->drops[SL_PORT_STEER_FULL] += q.steer_full;
        out->drops[SL_PORT_NO_BUFFER] += q.no_room;
    }
}

static struct sl_queue *queue_at(struct sl_port *p, unsigned index)
{
    struct steer *s = (struct steer *)p;
    return index < s->n ? &s->queue[index].queue : NULL;
}

/* No thread is on a queue any more: what lies in the rings goes back to the port below. */
static void empty(struct steer *s)
{
    for (unsigned i = 0; i < s->owners * s->n; i++) {
        struct lane *l = &s->lanes[i];
        for (unsigned k = 0; l->record != NULL && k < ARRIVALS + LEASES; k++) {
            struct record *r = &l->record[k];
            if (!r->out)
                continue;
            r->d.buffer = r->buffer;
            sl_queue_free(s->queue[i / s->n].below, &r->d, 1);
        }
    }
}

static void close_port(struct sl_port *p)
{
    struct steer *s = (struct steer *)p;
    if (s->lanes != NULL && s->records != NULL)
        empty(s);
    sl_port_close(s->below);
    for (unsigned i = 0; s->lanes != NULL && i < s->owners * s->n; i++) {
        struct sl_ring_spsc *rings[] = {s->lanes[i].arrivals, s->lanes[i].room, s->lanes[i].back};
        for (unsigned k = 0; k < 3; k++)
            if (rings[k] != NULL)
                sl_ring_spsc_free(rings[k]);
    }
    free(s->lanes);
    free(s->records);
    free(s);
}

static const struct sl_port_ops ops = {
    .close = close_port,
    .link_up = link_up,
    .wait = wait_for_link,
    .stats = read_stats,
    .enter = enter,
    .leave = leave,
    .rx = rx,
    .alloc = alloc,
    .tx = tx,
    .free = free_dgrams,
    .rests = rests,
    .sleep = sleep_on,
    .wake = wake_queue,
    .steering = steering,
};

/* ---- opening ---- */

static int make_lane(struct steer *s, unsigned owner, unsigned user, struct record *records)
{
    struct lane *l = lane_of(s, owner, user);
    l->arrivals = sl_ring_spsc_create(RING);
    l->room = sl_ring_spsc_create(RING);
    l->back = sl_ring_spsc_create(RING);
    l->record = records;
    l->steer = s;
    l->owner = owner;
    l->lends = s->queue[user].below == NULL && s->queue[user].home == owner;
    for (uint32_t i = 0; i < ARRIVALS + LEASES; i++)
        records[i].lane = l;
    for (uint32_t i = 0; i < ARRIVALS; i++)
        l->free_arrivals[l->n_free_arrivals++] = i;
    for (uint32_t i = 0; i < LEASES; i++)
        l->free_leases[l->n_free_leases++] = ARRIVALS + i;
    return l->arrivals != NULL && l->room != NULL && l->back != NULL ? 0 : -ENOMEM;
}

static void *zeroed(size_t n, size_t size)
{
    void *p = aligned_alloc(LINE, (n * size + LINE - 1) / LINE * LINE);
    if (p != NULL)
        memset(p, 0, n * size);
    return p;
}

static int make(struct steer *s)
{
    unsigned n = s->n;
    s->n_records = (size_t)s->owners * n * (ARRIVALS + LEASES);
    s->records = zeroed(s->n_records, sizeof(*s->records));
    s->lanes = zeroed((size_t)s->owners * n, sizeof(*s->lanes));
    if (s->records == NULL || s->lanes == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < s->owners * n; i++) {
        int ret = make_lane(s, i / n, i % n, s->records + (size_t)i * (ARRIVALS + LEASES));
        if (ret != 0)
            return ret;
    }
    return 0;
}

int sl_steer_open(struct sl_port *below, unsigned n_lcores, struct sl_port **out, char *err, size_t cap)
{
    if (n_lcores == 0 || n_lcores > SL_LCORES_MAX || below->n_queues == 0 || below->n_queues > n_lcores) {
        snprintf(err, cap, "a port with %u queues cannot serve %u data lcores", below->n_queues, n_lcores);
        sl_port_close(below);
        return -EINVAL;
    }
    struct steer *s = zeroed(1, sizeof(*s) + n_lcores * sizeof(s->queue[0]));
    if (s == NULL) {
        snprintf(err, cap, "out of memory");
        sl_port_close(below);
        return -ENOMEM;
    }
    s->port = (struct sl_port){.ops = &ops, .n_queues = n_lcores, .queue = queue_at};
    s->below = below;
    s->n = n_lcores;
    s->owners = below->n_queues;
    for (unsigned i = 0; i < n_lcores; i++) {
        struct steer_queue *q = &s->queue[i];
        q->queue.ops = &ops;
        q->steer = s;
        q->index = i;
        q->home = i % below->n_queues;
        q->below = i < below->n_queues ? sl_port_queue(below, i) : NULL;
        /* One that is lent its room has nobody who could wake it: then all take naps only. */
        q->queue.wakeable = n_lcores == below->n_queues && q->below->wakeable;
    }
    int ret = make(s);
    if (ret != 0) {
        snprintf(err, cap, "out of memory");
        close_port(&s->port);
        return ret;
    }
    *out = &s->port;
    return 0;
}
