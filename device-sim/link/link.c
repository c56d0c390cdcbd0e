#include "device-sim/link/link.h"

#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

struct link {
    uint64_t ns_per_byte_q32; /* fixed point, 32 fractional bits; 0: not set up */
    uint64_t bytes_per_ns_q32;
    uint64_t delay_ns, queue_bytes;
    uint64_t loss_below; /* a packet is lost where its random number is below that */
    bool loses_all;
    uint64_t key, counter;
    uint64_t free_at_ns; /* end of the last departure, and its fraction */
    uint32_t free_at_frac;
    struct sl_link_stats stats;
};

struct event {
    uint64_t at_ns, order;
    uint32_t link, handle, bytes;
};

struct sl_links {
    uint32_t n, max_packets;
    uint32_t n_events;
    uint64_t order; /* breaks ties in the order of arrival */
    struct event *heap;
    struct link link[];
};

const char *sl_link_verdict_name(enum sl_link_verdict v)
{
    static const char *const names[SL_LINK_VERDICT_COUNT] = {"taken", "queue_full", "lost", "no_room"};
    return v < SL_LINK_VERDICT_COUNT ? names[v] : "unknown";
}

int sl_links_create(uint32_t n, uint32_t max_packets, struct sl_links **out)
{
    if (n == 0 || max_packets == 0)
        return -EINVAL;
    struct sl_links *s = calloc(1, sizeof(*s) + n * sizeof(s->link[0]));
    struct event *heap = calloc(max_packets, sizeof(*heap));
    if (!s || !heap) {
        free(s);
        free(heap);
        return -ENOMEM;
    }
    s->n = n;
    s->max_packets = max_packets;
    s->heap = heap;
    *out = s;
    return 0;
}

void sl_links_free(struct sl_links *s)
{
    if (!s)
        return;
    free(s->heap);
    free(s);
}

int sl_links_set(struct sl_links *s, uint32_t i, const struct sl_link_params *p, uint64_t key)
{
    /* 1 kbit/s to 1 Tbit/s: both fixed-point factors keep at least 20 significant bits. */
    if (i >= s->n || !(p->rate_bps >= 1e3 && p->rate_bps <= 1e12) || !(p->loss >= 0 && p->loss <= 1))
        return -EINVAL;
    struct link *l = &s->link[i];
    l->ns_per_byte_q32 = (uint64_t)llround(8e9 / p->rate_bps * 0x1p32);
    l->bytes_per_ns_q32 = (uint64_t)llround(p->rate_bps / 8e9 * 0x1p32);
    l->delay_ns = p->delay_ns;
    l->queue_bytes = p->queue_bytes;
    l->loses_all = p->loss >= 1;
    l->loss_below = l->loses_all ? 0 : (uint64_t)(p->loss * 0x1p64);
    l->key = key;
    return 0;
}

static bool before(const struct event *a, const struct event *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void heap_push(struct sl_links *s, struct event e)
{
    uint32_t i = s->n_events++;

    while (i > 0 && before(&e, &s->heap[(i - 1) / 2])) {
        s->heap[i] = s->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    s->heap[i] = e;
}

static struct event heap_pop(struct sl_links *s)
{
    struct event top = s->heap[0], last = s->heap[--s->n_events];
    uint32_t i = 0, child;

    while ((child = 2 * i + 1) < s->n_events) {
        if (child + 1 < s->n_events && before(&s->heap[child + 1], &s->heap[child]))
            child++;
        if (!before(&s->heap[child], &last))
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = last;
    return top;
}

/* Bytes not yet serialised. */
static uint64_t backlog(const struct link *l, uint64_t now_ns)
{
    if (l->free_at_ns <= now_ns)
        return 0;
    return (uint64_t)(((unsigned __int128)(l->free_at_ns - now_ns) * l->bytes_per_ns_q32) >> 32);
}

/* Serialises a packet; the link is free again when it has departed. */
static void depart(struct link *l, uint32_t bytes, uint64_t now_ns)
{
    if (l->free_at_ns < now_ns) {
        l->free_at_ns = now_ns;
        l->free_at_frac = 0;
    }
    unsigned __int128 takes = (unsigned __int128)bytes * l->ns_per_byte_q32 + l->free_at_frac;
    uint64_t whole = (uint64_t)(takes >> 32);
    l->free_at_ns += whole;
    l->free_at_frac = (uint32_t)takes;
    l->stats.airtime_ns += whole;
}

static bool is_lost(struct link *l)
{
    return sl_rng_u64(l->key, l->counter++) < l->loss_below || l->loses_all;
}

static enum sl_link_verdict take(
    struct sl_links *s, uint32_t i, uint32_t handle, uint32_t bytes, uint64_t now_ns)
{
    struct link *l = &s->link[i];
    uint64_t queued = backlog(l, now_ns);

    if (!l->ns_per_byte_q32 || s->n_events == s->max_packets)
        return SL_LINK_NO_ROOM;
    if (queued && queued + bytes > l->queue_bytes)
        return SL_LINK_QUEUE_FULL;
    depart(l, bytes, now_ns);
    if (is_lost(l))
        return SL_LINK_LOST;
    heap_push(s, (struct event){l->free_at_ns + l->delay_ns, s->order++, i, handle, bytes});
    return SL_LINK_TAKEN;
}

enum sl_link_verdict sl_links_offer(
    struct sl_links *s, uint32_t i, uint32_t handle, uint32_t payload_bytes, uint64_t now_ns)
{
    if (i >= s->n)
        return SL_LINK_NO_ROOM;
    uint32_t bytes = payload_bytes + SL_LINK_IP_UDP_BYTES;
    enum sl_link_verdict v = take(s, i, handle, bytes, now_ns);
    struct sl_link_stats *stats = &s->link[i].stats;

    stats->offered++;
    stats->offered_bytes += bytes;
    if (v == SL_LINK_TAKEN) {
        stats->under_way++;
        stats->under_way_bytes += bytes;
    } else {
        stats->drops[v]++;
        stats->drop_bytes[v] += bytes;
    }
    return v;
}

bool sl_link_next(struct sl_links *s, uint64_t now_ns, uint32_t *link, uint32_t *handle)
{
    if (s->n_events == 0 || s->heap[0].at_ns > now_ns)
        return false;
    struct event e = heap_pop(s);
    struct sl_link_stats *stats = &s->link[e.link].stats;
    uint64_t late = now_ns - e.at_ns;

    stats->under_way--;
    stats->under_way_bytes -= e.bytes;
    stats->delivered++;
    stats->delivered_bytes += e.bytes;
    stats->late_sum_ns += late;
    if (late > stats->late_max_ns)
        stats->late_max_ns = late;
    *link = e.link;
    *handle = e.handle;
    return true;
}

uint64_t sl_links_deadline(const struct sl_links *s)
{
    return s->n_events ? s->heap[0].at_ns : UINT64_MAX;
}

void sl_links_stats(const struct sl_links *s, uint32_t i, struct sl_link_stats *out)
{
    *out = s->link[i].stats;
}
