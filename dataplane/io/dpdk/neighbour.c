#include "dataplane/io/dpdk/neighbour.h"

#include <stdbool.h>
#include <string.h>

enum { WAYS = 8 /* one cache line */, SETS = SL_NEIGHBOURS / WAYS };
#define GENERATION UINT64_C(0xf000)

void sl_neighbours_init(struct sl_neighbours *t, uint64_t key)
{
    memset(t, 0, sizeof(*t));
    t->key = key;
}

/* Multiplicative, keyed on both sides of a multiplication. */
static unsigned set_of(const struct sl_neighbours *t, uint64_t n)
{
    uint64_t h = (n ^ t->key) * UINT64_C(0x9e3779b97f4a7c15);
    h = (h ^ h >> 29 ^ t->key >> 17) * UINT64_C(0xbf58476d1ce4e5b9);
    return (unsigned)(h >> 32) % SETS * WAYS;
}

static uint16_t hop_of(unsigned index, uint64_t word)
{
    return (uint16_t)((word & GENERATION) | index);
}

static bool in_use(const struct sl_neighbours *t, unsigned i, uint32_t tick)
{
    uint32_t used = __atomic_load_n(&t->used[i], __ATOMIC_RELAXED);
    return used != 0 && tick - used < SL_NEIGHBOUR_KEPT;
}

static uint16_t insert(struct sl_neighbours *t, unsigned set, uint64_t neighbour, uint32_t tick)
{
    uint32_t start = __atomic_fetch_add(&t->next, 1, __ATOMIC_RELAXED);
    int place = -1;
    for (unsigned k = 0; k < WAYS; k++) {
        unsigned i = set + (start + k) % WAYS;
        if (__atomic_load_n(&t->word[i], __ATOMIC_RELAXED) == 0) {
            place = (int)i;
            break;
        }
        if (place < 0 && !in_use(t, i, tick))
            place = (int)i;
    }
    if (place >= 0) {
        uint64_t old = __atomic_load_n(&t->word[place], __ATOMIC_RELAXED);
        uint64_t generation = (old + (GENERATION & -GENERATION)) & GENERATION;
        uint64_t word = neighbour | (generation != 0 ? generation : GENERATION & -GENERATION);
        if (__atomic_compare_exchange_n(
                &t->word[place], &old, word, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            __atomic_store_n(&t->used[place], 0, __ATOMIC_RELAXED);
            return hop_of((unsigned)place, word);
        }
    }
    __atomic_fetch_add(&t->full, 1, __ATOMIC_RELAXED);
    return 0;
}

uint16_t sl_neighbours_put(struct sl_neighbours *t, uint64_t neighbour, uint32_t tick)
{
    unsigned set = set_of(t, neighbour);
    for (unsigned i = set; i < set + WAYS; i++) {
        uint64_t word = __atomic_load_n(&t->word[i], __ATOMIC_RELAXED);
        if (word != 0 && (word & ~GENERATION) == neighbour)
            return hop_of(i, word);
    }
    return insert(t, set, neighbour, tick);
}

uint64_t sl_neighbours_get(struct sl_neighbours *t, uint16_t hop, uint32_t tick)
{
    unsigned i = hop & (SL_NEIGHBOURS - 1);
    uint64_t word = __atomic_load_n(&t->word[i], __ATOMIC_RELAXED);
    if ((hop & GENERATION) == 0 || (word & GENERATION) != (hop & GENERATION))
        return 0;
    if (__atomic_load_n(&t->used[i], __ATOMIC_RELAXED) != tick)
        __atomic_store_n(&t->used[i], tick, __ATOMIC_RELAXED);
    return word & ~GENERATION;
}
