#include "dataplane/ring/ring.h"

#include <rte_ring.h>
#include <rte_ring_elem.h>
#include <stdlib.h>

/* rte_ring in single-producer, single-consumer mode: the producer publishes its tail with release, the
 * consumer reads it with acquire (and the other way round for the room that it gives back), so what was
 * written before a push is seen after the pop. One slot of the ring is never used: full and empty differ by
 * it. */
struct sl_ring_spsc {
    struct rte_ring ring; /* its elements follow */
};

enum { HANDLE_BYTES = sizeof(uint32_t) };

struct sl_ring_spsc *sl_ring_spsc_create(uint32_t capacity)
{
    if (capacity < 2 || (capacity & (capacity - 1)) != 0) /* rte_ring would say so on stderr */
        return NULL;
    ssize_t bytes = rte_ring_get_memsize_elem(HANDLE_BYTES, capacity);
    if (bytes < 0)
        return NULL;
    size_t lines = ((size_t)bytes + RTE_CACHE_LINE_SIZE - 1) / RTE_CACHE_LINE_SIZE;
    struct rte_ring *r = aligned_alloc(RTE_CACHE_LINE_SIZE, lines * RTE_CACHE_LINE_SIZE);
    if (r == NULL)
        return NULL;
    if (rte_ring_init(r, "sl_ring_spsc", capacity, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0) {
        free(r);
        return NULL;
    }
    return (struct sl_ring_spsc *)r;
}

void sl_ring_spsc_free(struct sl_ring_spsc *r)
{
    free(r);
}

unsigned sl_ring_spsc_push(struct sl_ring_spsc *r, const uint32_t *handles, unsigned n)
{
    return rte_ring_sp_enqueue_burst_elem(&r->ring, handles, HANDLE_BYTES, n, NULL);
}

unsigned sl_ring_spsc_pop(struct sl_ring_spsc *r, uint32_t *handles, unsigned n)
{
    return rte_ring_sc_dequeue_burst_elem(&r->ring, handles, HANDLE_BYTES, n, NULL);
}

unsigned sl_ring_spsc_count(const struct sl_ring_spsc *r)
{
    /* As rte_ring_count, whose plain reads of the other side's tail are a race by C11's rules. */
    uint32_t head = __atomic_load_n(&r->ring.prod.tail, __ATOMIC_ACQUIRE);
    uint32_t n = (head - __atomic_load_n(&r->ring.cons.tail, __ATOMIC_ACQUIRE)) & r->ring.mask;
    return n < r->ring.capacity ? n : r->ring.capacity;
}
