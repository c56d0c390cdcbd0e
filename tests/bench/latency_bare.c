/* The bare ping-pong: memif, seal and open, nothing else. */
#include "tests/bench/latency.h"
#include "tests/bench/machine.h"
#include "tests/bench/raw_memif.h"
#include "tests/bench/sealed.h"
#include "tests/bench/verb.h"

#include <rte_ethdev.h>
#include <stdio.h>

enum { RING_LOG2 = 9, WARM_UP = 2000, LOOK_EVERY = 1 << 10 };

struct bare {
    struct bench_twin *side;
    struct latency_ping *p;
    struct bench_raw_memif port;
    struct bench_sealed sealed;
    uint64_t pn;
};

static bool send_one(struct bare *b, size_t plain)
{
    struct rte_mbuf *m = rte_pktmbuf_alloc(b->port.pool);
    if (m == NULL)
        return false;
    bench_seal(&b->sealed, b->pn++, plain, rte_pktmbuf_mtod(m, uint8_t *));
    m->data_len = (uint16_t)bench_sealed_bytes(plain);
    m->pkt_len = m->data_len;
    while (rte_eth_tx_burst(b->port.id, 0, &m, 1) == 0) {
    }
    return true;
}

/* Polls until a packet is there and opened. */
static bool receive_one(struct bare *b)
{
    struct rte_mbuf *m;
    for (uint32_t polls = 1; rte_eth_rx_burst(b->port.id, 0, &m, 1) == 0; polls++) {
        if (polls % LOOK_EVERY == 0 &&
            (bench_twin_cancelled(b->side) || __atomic_load_n(&b->p->over, __ATOMIC_ACQUIRE) != 0))
            return false;
    }
    if (!bench_open(&b->sealed, rte_pktmbuf_mtod(m, const uint8_t *), m->data_len))
        b->p->wrong++;
    rte_pktmbuf_free(m);
    return true;
}

static bool ping(struct bare *b)
{
    uint64_t from = bench_now_ns();
    if (!send_one(b, b->p->up_bytes) || !receive_one(b))
        return false;
    if (b->pn > WARM_UP)
        sl_histogram_record(&b->p->rtt, bench_now_ns() - from);
    return true;
}

int latency_bare_side(struct bench_twin *side)
{
    struct bare b = {.side = side, .p = side->shared};
    bench_pin(side->cpu);
    if (!bench_sealed_init(&b.sealed)) {
        snprintf(side->err, side->err_cap, "no AES-GCM on this CPU");
        return BENCH_FAILED;
    }
    if (bench_raw_memif_open(side, RING_LOG2, &b.port) != 0 || bench_twin_meet(side) != 0)
        return BENCH_FAILED;
    if (side->index == 1) {
        while (receive_one(&b) && send_one(&b, b.p->down_bytes)) {
        }
        return BENCH_OK;
    }
    uint64_t until = bench_now_ns() + (uint64_t)(b.p->seconds * 1e9);
    while (bench_now_ns() < until && ping(&b)) {
    }
    /* The other end leaves first: its driver would crash in a poll when this one is gone. */
    __atomic_store_n(&b.p->over, 1, __ATOMIC_RELEASE);
    bench_twin_outlive(side);
    return BENCH_OK;
}
