/* The gate between DPDK's interrupt thread and the thread that drives a memif port.
 *
 * When a memif peer ends, the driver unmaps the rings on the interrupt thread while the data thread may be
 * inside a burst: either end then crashes. So our own alarm callback parks the interrupt thread and lets it
 * run ("a pass") only while the data thread keeps off the port:
 *
 *   DATA  the interrupt thread is parked in our callback; the data thread may touch the port
 *   ASKED the same, and the callback would like a pass; the data thread grants it between two bursts
 *   INTR  the interrupt thread runs; the data thread keeps off and comes again later. It never waits
 *
 * DATA -> ASKED and INTR -> DATA are the interrupt thread's, ASKED -> INTR is the data thread's (release; the
 * other side acquires). No syscall on the data thread's side. While the link is down the gate stays in INTR.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum sl_gate_state { SL_GATE_INTR, SL_GATE_DATA, SL_GATE_ASKED, SL_GATE_SHUT };

struct sl_gate {
    uint32_t state;       /* enum sl_gate_state, atomic */
    uint32_t stop;        /* atomic */
    bool parks;           /* false: a driver that needs no gate; always open */
    bool (*work)(void *); /* on the interrupt thread, once a pass; returns whether the link is up */
    void (*end)(void *);
    void *ctx;
    int watch_fd; /* set by `work`: the peer's connection, whose news end the parking early; -1: none */
    int stop_fd;
    uint64_t pass_from_ns;                 /* when the running pass began; interrupt thread */
    uint64_t passes, pass_ns, pass_max_ns; /* atomic counters */
};

/* `end` runs on the interrupt thread when the gate is stopped. */
int sl_gate_start(struct sl_gate *, bool parks, bool (*work)(void *), void (*end)(void *), void *ctx);
/* Returns true once `end` has run and the callback will not come again; false where the interrupt thread does
 * not answer within two seconds (it hangs in a connect to a stopped server): then nothing that it uses may be
 * freed. The data thread must be off the port. */
bool sl_gate_stop(struct sl_gate *);

/* Data thread, between bursts only: grants a pass that was asked for. Returns whether the port may be
 * touched. */
static inline bool sl_gate_turn(struct sl_gate *g)
{
    uint32_t s = __atomic_load_n(&g->state, __ATOMIC_ACQUIRE);
    if (__builtin_expect(s == SL_GATE_ASKED, 0)) {
        __atomic_store_n(&g->state, SL_GATE_INTR, __ATOMIC_RELEASE);
        return false;
    }
    return s == SL_GATE_DATA;
}

/* Data thread: whether the port may be touched; grants nothing. */
static inline bool sl_gate_open(const struct sl_gate *g)
{
    return __atomic_load_n(&g->state, __ATOMIC_ACQUIRE) != SL_GATE_INTR;
}
