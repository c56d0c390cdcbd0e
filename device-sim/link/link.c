#include "device-sim/link/link.h"

#include "device-sim/link/agenda.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdlib.h>

enum { NONE = UINT32_MAX };

struct packet {
    uint32_t link, handle, bytes, next;
    uint32_t left; /* GRANTED: bytes not yet served */
    uint64_t offered_ns;
    enum sl_link_verdict verdict;
};

struct link {
    bool set;
    struct sl_service service;
    struct sl_discipline discipline;
    struct sl_impairment impairment;
    struct sl_outage outage;
    uint64_t delay_ns, hold_ns;
    uint32_t head, tail, waiting; /* the queue, without the packet in service */
    uint64_t waiting_bytes;
    uint32_t serving;          /* packet; NONE */
    uint64_t begin_ns, end_ns; /* of its service */
    bool scheduled;            /* it is in the wheel of services */
    struct sl_link_stats stats;
};

struct sl_links {
    uint32_t n, max_packets;
    uint32_t free_packet;           /* list by next */
    uint32_t dropped, dropped_last; /* likewise: to be fetched */
    struct packet *packet;
    struct sl_agenda *services; /* links: when a service ends, or may begin */
    struct sl_agenda *arrivals; /* packets */
    struct sl_granter granter;
    struct sl_histogram lag;
    struct link link[];
};

const char *sl_link_verdict_name(enum sl_link_verdict v)
{
    static const char *const names[SL_LINK_VERDICT_COUNT] = {
        "taken", "queue_full", "queue_early", "queue_delay", "lost", "no_room"};
    return v < SL_LINK_VERDICT_COUNT ? names[v] : "unknown";
}

int sl_links_create(uint32_t n, uint32_t max_packets, struct sl_links **out)
{
    if (n == 0 || max_packets == 0 || n > NONE - 1 - max_packets)
        return -EINVAL;
    struct sl_links *s = calloc(1, sizeof *s + n * sizeof s->link[0]);
    if (!s)
        return -ENOMEM;
    s->n = n;
    s->max_packets = max_packets;
    s->packet = calloc(max_packets, sizeof *s->packet);
    s->dropped = s->dropped_last = NONE;
    for (uint32_t i = 0; s->packet && i < max_packets; i++)
        s->packet[i].next = i + 1 < max_packets ? i + 1 : NONE;
    for (uint32_t i = 0; i < n; i++)
        s->link[i].head = s->link[i].tail = s->link[i].serving = NONE;
    sl_histogram_reset(&s->lag);
    if (!s->packet || sl_agenda_create(n, &s->services) || sl_agenda_create(max_packets, &s->arrivals)) {
        sl_links_free(s);
        return -ENOMEM;
    }
    *out = s;
    return 0;
}

void sl_links_free(struct sl_links *s)
{
    if (!s)
        return;
    sl_agenda_free(s->services);
    sl_agenda_free(s->arrivals);
    free(s->packet);
    free(s);
}

void sl_links_set_granter(struct sl_links *s, const struct sl_granter *g)
{
    s->granter = *g;
}

/* ---- the queue ---- */

static void join_queue(struct sl_links *s, struct link *l, uint32_t p)
{
    s->packet[p].next = NONE;
    if (l->tail == NONE)
        l->head = p;
    else
        s->packet[l->tail].next = p;
    l->tail = p;
    l->waiting++;
    l->waiting_bytes += s->packet[p].bytes;
}

static uint32_t leave_queue(struct sl_links *s, struct link *l)
{
    uint32_t p = l->head;

    l->head = s->packet[p].next;
    if (l->head == NONE)
        l->tail = NONE;
    l->waiting--;
    l->waiting_bytes -= s->packet[p].bytes;
    return p;
}

/* Bytes of the packet in service that are not yet served. */
static uint64_t in_service(const struct sl_links *s, const struct link *l, uint64_t now_ns)
{
    if (l->serving == NONE)
        return 0;
    const struct packet *p = &s->packet[l->serving];
    if (l->service.kind == SL_SERVICE_GRANTED)
        return p->left;
    if (l->service.kind == SL_SERVICE_TRACE || now_ns <= l->begin_ns)
        return p->bytes;
    if (now_ns >= l->end_ns)
        return 0;
    return (uint64_t)((unsigned __int128)p->bytes * (l->end_ns - now_ns) / (l->end_ns - l->begin_ns));
}

