/* Two processes that measure together: the receiver (this one) and a sender, forked before anything starts,
 * because both ends of a memif link cannot live in one process. They share one block of memory; the receiver
 * leads. */
#pragma once

#include "tests/bench/load.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum bench_phase {
    BENCH_STARTING, /* the sender: not yet ready */
    BENCH_IDLE,     /* nothing is under way */
    BENCH_FULL,     /* real endpoint: requests, messages, acknowledgements */
    BENCH_DRAIN,    /* FULL without new messages, until all are done */
    BENCH_BARE,     /* sealed packets of the same layout, paced by what was taken */
    BENCH_SEAL,     /* BARE without sending: the work that a busy neighbour does */
    BENCH_FLOOD,    /* sealed beforehand, sent as fast as they go or at `rate`: overload */
    BENCH_QUIT,
};

enum { BENCH_FLOOD_SESSIONS = 64 };

struct bench_taken {
    _Alignas(128) uint64_t packets; /* atomic */
};

/* Everything in it is atomic or written before the phase that reads it. */
struct bench_shared {
    uint32_t joined; /* bench_link's step */
    uint32_t phase;  /* asked for by the receiver */
    uint32_t at;     /* what the sender does; IDLE after it has drained */
    struct bench_taken
        taken[BENCH_CORES_MAX]; /* BARE: packets that each data lcore has taken in this phase */
    double rate;                /* FLOOD: packets a second; 0: as many as go */
    /* of the sender since its start */
    uint64_t offered;                       /* datagrams given to its port, or refused by it */
    uint64_t tx_packets, tx_full, tx_other; /* what became of them: other names summed */
    uint64_t messages, steps_lost, retransmits;
    uint64_t cycles, packets; /* of its busy turns */
    /* FLOOD: how often session i's stream has ended, and been made fresh again by the receiver */
    uint32_t ended[BENCH_FLOOD_SESSIONS], reopened[BENCH_FLOOD_SESSIONS];
    uint64_t resident_bytes; /* of the sender */
    char err[384];
};

struct bench_pair {
    struct bench_shared *shared;
    pid_t child;
};

/* Forks; the child runs sender(shared, arg) and ends with what it returns. The parent returns at once. */
int bench_pair_start(struct bench_pair *, int (*sender)(struct bench_shared *, void *arg), void *arg);
/* Asks for a phase and waits until the sender is there; DRAIN: until it is IDLE. -ECHILD: it has died,
 * -EINTR: Ctrl-C, -ETIMEDOUT. */
int bench_pair_ask(struct bench_pair *, enum bench_phase);
int bench_pair_wait_ready(struct bench_pair *); /* out of STARTING; the same errors */
bool bench_pair_alive(struct bench_pair *);
void bench_pair_end(struct bench_pair *); /* QUIT, waits, kills where need be */

/* Of all data lcores together. */
static inline uint64_t bench_taken(const struct bench_shared *s)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < BENCH_CORES_MAX; i++)
        n += __atomic_load_n(&s->taken[i].packets, __ATOMIC_ACQUIRE);
    return n;
}

/* The child's side. */
static inline enum bench_phase bench_phase(const struct bench_shared *s)
{
    return (enum bench_phase)__atomic_load_n(&s->phase, __ATOMIC_ACQUIRE);
}
static inline void bench_phase_reached(struct bench_shared *s, enum bench_phase p)
{
    __atomic_store_n(&s->at, (uint32_t)p, __ATOMIC_RELEASE);
}
