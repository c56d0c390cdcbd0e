/* A DPDK port from the inside: what opening and the link (port.c) share with its queues (queue.c). Private to
 * this folder. */
#pragma once

#include "dataplane/io/dpdk/capture.h"
#include "dataplane/io/dpdk/device.h"
#include "dataplane/io/dpdk/gate.h"
#include "dataplane/io/dpdk/pool.h"
#include "dataplane/io/dpdk/port.h"

enum { SL_DPDK_PATH_BYTES = 128 };

struct sl_dpdk_port {
    struct sl_port port; /* first */
    struct sl_dpdk_queue {
        struct sl_queue queue; /* first */
        struct sl_dpdk_port *port;
    } queue;
    uint16_t id;
    uint16_t payload_max;
    uint8_t mac[6], peer_mac[6];
    struct sl_capture *capture; /* NULL: none */
    struct sl_gate gate;
    struct sl_pools pools;
    uint32_t link_up; /* atomic */
    struct sl_port_stats stats;

    /* Written on the interrupt thread. */
    bool memif, client, was_up, connecting;
    uint64_t tried_ns;
    uint64_t down_since_ns; /* atomic */
    uint64_t peer_timeout_ns;
    uint16_t n_rx_desc, n_tx_desc;
    bool created, started;
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

/* queue.c: the part of the ops that runs on the queues' threads. */
int sl_dpdk_queue_enter(struct sl_queue *, char *err, size_t cap);
void sl_dpdk_queue_leave(struct sl_queue *);
unsigned sl_dpdk_queue_rx(struct sl_queue *, struct sl_dgram *, unsigned n);
unsigned sl_dpdk_queue_alloc(struct sl_queue *, struct sl_dgram *, unsigned n);
unsigned sl_dpdk_queue_tx(struct sl_queue *, struct sl_dgram *, unsigned n);
void sl_dpdk_queue_free(struct sl_queue *, struct sl_dgram *, unsigned n);
bool sl_dpdk_queue_rests(struct sl_queue *);
void sl_dpdk_queue_sleep(struct sl_queue *, uint64_t ns);
