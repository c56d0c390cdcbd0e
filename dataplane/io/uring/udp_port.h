/* UDP sockets of the kernel as a struct sl_port, for hosts without DPDK: one ring a queue, multishot receive
 * into provided buffers, one system call for a whole burst out. No privilege is needed. Linux 6.1. */
#pragma once

#include "dataplane/io/lcore/port.h"

enum { SL_URING_SOCKETS_MAX = 512 }; /* of a queue */

struct sl_uring_port_config {
    /* Queue q has sockets on local.port + q * n_sockets and the n_sockets - 1 ports after it. An unspecified
     * address (0.0.0.0 or ::) stands for all of this host's: datagrams then come with the one that they were
     * sent to, and leave by their own src. Port 0: any, for queues of one socket. */
    struct sl_addr local;
    unsigned n_queues, n_sockets; /* default 1 */
    uint32_t mtu;                 /* default 1500 */
    uint32_t n_buffers;           /* datagrams of a queue that are to be sent or held: default 8192 */
    uint64_t link_timeout_ns;     /* how long the interface may be down (sl_port_wait); 0: for ever */
    bool plain;                   /* a system call's work for each datagram: neither UDP GSO nor GRO */
};

/* err: one line that says what to do. Datagrams of more than the MTU allows are dropped either way. */
int sl_uring_port_open(const struct sl_uring_port_config *, struct sl_port **, char *err, size_t err_cap);
struct sl_addr sl_uring_port_address(struct sl_port *, unsigned queue); /* of its first socket, as bound */

/* What the port asked of the kernel: packets per call is what makes it fast. Any thread. */
struct sl_uring_port_calls {
    uint64_t enters;       /* system calls */
    uint64_t receives;     /* buffers filled: with GRO each holds a run of datagrams */
    uint64_t sends;        /* messages: with GSO each is a run of datagrams */
    uint64_t rearms;       /* receives started again, mostly because no buffer was free */
    uint64_t copies;       /* datagrams copied because buffers to receive into were getting few */
    uint64_t without_copy; /* messages that left without the kernel's copying them (sendmsg_zc) */
};
void sl_uring_port_calls(struct sl_port *, struct sl_uring_port_calls *);

/* The address from which this host would send to `remote`: no packet is sent. Port 0. */
int sl_uring_local_address(const struct sl_addr *remote, struct sl_addr *local);