/* A packet that was taken and will not arrive: it waits to be fetched. */
static void drop(struct sl_links *s, uint32_t p, enum sl_link_verdict why)
{
    struct packet *packet = &s->packet[p];

    packet->verdict = why;
    packet->next = NONE;
    if (s->dropped == NONE)
        s->dropped = p;
    else
        s->packet[s->dropped_last].next = p;
    s->dropped_last = p;
}

/* ---- service ---- */

static void schedule(struct sl_links *s, uint32_t i, uint64_t at_ns)
{
    s->link[i].scheduled = true;
    sl_agenda_add(s->services, i, at_ns);
}

/* A packet's service has ended at end_ns. */
static void depart(struct sl_links *s, struct link *l, uint32_t p, uint64_t end_ns)
{
    struct packet *packet = &s->packet[p];

    l->stats.served++;
    l->stats.served_bytes += packet->bytes;
    l->stats.wait_sum_ns += end_ns - packet->offered_ns;
    if (sl_loss_next(&l->impairment.loss))
        drop(s, p, SL_LINK_LOST);
    else
        sl_agenda_add(s->arrivals, p,
            sl_jitter_arrival(&l->impairment.jitter, sl_service_arrival(&l->service, end_ns) + l->delay_ns));
}

/* Takes the head of the queue into service, but for those that the discipline drops. */
static bool take_head(struct sl_links *s, struct link *l, uint64_t at_ns)
{
    while (l->waiting) {
        uint32_t p = leave_queue(s, l);
        if (!sl_discipline_drops_head(
                &l->discipline, at_ns - s->packet[p].offered_ns, l->waiting_bytes, at_ns)) {
            l->serving = p;
            return true;
        }
        drop(s, p, SL_LINK_QUEUE_DELAY);
    }
    return false;
}

/* The link is free at at_ns: serves the next packet, now or when it may. */
static void serve(struct sl_links *s, uint32_t i, uint64_t at_ns)
{
    struct link *l = &s->link[i];

    if (l->waiting == 0 || l->service.kind == SL_SERVICE_GRANTED)
        return;
    uint64_t begin = sl_outage_clear(&l->outage, at_ns > l->hold_ns ? at_ns : l->hold_ns);
    if (begin <= at_ns)
        begin = sl_service_begin(&l->service, begin);
    if (begin > at_ns) {
        schedule(s, i, begin);
        return;
    }
    if (!take_head(s, l, begin))
        return;
    uint32_t bytes = s->packet[l->serving].bytes;
    l->begin_ns = begin;
    l->end_ns = sl_service_end(&l->service, begin, bytes);
    /* A trace's opportunity takes no time: what its bytes would at the trace's mean rate. */
    l->stats.airtime_ns += l->service.kind == SL_SERVICE_TRACE
                               ? l->service.period_ns * bytes / (l->service.trace->n * SL_OPPORTUNITY_BYTES)
                               : l->end_ns - begin;
    schedule(s, i, l->end_ns);
}

/* The link's own entry has come up: a service has ended, or may begin. */
static void link_event(struct sl_links *s, uint32_t i, uint64_t at_ns)
{
    struct link *l = &s->link[i];
    uint32_t p = l->serving;

    l->scheduled = false;
    if (p != NONE && l->service.kind != SL_SERVICE_GRANTED) {
        l->serving = NONE;
        depart(s, l, p, l->end_ns);
    }
    serve(s, i, at_ns);
}

