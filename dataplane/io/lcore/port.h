/* What moves datagrams for a data lcore: a port, opened by a back end (dataplane/io/dpdk/port.h,
 * dataplane/io/uring/udp_port.h), with one queue for each data lcore. The port belongs to who opened it; a
 * queue to one thread at a time. Everything on a queue goes in bursts of at most SL_PORT_BURST. */
#pragma once

#include "dataplane/transport/endpoint.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_PORT_BURST = 64 };

/* A datagram in the port's memory: UDP payload [data, data + len), addresses, and the buffer that holds it.
 */
struct sl_dgram {
    uint8_t *data;
    uint16_t len;
    uint8_t ecn;
    struct sl_addr src, dst; /* src.hop: the neighbour that a received one came by */
    void *buffer;            /* the back end's */
};

/* Names of what is not a datagram for us, or could not leave; each counted. */
enum sl_port_drop {
    SL_PORT_NOT_UDP,
    SL_PORT_IP_FRAGMENT,
    SL_PORT_BAD_LENGTH,
    SL_PORT_BAD_CHECKSUM,
    SL_PORT_TX_FULL,
    SL_PORT_LINK_DOWN,
    SL_PORT_NO_BUFFER,
    SL_PORT_RX_FULL,      /* below us: nothing took it in time */
    SL_PORT_TRUNCATED,    /* longer than the buffer that it came in */
    SL_PORT_UNREACHABLE,  /* no way to its address */
    SL_PORT_BAD_ADDRESS,  /* one that cannot be meant */
    SL_PORT_NOT_OURS,     /* for another address or port */
    SL_PORT_ANSWERED,     /* ARP, neighbour discovery and ping: the port's own business */
    SL_PORT_ANSWER_LIMIT, /* more of these than are answered */
    SL_PORT_STEER_FULL,   /* another data lcore's, and the ring to it full (steer.h) */
    SL_PORT_DROP_COUNT
};
const char *sl_port_drop_name(enum sl_port_drop); /* "tx_full", ...: the key in logs and JSON */

/* Bucket i holds waits below 2^i ns and not in the one before; the last everything longer. */
enum { SL_PORT_WAIT_BUCKETS = 40 };
static inline unsigned sl_port_wait_bucket(uint64_t ns)
{
    unsigned bits = ns == 0 ? 0 : 64u - (unsigned)__builtin_clzll(ns);
    return bits < SL_PORT_WAIT_BUCKETS ? bits : SL_PORT_WAIT_BUCKETS - 1;
}
/* The upper bound of the bucket that holds that share of the packets, in ns; 0: none was stamped. */
uint64_t sl_port_wait_quantile(const uint64_t rx_wait[SL_PORT_WAIT_BUCKETS], double share);

struct sl_port_stats {
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes; /* UDP payload bytes */
    uint64_t drops[SL_PORT_DROP_COUNT];
    uint64_t reconnects;                    /* times the link came up again */
    uint64_t kernel_calls;                  /* system calls for datagrams; 0 where the port needs none */
    uint64_t rx_wait[SL_PORT_WAIT_BUCKETS]; /* packets by the time between the NIC's stamp and the lcore */
    bool link_up;
    uint64_t captured, capture_missed; /* packets in the capture's file; that should be and are not */
    uint64_t passes, pass_ns,
        pass_max_ns; /* of the interrupt thread, while the port rests (io/dpdk/gate.h) */
};

/* Of one queue of a port that steers (steer.h). What all queues below received = steered + passed_on +
 * steer_full of all; passed_on = passed_in of all + what lies in the rings. */
struct sl_steer_stats {
    uint64_t steered;    /* came by the lcore's own queue, as they should */
    uint64_t passed_on;  /* came by its queue, and were another lcore's */
    uint64_t passed_in;  /* its own, that another lcore passed on to it */
    uint64_t steer_full; /* dropped: passed_on's ring was full */
    uint64_t tx_passed;  /* given to another lcore for sending */
    uint64_t no_room;    /* could not be lent a buffer */
};

struct sl_port;
struct sl_queue;

