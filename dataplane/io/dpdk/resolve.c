#include "dataplane/io/dpdk/resolve.h"

#include <stddef.h>
#include <string.h>

enum { ASK_EVERY = 2, ASK_AGAIN_EVERY = 300 }; /* ticks: until it is known, and to notice a change */

/* An entry is written before it is counted, and by one thread: who moves n up has it. Two that want the same
 * new address at once may make two entries: both are answered. */
static void want(struct sl_routes *r, const uint8_t ip[16])
{
    uint32_t n = __atomic_load_n(&r->n, __ATOMIC_ACQUIRE), none = 0;
    if (n >= SL_ROUTES)
        return;
    struct sl_route *e = &r->route[n];
    if (!__atomic_compare_exchange_n(&e->state, &none, 1, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
        return; /* another is at it: next time */
    memcpy(e->ip, ip, sizeof(e->ip));
    __atomic_store_n(&r->n, n + 1, __ATOMIC_RELEASE);
}

uint64_t sl_routes_get(struct sl_routes *r, const uint8_t ip[16])
{
    uint32_t n = __atomic_load_n(&r->n, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < n; i++) {
        if (memcmp(r->route[i].ip, ip, 16) == 0)
            return __atomic_load_n(&r->route[i].neighbour, __ATOMIC_RELAXED);
    }
    want(r, ip);
    return 0;
}

void sl_routes_set(struct sl_routes *r, const uint8_t ip[16], uint64_t neighbour)
{
    uint32_t n = __atomic_load_n(&r->n, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < n; i++) {
        if (memcmp(r->route[i].ip, ip, 16) == 0)
            __atomic_store_n(&r->route[i].neighbour, neighbour, __ATOMIC_RELAXED);
    }
}

static void ask_for(
    struct sl_routes *r, struct sl_route *e, uint64_t (*ask)(void *, const uint8_t[16]), void *ctx)
{
    if (ask == NULL) {
        __atomic_store_n(&e->ask, 1, __ATOMIC_RELAXED);
        __atomic_store_n(&r->due, 1, __ATOMIC_RELEASE);
        return;
    }
    uint64_t neighbour = ask(ctx, e->ip);
    if (neighbour != 0) /* what was known stays while the kernel asks again itself */
        __atomic_store_n(&e->neighbour, neighbour, __ATOMIC_RELAXED);
}

void sl_routes_tick(struct sl_routes *r, uint32_t tick, uint64_t (*ask)(void *, const uint8_t[16]), void *ctx)
{
    uint32_t n = __atomic_load_n(&r->n, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < n; i++) {
        struct sl_route *e = &r->route[i];
        bool known = __atomic_load_n(&e->neighbour, __ATOMIC_RELAXED) != 0;
        if (e->asked != 0 && tick - e->asked < (known ? ASK_AGAIN_EVERY : ASK_EVERY))
            continue;
        e->asked = tick;
        ask_for(r, e, ask, ctx);
    }
}

const uint8_t *sl_routes_due(struct sl_routes *r)
{
    if (__builtin_expect(__atomic_load_n(&r->due, __ATOMIC_RELAXED) == 0, 1))
        return NULL;
    uint32_t n = __atomic_load_n(&r->n, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < n; i++) {
        if (__atomic_exchange_n(&r->route[i].ask, 0, __ATOMIC_RELAXED) != 0)
            return r->route[i].ip;
    }
    __atomic_store_n(&r->due, 0, __ATOMIC_RELAXED);
    return NULL;
}
