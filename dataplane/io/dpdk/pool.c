#include "dataplane/io/dpdk/pool.h"

#include <errno.h>
#include <rte_mbuf.h>
#include <stdio.h>

/* A cache as large as DPDK allows: buffers are reused last-in first-out from it, so the ones in use stay in
 * the CPU's. */
enum { CACHE = RTE_MEMPOOL_CACHE_MAX_SIZE };

static struct sl_pool_generation *generation_of(struct sl_pools *p, const struct rte_mempool *mp)
{
    unsigned i = __atomic_load_n(&p->current, __ATOMIC_RELAXED);
    for (unsigned k = 0; k < SL_POOL_GENERATIONS; k++, i = (i + 1) % SL_POOL_GENERATIONS) {
        if (__atomic_load_n(&p->gen[i].mp, __ATOMIC_RELAXED) == mp)
            break;
    }
    return &p->gen[i];
}

static void hold(struct sl_pool_generation *g, int64_t n, int order)
{
    __atomic_store_n(&g->held, g->held + (uint64_t)n, order);
}

static int make(struct sl_pools *p, struct sl_pool_generation *g)
{
    char name[32];
    unsigned cache = p->n_mbufs >= 4u * CACHE ? CACHE : p->n_mbufs / 4;
    struct rte_mempool *mp = NULL;
    snprintf(name, sizeof(name), "sl_pool_%u_%u", p->queue, p->serial++);
    if (p->socket >= 0)
        mp = rte_pktmbuf_pool_create(name, p->n_mbufs, cache, 0, p->room, p->socket);
    if (mp == NULL) /* EAL may have no memory there */
        mp = rte_pktmbuf_pool_create(name, p->n_mbufs, cache, 0, p->room, SOCKET_ID_ANY);
    __atomic_store_n(&g->mp, mp, __ATOMIC_RELEASE);
    return mp != NULL ? 0 : -ENOMEM;
}

static void free_retired(struct sl_pools *p)
{
    for (unsigned i = 0; i < SL_POOL_GENERATIONS; i++) {
        struct sl_pool_generation *g = &p->gen[i];
        if (i != p->current && g->mp != NULL && __atomic_load_n(&g->held, __ATOMIC_SEQ_CST) == 0) {
            struct rte_mempool *mp = g->mp;
            __atomic_store_n(&g->mp, NULL, __ATOMIC_RELAXED);
            rte_mempool_free(mp);
        }
    }
}

int sl_pools_create(struct sl_pools *p, unsigned queue, int socket, uint32_t n_mbufs, uint16_t room)
{
    *p = (struct sl_pools){.n_mbufs = n_mbufs, .room = room, .queue = queue, .socket = socket};
    return make(p, &p->gen[0]);
}

void sl_pools_free(struct sl_pools *p)
{
    for (unsigned i = 0; i < SL_POOL_GENERATIONS; i++) {
        rte_mempool_free(p->gen[i].mp);
        p->gen[i].mp = NULL;
    }
}

int sl_pools_renew(struct sl_pools *p)
{
    free_retired(p);
    for (unsigned i = 0; i < SL_POOL_GENERATIONS; i++) {
        if (p->gen[i].mp != NULL)
            continue;
        int err = make(p, &p->gen[i]);
        if (err != 0)
            return err;
        /* Ordered before free_retired's load: see sl_pools_alloc. */
        __atomic_store_n(&p->current, i, __ATOMIC_SEQ_CST);
        free_retired(p);
        return 0;
    }
    return -EBUSY;
}

struct rte_mempool *sl_pools_current(const struct sl_pools *p)
{
    return p->gen[__atomic_load_n(&p->current, __ATOMIC_ACQUIRE)].mp;
}

/* Allocation may meet a renewal. It announces itself in `held`, then looks again whether the pool is still
 * the current one; the renewal stores `current`, then looks at `held`. In the single order of these four at
 * least one of the two sees the other. */
int sl_pools_alloc(struct sl_pools *p, struct rte_mbuf **m, unsigned n)
{
    for (;;) {
        uint32_t i = __atomic_load_n(&p->current, __ATOMIC_SEQ_CST);
        struct sl_pool_generation *g = &p->gen[i];
        hold(g, n, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&p->current, __ATOMIC_SEQ_CST) == i) {
            if (rte_pktmbuf_alloc_bulk(g->mp, m, n) == 0)
                return 0;
            hold(g, -(int64_t)n, __ATOMIC_SEQ_CST);
            return -ENOMEM;
        }
        hold(g, -(int64_t)n, __ATOMIC_SEQ_CST);
    }
}

void sl_pools_took(struct sl_pools *p, struct rte_mbuf *const *m, unsigned n)
{
    hold(&p->gen[__atomic_load_n(&p->current, __ATOMIC_RELAXED)], n, __ATOMIC_RELAXED);
}

void sl_pools_gave(struct sl_pools *p, const struct rte_mempool *mp, unsigned n)
{
    hold(generation_of(p, mp), -(int64_t)n, __ATOMIC_RELEASE);
}

void sl_pools_put(struct sl_pools *p, struct rte_mbuf *m)
{
    struct sl_pool_generation *g = generation_of(p, m->pool);
    rte_pktmbuf_free(m);
    hold(g, -1, __ATOMIC_RELEASE);
}
