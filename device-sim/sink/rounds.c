#include "device-sim/sink/rounds.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* As trainer/pipeline/gang.h has them. */
enum { TIMES_KEPT = 31, TIMES_MIN = 3, DEADLINE_FACTOR = 3 /* rules L8 */ };

struct sl_rounds {
    struct sl_rounds_config cfg;
    uint32_t quorum;
    uint32_t n_waiting, n_computing, n_answered; /* answered: of those in `computing` */
    uint64_t opened_ns, done_ns;                 /* opened: end of the gang before */
    uint64_t count, took_ns[TIMES_KEPT];         /* from opening to the answer */
    uint64_t *edge_ns;
    uint32_t *waiting, *computing;
};

int sl_rounds_create(const struct sl_rounds_config *c, struct sl_rounds **out)
{
    struct sl_rounds *r = calloc(1, sizeof(*r));

    if (!r)
        return -ENOMEM;
    r->cfg = *c;
    r->edge_ns = malloc(c->n * sizeof(*r->edge_ns));
    r->waiting = malloc(c->n * sizeof(*r->waiting));
    r->computing = malloc(c->n * sizeof(*r->computing));
    if (!r->edge_ns || !r->waiting || !r->computing) {
        sl_rounds_free(r);
        return -ENOMEM;
    }
    memcpy(r->edge_ns, c->edge_ns, c->n * sizeof(*r->edge_ns));
    r->quorum = (uint32_t)ceil(c->quorum * c->n - 1e-9);
    r->quorum = r->quorum ? r->quorum : 1;
    *out = r;
    return 0;
}

void sl_rounds_free(struct sl_rounds *r)
{
    if (!r)
        return;
    free(r->edge_ns);
    free(r->waiting);
    free(r->computing);
    free(r);
}

void sl_rounds_ready(struct sl_rounds *r, uint32_t phone)
{
    r->waiting[r->n_waiting++] = phone;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* 0: there is none yet. */
static uint64_t patience_ns(const struct sl_rounds *r)
{
    uint64_t sorted[TIMES_KEPT];
    size_t n = r->count < TIMES_KEPT ? (size_t)r->count : TIMES_KEPT;

    if (r->cfg.deadline_ns || n < TIMES_MIN)
        return r->cfg.deadline_ns;
    memcpy(sorted, r->took_ns, sizeof(sorted));
    qsort(sorted, n, sizeof(sorted[0]), by_value);
    return DEADLINE_FACTOR * sorted[n / 2];
}

/* When the waiting ones may start, if nobody else comes; the edge is free. */
static uint64_t start_ns(const struct sl_rounds *r)
{
    if (r->n_waiting == 0)
        return UINT64_MAX;
    if (!r->cfg.sync || r->n_waiting == r->cfg.n)
        return 0;
    uint64_t patience = patience_ns(r);
    return r->n_waiting >= r->quorum && patience ? r->opened_ns + patience : UINT64_MAX;
}

static void start(struct sl_rounds *r, uint64_t now_ns)
{
    uint32_t *members = r->waiting;

    r->waiting = r->computing;
    r->computing = members;
    r->n_computing = r->n_waiting;
    r->n_waiting = r->n_answered = 0;
    r->done_ns = now_ns;
    for (uint32_t i = 0; i < r->n_computing; i++)
        r->done_ns += r->edge_ns[members[i]];
    r->took_ns[r->count++ % TIMES_KEPT] = r->done_ns - r->opened_ns;
    r->opened_ns = r->done_ns;
}

bool sl_rounds_next(struct sl_rounds *r, uint64_t now_ns, uint32_t *phone)
{
    if (r->n_computing == 0 && start_ns(r) <= now_ns)
        start(r, now_ns);
    if (r->n_computing == 0 || r->done_ns > now_ns)
        return false;
    *phone = r->computing[r->n_answered++];
    if (r->n_answered == r->n_computing)
        r->n_computing = 0;
    return true;
}

uint64_t sl_rounds_deadline(const struct sl_rounds *r)
{
    return r->n_computing ? r->done_ns : start_ns(r);
}

uint64_t sl_rounds_count(const struct sl_rounds *r)
{
    return r->count;
}
