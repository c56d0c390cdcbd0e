/* A DPDK port from the inside: what opening and the link (port.c) share with its queues (queue.c). Private to
 * this folder. */
#pragma once

#include "dataplane/io/dpdk/answer.h"
#include "dataplane/io/dpdk/capture.h"
#include "dataplane/io/dpdk/device.h"
#include "dataplane/io/dpdk/gate.h"
#include "dataplane/io/dpdk/neighbour.h"
#include "dataplane/io/dpdk/pool.h"
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/dpdk/sleep.h"
#include "dataplane/io/dpdk/split.h"
#include "dataplane/io/dpdk/stamp.h"

enum { SL_DPDK_PATH_BYTES = 128, SL_DPDK_LINE = 64 };

/* Who gets a frame (port.h). */
enum sl_dpdk_link {
    SL_LINK_PEER,   /* always the same */
    SL_LINK_KERNEL, /* the kernel has the interface, and answers for it */
    SL_LINK_OWN,    /* the port answers for itself */
};

struct sl_dpdk_port {
    struct sl_port port; /* first */
    struct sl_dpdk_queue {
        struct sl_queue queue; /* first */
        struct sl_dpdk_port *port;
        uint16_t index;
        uint16_t ring, n_rings, next_ring; /* the device's queues [ring, ring + n_rings) */
        uint32_t answers_tick, answers[2]; /* left in this tick: for neighbours, for pings */
        struct sl_pools pools;
        struct sl_sleep sleep;
        struct rte_mempool *heads;  /* split.h; NULL: packets come in one piece */
        struct sl_port_stats stats; /* its thread's part */
    } __attribute__((aligned(SL_DPDK_LINE))) queue[SL_LCORES_MAX];
    uint16_t id;
    uint16_t payload_max;
    struct sl_self self;
    uint8_t own_ip[16], gateway[16];
    uint16_t udp_port, n_udp_ports;
    enum sl_dpdk_link link;
    uint64_t peer;     /* neighbour that gets what nobody else is known for; 0: none */
    uint64_t udp6_sum; /* what mbufs over IPv6 ask of the port (ol_flags); 0: summed in software */
    uint32_t tick;     /* atomic: 100 ms each, from 1 */
    struct sl_routes routes;
    struct sl_neighbours neighbours;
    struct sl_capture *capture; /* NULL: none */
    struct sl_stamps stamps;
    struct sl_gate gate;
    uint32_t link_up;           /* atomic */
    struct sl_port_stats stats; /* the watching thread's part */
    uint16_t ring_port;

    /* Written on the interrupt thread. */
    bool memif, client, was_up, connecting;
    uint64_t tried_ns, connect_within_ms;
    uint64_t down_since_ns; /* atomic */
    uint64_t peer_timeout_ns;
    uint16_t n_rx_desc, n_tx_desc;
    bool created, started, split;
    char path[SL_DPDK_PATH_BYTES]; /* memif's socket */

    struct sl_device device;
    unsigned interface_index;                     /* of the kernel's interface below, or 0 */
    int watch_fd, xdp_claim, xdp_object, plug_fd; /* descriptors, or -1: create.c */
    uint32_t xdp_program;                         /* the number of ours on the interface; 0: none */
};

/* One thread counts, any thread reads. */
static inline void sl_dpdk_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* create.c: *buffer is set to the bytes that a frame needs. What was made is taken away by _destroy, also
 * after a failure. */
int sl_dpdk_create(struct sl_dpdk_port *, const struct sl_dpdk_port_config *, uint32_t mtu, uint16_t *buffer,
    char *err, size_t cap);
void sl_dpdk_destroy(struct sl_dpdk_port *);

/* link.c: frames and neighbours. */
void sl_dpdk_link_init(struct sl_dpdk_port *, const struct sl_dpdk_port_config *);
void sl_dpdk_link_tick(struct sl_dpdk_port *); /* watching thread, ten times a second */
void sl_dpdk_link_ask(struct sl_dpdk_queue *); /* queue's thread: sends what is due */
bool sl_dpdk_link_answer(
    struct sl_dpdk_queue *, struct rte_mbuf *); /* true: taken, counted and sent or freed */
uint64_t sl_dpdk_link_to(struct sl_dpdk_port *, const struct sl_addr *dst); /* 0: unreachable */

/* queue.c: the part of the ops that runs on the queues' threads. */
int sl_dpdk_queue_enter(struct sl_queue *, char *err, size_t cap);
void sl_dpdk_queue_leave(struct sl_queue *);
unsigned sl_dpdk_queue_rx(struct sl_queue *, struct sl_dgram *, unsigned n);
unsigned sl_dpdk_queue_alloc(struct sl_queue *, struct sl_dgram *, unsigned n);
unsigned sl_dpdk_queue_tx(struct sl_queue *, struct sl_dgram *, unsigned n);
void sl_dpdk_queue_free(struct sl_queue *, struct sl_dgram *, unsigned n);
bool sl_dpdk_queue_rests(struct sl_queue *);
void sl_dpdk_queue_sleep(struct sl_queue *, uint64_t ns);
void sl_dpdk_queue_wake(struct sl_queue *);
