/* The data lcore: one thread that polls a queue of a port, runs a transport endpoint and its sink to
 * completion, and sends.
 *
 *   port rx -> [emulator down] -> sl_rx_burst -> app poll -> sl_tx_burst -> [emulator up] -> port tx
 *
 * No lock, no allocation and no syscall per packet or message; in `adaptive` poll mode it sleeps after 50 us
 * without work: the one syscall. Where the port can wake it, it does so for a datagram and for sl_lcore_wake;
 * else it sleeps at most 100 us. Sessions are installed and removed by commands from one control thread
 * (rules T13). */
#pragma once

#include "dataplane/io/lcore/port.h"

enum sl_poll { SL_POLL_ADAPTIVE, SL_POLL_BUSY };

/* Called on the lcore's thread. */
struct sl_lcore_ops {
    void (*opened)(void *app, uint32_t session, uint64_t user);
    void (*closed)(void *app, uint32_t session);
    void (*poll)(void *app, uint64_t now_ns);
    uint64_t (*deadline)(void *app); /* UINT64_MAX: none */
};

/* A link emulator between port and endpoint (device-sim/link): takes datagrams, gives them back when they
 * would arrive. What it drops it frees itself with sl_queue_free. All on the lcore's thread. */
struct sl_emulator_ops {
    void (*up)(void *emulator, struct sl_dgram *, unsigned n, uint64_t now_ns);   /* leaving the endpoint */
    void (*down)(void *emulator, struct sl_dgram *, unsigned n, uint64_t now_ns); /* from the port */
    unsigned (*up_ready)(void *emulator, struct sl_dgram *, unsigned n, uint64_t now_ns);
    unsigned (*down_ready)(void *emulator, struct sl_dgram *, unsigned n, uint64_t now_ns);
    uint64_t (*deadline)(void *emulator);
};

struct sl_lcore_config {
    struct sl_queue *queue;
    struct sl_endpoint *endpoint;
    enum sl_poll poll;
    const struct sl_lcore_ops *ops;
    void *app;
    const struct sl_emulator_ops *emulator; /* NULL: none */
    void *emulator_ctx;
    int cpu; /* -1: not pinned */
};
struct sl_lcore_stats {
    uint64_t polls_empty, polls_busy, cycles_busy, cycles_total, packets_rx, packets_tx, sleeps;
    struct sl_steer_stats steer; /* of its queue */
};

struct sl_lcore;
/* Returns once the thread runs on its CPU (rules T17), or has failed to: err says why in one line. */
int sl_lcore_start(const struct sl_lcore_config *, struct sl_lcore **, char *err, size_t err_cap);
void sl_lcore_stop(struct sl_lcore *); /* joins the thread, where there is one */

/* Without a thread, for virtual time: the caller gives the turns, all from one thread, which also makes every
 * other call. A turn returns how much it has worked; with 0 nothing is left to do before the deadline, where
 * nobody else does anything either. */
int sl_lcore_create(const struct sl_lcore_config *, struct sl_lcore **, char *err, size_t err_cap);
unsigned sl_lcore_turn(struct sl_lcore *, uint64_t now_ns);
uint64_t sl_lcore_deadline(const struct sl_lcore *); /* UINT64_MAX: nothing by time alone */
/* Any thread, after it has put something on a ring that ops->poll reads: ends the lcore's sleep. Cheap while
 * it is awake. Where the port's sleeps cannot be ended they are short (port.h, wakeable). */
void sl_lcore_wake(struct sl_lcore *);
/* From the control thread only. `user` comes back in ops->opened and in the confirmation. -EAGAIN: the ring
 * is full. */
int sl_lcore_open_session(struct sl_lcore *, const struct sl_session_config *, uint64_t user);
int sl_lcore_close_session(struct sl_lcore *, uint32_t session);
struct sl_lcore_confirm {
    uint32_t session;
    int status;  /* of sl_endpoint_open */
    bool closed; /* this answers a close */
    uint64_t user;
};
/* From the same control thread: what the lcore has done since. Returns whether there was one. */
bool sl_lcore_confirmed(struct sl_lcore *, struct sl_lcore_confirm *);
bool sl_lcore_has_confirmed(const struct sl_lcore *);                  /* whether there is one */
void sl_lcore_stats(const struct sl_lcore *, struct sl_lcore_stats *); /* any thread */
/* "data lcore: thread 4711 on CPU 0,1": as the kernel says now, for printing (rules T17). While it runs. */
void sl_lcore_describe(const struct sl_lcore *, char *text, size_t cap);
