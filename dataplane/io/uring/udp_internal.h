/* What the files of the UDP port share. Private to dataplane/io/uring. */
#pragma once

#include "dataplane/io/uring/udp_port.h"

#include <liburing.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdatomic.h>
#include <sys/socket.h>

/* Linux 4.14's, not in every libc's headers. */
#ifndef IP_RECVFRAGSIZE
#define IP_RECVFRAGSIZE 25
#endif
#ifndef IPV6_RECVFRAGSIZE
#define IPV6_RECVFRAGSIZE 77
#endif

enum {
    SL_UDP_SEGMENTS_MAX = 64, /* of one UDP_SEGMENT send: the kernel's UDP_MAX_SEGMENTS before 6.9 */
    SL_UDP_RUN_BYTES = 65000, /* of one such send: an IP packet's 65535 less every header */
    SL_UDP_NAME_BYTES = 28,   /* struct sockaddr_in6 */
    /* struct io_uring_recvmsg_out, the address and the control messages before a payload; a multiple of 64 */
    SL_UDP_HEAD_BYTES = 192,
    SL_UDP_CONTROL_BYTES = SL_UDP_HEAD_BYTES - 16 - SL_UDP_NAME_BYTES,
    SL_UDP_RX_BYTES = SL_UDP_HEAD_BYTES + 65536,
    SL_UDP_RX_BUFFERS = 64, /* a power of two */
    SL_UDP_SLOTS = 128,     /* sends under way */
};

/* A datagram's memory, or that of several (GRO): goes back when none refers to it any more. */
struct sl_udp_buffer {
    uint8_t *memory;
    uint32_t refs;
    uint16_t index;
    bool provided; /* one of those that the kernel fills */
};

union sl_udp_name {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* A send under way: one datagram, or a run of equal ones to one address. */
struct sl_udp_slot {
    struct msghdr msg;
    union sl_udp_name to;
    struct sl_addr from;
    uint32_t bytes;
    uint16_t n, socket;
    uint8_t ecn;
    _Alignas(struct cmsghdr) uint8_t control[112];
    struct iovec iov[SL_UDP_SEGMENTS_MAX];
    struct sl_udp_buffer *buffer[SL_UDP_SEGMENTS_MAX];
};

struct sl_udp_arrival {
    uint16_t buffer, socket;
    int32_t res;
};

struct sl_udp_port;
struct sl_udp_queue {
    struct sl_queue base;
    struct sl_udp_port *port;
    struct io_uring ring;
    bool entered;
    int wake_fd; /* eventfd: from any thread */
    uint64_t wake_value;
    bool wake_armed;

    /* sockets: [n_sockets] */
    int *fds;
    uint16_t *unarmed, n_unarmed; /* those without a receive under way */
    struct sl_addr local;         /* of socket 0; the next has the next port */

    /* receiving */
    struct msghdr receive_msg;
    struct io_uring_buf_ring *provided;
    struct sl_udp_buffer rx[SL_UDP_RX_BUFFERS];
    unsigned n_out; /* of rx, not with the kernel */
    struct sl_udp_arrival arrivals[SL_UDP_RX_BUFFERS];
    unsigned arrived_head, arrived_tail;
    struct { /* the buffer that is being taken apart */
        struct sl_udp_buffer *buffer;
        uint8_t *at;
        uint32_t left, segment;
        uint8_t ecn;
        struct sl_addr src, dst;
    } split;

    /* sending */
    struct sl_udp_buffer *pool, **pool_free;
    uint32_t n_pool, n_pool_free;
    struct sl_udp_slot *slots;
    uint16_t slot_free[SL_UDP_SLOTS], n_slot_free;
    bool segmented; /* UDP_SEGMENT works here */

    uint8_t *memory;
    size_t memory_bytes;
    struct sl_port_stats stats; /* atomic counters */
    struct sl_uring_port_calls calls;
};

struct sl_udp_port {
    struct sl_port base;
    uint32_t n_sockets;
    bool ipv6, any_address, plain;
    uint16_t payload_max;
    uint32_t pool_stride;
    char interface[IF_NAMESIZE];             /* that has the address; empty: any */
    int link_fd;                             /* for asking about it */
    uint64_t down_since_ns, link_timeout_ns; /* of who calls wait */
    uint64_t reconnects;                     /* atomic */
    struct sl_udp_queue queue[];
};

static inline void sl_udp_count(uint64_t *counter, uint64_t n)
{
    __atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/* udp_message.c: addresses and control messages, without a system call. */
struct sl_udp_control {
    uint32_t segment; /* UDP_GRO: 0 where the datagram is alone */
    uint8_t ecn;
    bool fragmented; /* IP_RECVFRAGSIZE: it came in IP fragments */
    bool has_local;
    uint8_t local[16];
};
void sl_udp_read_control(const uint8_t *control, size_t len, struct sl_udp_control *);
/* Returns the bytes written: at most sizeof(slot->control). */
size_t sl_udp_write_control(
    uint8_t *control, size_t cap, bool ipv6, uint16_t segment, uint8_t ecn, const struct sl_addr *from);
bool sl_udp_read_name(const void *name, size_t len, struct sl_addr *);
socklen_t sl_udp_write_name(union sl_udp_name *, const struct sl_addr *);

/* udp_queue.c */
int sl_udp_enter(struct sl_queue *, char *err, size_t cap);
void sl_udp_leave(struct sl_queue *);
unsigned sl_udp_rx(struct sl_queue *, struct sl_dgram *, unsigned n);
void sl_udp_free(struct sl_queue *, struct sl_dgram *, unsigned n);
void sl_udp_sleep(struct sl_queue *, uint64_t ns);
void sl_udp_wake(struct sl_queue *);
void sl_udp_collect(struct sl_udp_queue *);      /* what the kernel has completed */
void sl_udp_enter_kernel(struct sl_udp_queue *); /* submits, and lets it complete more */
void sl_udp_unref(struct sl_udp_queue *, struct sl_udp_buffer *);
enum { SL_UDP_OP_RECEIVE, SL_UDP_OP_SEND, SL_UDP_OP_WAKE };
static inline uint64_t sl_udp_op(unsigned op, unsigned index)
{
    return (uint64_t)op << 32 | index;
}

/* udp_send.c */
unsigned sl_udp_alloc(struct sl_queue *, struct sl_dgram *, unsigned n);
unsigned sl_udp_tx(struct sl_queue *, struct sl_dgram *, unsigned n);
bool sl_udp_rests(struct sl_queue *);
void sl_udp_abandon_sends(struct sl_udp_queue *); /* at the end: those of which nothing was heard */
struct sl_udp_buffer *sl_udp_pool_take(struct sl_udp_queue *); /* NULL: none */
void sl_udp_sent(struct sl_udp_queue *, unsigned slot, int res, uint32_t flags);
