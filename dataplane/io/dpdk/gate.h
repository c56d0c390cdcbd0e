/* The gate between DPDK's interrupt thread and the threads that drive a memif port's queues.
 *
 * When a memif peer ends, the driver unmaps the rings on the interrupt thread while a data thread may be
 * inside a burst: either end then crashes. So our own alarm callback parks the interrupt thread and lets it
 * run ("a pass") only while every data thread keeps off the port:
 *
 *   state even  DATA  the interrupt thread is parked in our callback; data threads may touch the port
 *   state odd   ASKED the callback would like a pass; each data thread grants it between two bursts of its
 * own, by writing the state's number into its word, and keeps off from then on INTR  all have granted it: the
 * interrupt thread runs. Nobody waits for it: data threads come again later
 *
 * The state is the interrupt thread's, counting up by one; a word is its data thread's (release; the other
 * side acquires). So no thread's word is ever written by another, and nobody needs an atomic
 * read-modify-write. A thread that has not entered, or has left, has granted everything. No syscall on the
 * data threads' side. While the link is down the state stays odd.
 */
#pragma once

#include "dataplane/wire/packet.h"

#include <stdbool.h>
#include <stdint.h>

/* A word of a data thread is a state that it has granted, or one of these; they are even. */
enum { SL_GATE_NONE = 0, SL_GATE_AWAY = 2 };

struct sl_gate {
    uint32_t state; /* atomic */
    uint32_t stop;  /* atomic */
    uint32_t shut;  /* atomic: `end` has run */
    unsigned n_users;
    bool parks;           /* false: a driver that needs no gate; always open */
    bool (*work)(void *); /* on the interrupt thread, once a pass; returns whether the link is up */
    void (*end)(void *);
    void *ctx;
    int watch_fd; /* set by `work`: the peer's connection, whose news end the parking early; -1: none */
    int stop_fd;
    uint64_t pass_from_ns;                 /* when the running pass began; interrupt thread */
    uint64_t passes, pass_ns, pass_max_ns; /* atomic counters */
    struct {
        uint32_t word; /* atomic */
    } __attribute__((aligned(64))) user[SL_LCORES_MAX];
};

/* `end` runs on the interrupt thread when the gate is stopped. */
int sl_gate_start(
    struct sl_gate *, unsigned n_users, bool parks, bool (*work)(void *), void (*end)(void *), void *ctx);
/* Returns true once `end` has run and the callback will not come again; false where the interrupt thread does
 * not answer within two seconds (it hangs in a connect to a stopped server): then nothing that it uses may be
 * freed. The data threads must have left. */
bool sl_gate_stop(struct sl_gate *);

/* Data thread number `user`, before it touches the port and after it has for the last time. A thread that
 * enters while nobody could see it keeps off until the pass that may be running is over: of the two stores
 * and the two loads, all of one order, either its own load sees the odd state, or the interrupt thread's sees
 * its word. */
static inline void sl_gate_enter(struct sl_gate *g, unsigned user)
{
    __atomic_store_n(&g->user[user].word, SL_GATE_NONE, __ATOMIC_SEQ_CST);
    uint32_t s = __atomic_load_n(&g->state, __ATOMIC_SEQ_CST);
    if ((s & 1) != 0)
        __atomic_store_n(&g->user[user].word, s, __ATOMIC_RELEASE);
}
static inline void sl_gate_leave(struct sl_gate *g, unsigned user)
{
    __atomic_store_n(&g->user[user].word, SL_GATE_AWAY, __ATOMIC_RELEASE);
}

/* Data thread, between bursts only: grants a pass that was asked for. Returns whether the port may be
 * touched. */
static inline bool sl_gate_turn(struct sl_gate *g, unsigned user)
{
    uint32_t s = __atomic_load_n(&g->state, __ATOMIC_ACQUIRE);
    if (__builtin_expect((s & 1) == 0, 1))
        return true;
    if (g->user[user].word != s)
        __atomic_store_n(&g->user[user].word, s, __ATOMIC_RELEASE);
    return false;
}

/* Data thread: whether the port may be touched; grants nothing. */
static inline bool sl_gate_open(const struct sl_gate *g, unsigned user)
{
    uint32_t s = __atomic_load_n(&g->state, __ATOMIC_ACQUIRE);
    return (s & 1) == 0 || g->user[user].word != s;
}
