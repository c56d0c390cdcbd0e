/* The requests that wait for a slot, in the order in which they get one: by tag (share.h), and first in first
 * out among equals. A binary heap in memory set aside at creation: O(log n), whoever asks for what. */
#include "dataplane/ingest/ingest_internal.h"

static bool before(const struct sl_waiting *a, const struct sl_waiting *b)
{
    return a->tag != b->tag ? a->tag < b->tag : a->arrival < b->arrival;
}

static void put(struct sl_ingest *in, uint32_t at, struct sl_waiting *w)
{
    in->queue[at] = w;
    w->at = at;
}

/* Places w, for which there is a hole at `at`: towards the head, or away from it. */
static void sift_up(struct sl_ingest *in, uint32_t at, struct sl_waiting *w)
{
    while (at != 0) {
        uint32_t parent = (at - 1) / 2;
        if (!before(w, in->queue[parent]))
            break;
        put(in, at, in->queue[parent]);
        at = parent;
    }
    put(in, at, w);
}

static void sift_down(struct sl_ingest *in, uint32_t at, struct sl_waiting *w)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= in->n_queue)
            break;
        if (child + 1 < in->n_queue && before(in->queue[child + 1], in->queue[child]))
            child++;
        if (!before(in->queue[child], w))
            break;
        put(in, at, in->queue[child]);
        at = child;
    }
    put(in, at, w);
}

void sl_ingest_queue_add(struct sl_ingest *in, struct sl_waiting *w)
{
    w->held = false;
    sift_up(in, in->n_queue++, w);
}

void sl_ingest_queue_remove(struct sl_ingest *in, struct sl_waiting *w)
{
    struct sl_waiting *last = in->queue[--in->n_queue];
    if (last == w)
        return;
    if (w->at != 0 && before(last, in->queue[(w->at - 1) / 2]))
        sift_up(in, w->at, last);
    else
        sift_down(in, w->at, last);
}