/* The back end's side. */
struct sl_port_ops {
    void (*close)(struct sl_port *);
    bool (*link_up)(struct sl_port *);
    int (*wait)(struct sl_port *, char *text, size_t cap);
    void (*stats)(struct sl_port *, struct sl_port_stats *);
    int (*enter)(struct sl_queue *, char *err, size_t cap);
    void (*leave)(struct sl_queue *);
    unsigned (*rx)(struct sl_queue *, struct sl_dgram *, unsigned n);
    unsigned (*alloc)(struct sl_queue *, struct sl_dgram *, unsigned n);
    unsigned (*tx)(struct sl_queue *, struct sl_dgram *, unsigned n);
    void (*free)(struct sl_queue *, struct sl_dgram *, unsigned n);
    bool (*rests)(struct sl_queue *);
    void (*sleep)(struct sl_queue *, uint64_t ns);
    void (*wake)(struct sl_queue *);
    void (*steering)(struct sl_queue *, struct sl_steer_stats *); /* any thread; NULL: it steers nothing */
};
struct sl_port { /* first in the back end's own struct */
    const struct sl_port_ops *ops;
    unsigned n_queues;
    const char *spread; /* what brings datagrams to their queue, for printing; NULL: nothing */
    struct sl_queue *(*queue)(struct sl_port *, unsigned index);
};
struct sl_queue { /* likewise */
    const struct sl_port_ops *ops;
    bool wakeable; /* a datagram and sl_queue_wake end a sleep; else only its time does */
};

/* ---- the port: any thread ---- */

/* The queues' threads must have left, and have freed all their datagrams. NULL is allowed. */
static inline void sl_port_close(struct sl_port *p)
{
    if (p != NULL)
        p->ops->close(p);
}
static inline bool sl_port_link_up(struct sl_port *p)
{
    return p->ops->link_up(p);
}
/* Now and then: 0 while the link is up; 1 while it is down and may come up, -ETIMEDOUT once it was down for
 * longer than the port's peer timeout: then text says what is waited for, where. */
static inline int sl_port_wait(struct sl_port *p, char *text, size_t cap)
{
    return p->ops->wait(p, text, cap);
}
/* Of all queues together. */
static inline void sl_port_stats(struct sl_port *p, struct sl_port_stats *out)
{
    p->ops->stats(p, out);
}
static inline struct sl_queue *sl_port_queue(struct sl_port *p, unsigned index)
{
    return p->queue(p, index);
}

/* ---- a queue: its thread ---- */

/* Before anything else on a thread, and after all else. 0, or -errno and one line. */
static inline int sl_queue_enter(struct sl_queue *q, char *err, size_t cap)
{
    return q->ops->enter(q, err, cap);
}
static inline void sl_queue_leave(struct sl_queue *q)
{
    q->ops->leave(q);
}
/* Call it again and again, also while the link is down: between two calls the port may rest. */
static inline unsigned sl_queue_rx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    return q->ops->rx(q, d, n);
}
/* Room for n datagrams to be written at data (len = capacity): all n, or 0 and SL_PORT_NO_BUFFER is counted.
 * The caller then sets len, src, dst and gives them to _tx or _free. */
static inline unsigned sl_queue_alloc(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    return q->ops->alloc(q, d, n);
}
/* Sends all; what the port does not take is freed and counted. Datagrams from _rx may be sent too. Returns
 * how many went. */
static inline unsigned sl_queue_tx(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    return q->ops->tx(q, d, n);
}
static inline void sl_queue_free(struct sl_queue *q, struct sl_dgram *d, unsigned n)
{
    q->ops->free(q, d, n);
}
/* The link is up but the port rests for the moment: what is sent now would be dropped, so send later. */
static inline bool sl_queue_rests(struct sl_queue *q)
{
    return q->ops->rests(q);
}
/* Sleeps until a datagram may have come, at most ns: where the port cannot tell, for ns. */
static inline void sl_queue_sleep(struct sl_queue *q, uint64_t ns)
{
    q->ops->sleep(q, ns);
}
/* Any thread: ends a sleep, or the next one, if the queue is wakeable. */
static inline void sl_queue_wake(struct sl_queue *q)
{
    if (q->wakeable)
        q->ops->wake(q);
}
/* Any thread; all zero where the port does not steer. */
static inline void sl_queue_steering(struct sl_queue *q, struct sl_steer_stats *out)
{
    *out = (struct sl_steer_stats){0};
    if (q->ops->steering != NULL)
        q->ops->steering(q, out);
}
