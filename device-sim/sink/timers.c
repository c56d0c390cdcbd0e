#include "device-sim/sink/timers.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

static const uint32_t nowhere = UINT32_MAX;

struct slot {
    uint64_t at_ns;
    uint32_t id;
};

struct sl_timers {
    uint32_t n;
    struct slot *heap;
    uint32_t place[]; /* of each thing in the heap */
};

int sl_timers_create(uint32_t n, struct sl_timers **out)
{
    struct sl_timers *t = calloc(1, sizeof(*t) + n * sizeof(t->place[0]));

    if (!t)
        return -ENOMEM;
    t->heap = calloc(n ? n : 1, sizeof(*t->heap));
    if (!t->heap) {
        free(t);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < n; i++)
        t->place[i] = nowhere;
    *out = t;
    return 0;
}

void sl_timers_free(struct sl_timers *t)
{
    if (!t)
        return;
    free(t->heap);
    free(t);
}

static bool before(struct slot a, struct slot b)
{
    return a.at_ns != b.at_ns ? a.at_ns < b.at_ns : a.id < b.id;
}

static void put(struct sl_timers *t, uint32_t at, struct slot s)
{
    t->heap[at] = s;
    t->place[s.id] = at;
}

/* Moves what stands at `at` to where it belongs. */
static void settle(struct sl_timers *t, uint32_t at)
{
    struct slot s = t->heap[at];
    uint32_t child;

    while (at > 0 && before(s, t->heap[(at - 1) / 2])) {
        put(t, at, t->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    while ((child = 2 * at + 1) < t->n) {
        if (child + 1 < t->n && before(t->heap[child + 1], t->heap[child]))
            child++;
        if (!before(t->heap[child], s))
            break;
        put(t, at, t->heap[child]);
        at = child;
    }
    put(t, at, s);
}

static void take_out(struct sl_timers *t, uint32_t at)
{
    struct slot last = t->heap[--t->n];

    t->place[t->heap[at].id] = nowhere;
    if (at == t->n)
        return;
    put(t, at, last);
    settle(t, at);
}

void sl_timers_set(struct sl_timers *t, uint32_t i, uint64_t at_ns)
{
    if (at_ns == UINT64_MAX) {
        if (t->place[i] != nowhere)
            take_out(t, t->place[i]);
        return;
    }
    if (t->place[i] == nowhere)
        t->place[i] = t->n++;
    t->heap[t->place[i]] = (struct slot){at_ns, i};
    settle(t, t->place[i]);
}

uint64_t sl_timers_deadline(const struct sl_timers *t)
{
    return t->n ? t->heap[0].at_ns : UINT64_MAX;
}

int64_t sl_timers_next(struct sl_timers *t, uint64_t now_ns)
{
    if (t->n == 0 || t->heap[0].at_ns > now_ns)
        return -1;
    uint32_t id = t->heap[0].id;
    take_out(t, 0);
    return id;
}