uint32_t sl_links_grant(struct sl_links *s, uint32_t i, uint32_t bytes, uint64_t at_ns)
{
    struct link *l = &s->link[i];
    uint32_t left = bytes;

    if (l->service.kind != SL_SERVICE_GRANTED || at_ns < l->hold_ns ||
        sl_outage_clear(&l->outage, at_ns) > at_ns)
        return 0;
    while (left) {
        if (l->serving == NONE && !take_head(s, l, at_ns))
            break;
        struct packet *p = &s->packet[l->serving];
        uint32_t used = p->left < left ? p->left : left;
        p->left -= used;
        left -= used;
        if (p->left == 0) {
            uint32_t done = l->serving;
            l->serving = NONE;
            depart(s, l, done, at_ns);
        }
    }
    return bytes - left;
}

void sl_links_airtime(struct sl_links *s, uint32_t i, uint64_t ns)
{
    s->link[i].stats.airtime_ns += ns;
}

uint64_t sl_links_backlog_bytes(const struct sl_links *s, uint32_t i)
{
    const struct link *l = &s->link[i];

    return l->waiting_bytes + (l->serving == NONE                         ? 0
                                  : l->service.kind == SL_SERVICE_GRANTED ? s->packet[l->serving].left
                                                                          : s->packet[l->serving].bytes);
}

void sl_links_hold(struct sl_links *s, uint32_t i, uint64_t until_ns)
{
    struct link *l = &s->link[i];

    if (until_ns > l->hold_ns)
        l->hold_ns = until_ns; /* a beginning that is scheduled looks at it when it comes */
}

/* ---- time ---- */

static uint64_t granter_deadline(const struct sl_links *s)
{
    return s->granter.deadline ? s->granter.deadline(s->granter.ctx) : UINT64_MAX;
}

