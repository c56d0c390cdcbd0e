#include "device-sim/link/agenda.h"

#include <errno.h>
#include <stdlib.h>

enum { BUCKET_BITS = 16, BUCKETS = 4096, WORDS = BUCKETS / 64, NONE = UINT32_MAX };

struct heap {
    uint32_t *entry, n;
};

struct sl_agenda {
    uint32_t count;
    uint64_t turn;           /* number of the bucket that `soon` holds: all before it are empty */
    uint64_t order;          /* next insertion's */
    struct heap soon, late;  /* up to the present bucket; beyond the wheel's reach */
    uint64_t *at, *inserted; /* [n] */
    uint32_t *next;          /* [n]: list of a bucket */
    uint32_t first[BUCKETS];
    uint64_t used[WORDS]; /* a bit per bucket that is not empty */
};

int sl_agenda_create(uint32_t n, struct sl_agenda **out)
{
    if (n == 0 || n == NONE)
        return -EINVAL;
    struct sl_agenda *w = calloc(1, sizeof *w);
    if (!w)
        return -ENOMEM;
    w->at = calloc(n, sizeof *w->at);
    w->inserted = calloc(n, sizeof *w->inserted);
    w->next = calloc(n, sizeof *w->next);
    w->soon.entry = calloc(n, sizeof *w->soon.entry);
    w->late.entry = calloc(n, sizeof *w->late.entry);
    for (uint32_t b = 0; b < BUCKETS; b++)
        w->first[b] = NONE;
    if (!w->at || !w->inserted || !w->next || !w->soon.entry || !w->late.entry) {
        sl_agenda_free(w);
        return -ENOMEM;
    }
    *out = w;
    return 0;
}

void sl_agenda_free(struct sl_agenda *w)
{
    if (!w)
        return;
    free(w->at);
    free(w->inserted);
    free(w->next);
    free(w->soon.entry);
    free(w->late.entry);
    free(w);
}

static bool before(const struct sl_agenda *w, uint32_t a, uint32_t b)
{
    return w->at[a] != w->at[b] ? w->at[a] < w->at[b] : w->inserted[a] < w->inserted[b];
}

static void push(const struct sl_agenda *w, struct heap *h, uint32_t entry)
{
    uint32_t i = h->n++;

    while (i > 0 && before(w, entry, h->entry[(i - 1) / 2])) {
        h->entry[i] = h->entry[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    h->entry[i] = entry;
}

static uint32_t pull(const struct sl_agenda *w, struct heap *h)
{
    uint32_t top = h->entry[0], last = h->entry[--h->n], i = 0, child;

    while ((child = 2 * i + 1) < h->n) {
        if (child + 1 < h->n && before(w, h->entry[child + 1], h->entry[child]))
            child++;
        if (!before(w, h->entry[child], last))
            break;
        h->entry[i] = h->entry[child];
        i = child;
    }
    h->entry[i] = last;
    return top;
}

static uint64_t bucket_of(uint64_t at_ns)
{
    return at_ns >> BUCKET_BITS;
}

static void place(struct sl_agenda *w, uint32_t entry)
{
    uint64_t b = bucket_of(w->at[entry]);

    if (b <= w->turn) {
        push(w, &w->soon, entry);
    } else if (b - w->turn < BUCKETS) {
        uint32_t i = (uint32_t)(b % BUCKETS);
        w->next[entry] = w->first[i];
        w->first[i] = entry;
        w->used[i / 64] |= 1ull << i % 64;
    } else {
        push(w, &w->late, entry);
    }
}

void sl_agenda_add(struct sl_agenda *w, uint32_t entry, uint64_t at_ns)
{
    w->at[entry] = at_ns;
    w->inserted[entry] = w->order++;
    if (w->count++ == 0) /* nothing binds the wheel to where it stood */
        w->turn = bucket_of(at_ns);
    place(w, entry);
}

/* The next bucket after the present one that is not empty; 0: none. */
static uint64_t next_used(const struct sl_agenda *w)
{
    uint64_t start = w->turn + 1;

    for (uint32_t k = 0; k <= WORDS; k++) {
        uint32_t word = (uint32_t)(start / 64 + k) % WORDS;
        uint64_t bits = w->used[word];
        if (k == 0)
            bits &= ~0ull << start % 64;
        else if (k == WORDS)
            bits &= ~(~0ull << start % 64);
        if (bits) {
            uint32_t i = word * 64 + (uint32_t)__builtin_ctzll(bits);
            return start + (i + BUCKETS - start % BUCKETS) % BUCKETS;
        }
    }
    return 0;
}

/* Nothing is due in the present bucket: turns to the next one that holds something. */
static void turn(struct sl_agenda *w)
{
    uint64_t b = next_used(w), late = w->late.n ? bucket_of(w->at[w->late.entry[0]]) : UINT64_MAX;

    w->turn = b && b < late ? b : late;
    while (w->late.n && bucket_of(w->at[w->late.entry[0]]) - w->turn < BUCKETS)
        place(w, pull(w, &w->late));
    uint32_t i = (uint32_t)(w->turn % BUCKETS), entry = w->first[i];
    w->first[i] = NONE;
    w->used[i / 64] &= ~(1ull << i % 64);
    while (entry != NONE) {
        uint32_t next = w->next[entry];
        push(w, &w->soon, entry);
        entry = next;
    }
}

uint64_t sl_agenda_next(struct sl_agenda *w)
{
    if (w->count == 0)
        return UINT64_MAX;
    if (w->soon.n == 0)
        turn(w);
    return w->at[w->soon.entry[0]];
}

bool sl_agenda_pop(struct sl_agenda *w, uint64_t until_ns, uint32_t *entry, uint64_t *at_ns)
{
    if (sl_agenda_next(w) > until_ns || w->count == 0)
        return false;
    *entry = pull(w, &w->soon);
    *at_ns = w->at[*entry];
    w->count--;
    return true;
}

uint32_t sl_agenda_count(const struct sl_agenda *w)
{
    return w->count;
}
