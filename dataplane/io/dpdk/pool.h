/* Packet buffers of a port's queue, in generations.
 *
 * When a zero-copy memif client loses its peer, the driver forgets the buffers that lie in its rings. So
 * every new connection gets a pool of its own, and an old one is freed as a whole once the data thread holds
 * nothing of it. `held` counts what the data thread has taken and not given back; it is written by that
 * thread alone, and always after the pool was touched on the way out and before on the way in, so that the
 * thread that sees a retired pool at 0 may free it. */
#pragma once

#include "dataplane/io/dpdk/port.h"

struct rte_mempool;
struct rte_mbuf;

enum { SL_POOL_GENERATIONS = 4 };

struct sl_pool_generation {
    struct rte_mempool *mp;
    uint64_t held; /* atomic */
};

struct sl_pools {
    uint32_t current; /* index, atomic */
    struct sl_pool_generation gen[SL_POOL_GENERATIONS];
    uint32_t n_mbufs, serial;
    unsigned queue; /* for their names */
    int socket;     /* of the CPU that uses them; -1: no matter */
    uint16_t room;  /* bytes of one buffer, headroom included */
};

int sl_pools_create(struct sl_pools *, unsigned queue, int socket, uint32_t n_mbufs, uint16_t room);
void sl_pools_free(struct sl_pools *);
/* Not the data thread, and the port stopped: a new pool becomes current. -ENOMEM, -EBUSY: too many old ones
 * are still held. */
int sl_pools_renew(struct sl_pools *);
struct rte_mempool *sl_pools_current(const struct sl_pools *);

/* Data thread. */
int sl_pools_alloc(struct sl_pools *, struct rte_mbuf **, unsigned n); /* all or -ENOMEM */
void sl_pools_took(
    struct sl_pools *, struct rte_mbuf *const *, unsigned n); /* from the driver, all of the current pool */
void sl_pools_gave(struct sl_pools *, const struct rte_mempool *, unsigned n); /* to the driver */
void sl_pools_put(struct sl_pools *, struct rte_mbuf *);