/* Serves what is served by until_ns, links and granter in order of time. */
static void advance(struct sl_links *s, uint64_t until_ns)
{
    for (;;) {
        uint64_t grants = granter_deadline(s), at;
        uint32_t i;
        if (grants <= until_ns && grants <= sl_agenda_next(s->services))
            s->granter.run(s->granter.ctx, grants);
        else if (sl_agenda_pop(s->services, until_ns, &i, &at))
            link_event(s, i, at);
        else
            return;
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t sl_links_deadline(struct sl_links *s)
{
    if (s->dropped != NONE)
        return 0;
    return earlier(granter_deadline(s), earlier(sl_agenda_next(s->services), sl_agenda_next(s->arrivals)));
}

static void release(struct sl_links *s, uint32_t p)
{
    s->packet[p].next = s->free_packet;
    s->free_packet = p;
}

static void fetched(struct sl_links *s, uint32_t p, uint64_t due_ns, struct sl_link_out *out)
{
    struct packet *packet = &s->packet[p];
    struct sl_link_stats *stats = &s->link[packet->link].stats;

    *out = (struct sl_link_out){packet->link, packet->handle, packet->verdict, due_ns};
    stats->under_way--;
    stats->under_way_bytes -= packet->bytes;
    if (packet->verdict == SL_LINK_TAKEN) {
        stats->delivered++;
        stats->delivered_bytes += packet->bytes;
    } else {
        stats->drops[packet->verdict]++;
        stats->drop_bytes[packet->verdict] += packet->bytes;
    }
    release(s, p);
}

bool sl_link_next(struct sl_links *s, uint64_t now_ns, struct sl_link_out *out)
{
    uint32_t p;
    uint64_t at;

    advance(s, now_ns);
    if (s->dropped == NONE && sl_agenda_pop(s->arrivals, now_ns, &p, &at)) {
        struct sl_link_stats *stats = &s->link[s->packet[p].link].stats;
        uint64_t late = now_ns - at;
        stats->late_sum_ns += late;
        if (late > stats->late_max_ns)
            stats->late_max_ns = late;
        sl_histogram_record(&s->lag, late);
        fetched(s, p, at, out);
        return true;
    }
    if (s->dropped == NONE)
        return false;
    p = s->dropped;
    s->dropped = s->packet[p].next;
    fetched(s, p, now_ns, out);
    return true;
}

static uint32_t anything_of(struct sl_links *s, struct link *l)
{
    uint32_t p = l->serving;

    if (p == NONE)
        return l->waiting ? leave_queue(s, l) : NONE;
    l->serving = NONE;
    return p;
}

bool sl_links_evict(struct sl_links *s, uint32_t *handle)
{
    uint32_t p = s->dropped;
    uint64_t at;

    if (p != NONE)
        s->dropped = s->packet[p].next;
    else if (!sl_agenda_pop(s->arrivals, UINT64_MAX, &p, &at))
        p = NONE;
    for (uint32_t i = 0; p == NONE && i < s->n; i++)
        p = anything_of(s, &s->link[i]);
    if (p == NONE)
        return false;
    *handle = s->packet[p].handle;
    release(s, p);
    return true;
}

/* ---- offering ---- */

static enum sl_link_verdict admit(struct sl_links *s, uint32_t i, uint32_t bytes, uint64_t now_ns)
{
    struct link *l = &s->link[i];
    bool busy = l->serving != NONE;
    uint64_t queued = l->waiting_bytes + in_service(s, l, now_ns);

    if (!l->set || s->free_packet == NONE)
        return SL_LINK_NO_ROOM;
    switch (sl_discipline_admit(&l->discipline, queued, l->waiting + busy, bytes, now_ns)) {
    case SL_ADMIT:
        return SL_LINK_TAKEN;
    case SL_ADMIT_EARLY:
        return SL_LINK_QUEUE_EARLY;
    default:
        return SL_LINK_QUEUE_FULL;
    }
}

static void take(struct sl_links *s, uint32_t i, uint32_t handle, uint32_t bytes, uint64_t now_ns)
{
    struct link *l = &s->link[i];
    uint32_t p = s->free_packet;
    bool was_empty = l->waiting == 0 && l->serving == NONE;

    s->free_packet = s->packet[p].next;
    s->packet[p] =
        (struct packet){.link = i, .handle = handle, .bytes = bytes, .left = bytes, .offered_ns = now_ns};
    join_queue(s, l, p);
    l->stats.under_way++;
    l->stats.under_way_bytes += bytes;
    if (l->service.kind != SL_SERVICE_GRANTED) {
        if (!l->scheduled)
            serve(s, i, now_ns);
    } else if (was_empty && s->granter.backlogged) {
        s->granter.backlogged(s->granter.ctx, i, now_ns);
    }
}

enum sl_link_verdict sl_links_offer(
    struct sl_links *s, uint32_t i, uint32_t handle, uint32_t payload_bytes, uint64_t now_ns)
{
    if (i >= s->n)
        return SL_LINK_NO_ROOM;
    uint32_t bytes = payload_bytes + SL_LINK_IP_UDP_BYTES;
    struct sl_link_stats *stats = &s->link[i].stats;

    advance(s, now_ns);
    enum sl_link_verdict v = admit(s, i, bytes, now_ns);
    stats->offered++;
    stats->offered_bytes += bytes;
    if (v == SL_LINK_TAKEN) {
        take(s, i, handle, bytes, now_ns);
    } else {
        stats->drops[v]++;
        stats->drop_bytes[v] += bytes;
    }
    return v;
}

/* ---- set-up ---- */

int sl_links_set(struct sl_links *s, uint32_t i, const struct sl_link_params *p, uint64_t key)
{
    struct sl_service service;
    struct sl_discipline discipline;
    struct sl_impairment impairment;
    struct sl_outage outage;

    if (i >= s->n || sl_service_init(&service, &p->service) ||
        sl_discipline_init(&discipline, &p->queue, key) ||
        sl_impairment_init(&impairment, &p->impairment, key) ||
        sl_outage_init(&outage, &p->outage, p->outage_key ? p->outage_key : key))
        return -EINVAL;
    struct link *l = &s->link[i];
    l->set = true;
    service.free_at_ns = l->service.free_at_ns;
    l->service = service;
    l->discipline = discipline;
    l->impairment = impairment;
    l->outage = outage;
    l->delay_ns = p->delay_ns;
    return 0;
}

void sl_links_stats(const struct sl_links *s, uint32_t i, struct sl_link_stats *out)
{
    *out = s->link[i].stats;
}

const struct sl_service *sl_links_service(const struct sl_links *s, uint32_t i)
{
    return &s->link[i].service;
}

const struct sl_histogram *sl_links_lag(const struct sl_links *s)
{
    return &s->lag;
}
