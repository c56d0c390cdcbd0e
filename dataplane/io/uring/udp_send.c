/* Sending, on a queue's thread: runs of datagrams as one message, and one system call for a whole burst. */
#include "dataplane/io/lcore/address.h"
#include "dataplane/io/uring/udp_internal.h"

#include <errno.h>
#include <string.h>

static inline struct sl_udp_queue *queue_of(struct sl_queue *q)
{
    return (struct sl_udp_queue *)q;
}

struct sl_udp_buffer *sl_udp_pool_take(struct sl_udp_queue *q)
{
    if (q->n_pool_free == 0)
        return NULL;
    struct sl_udp_buffer *b = q->pool_free[--q->n_pool_free];
    b->refs = 1;
    return b;
}

unsigned sl_udp_alloc(struct sl_queue *base, struct sl_dgram *d, unsigned n)
{
    struct sl_udp_queue *q = queue_of(base);

    n = n < SL_PORT_BURST ? n : SL_PORT_BURST;
    if (q->n_pool_free < n) {
        sl_udp_count(&q->stats.drops[SL_PORT_NO_BUFFER], n);
        return 0;
    }
    for (unsigned i = 0; i < n; i++) {
        struct sl_udp_buffer *b = sl_udp_pool_take(q);
        d[i] = (struct sl_dgram){.data = b->memory, .len = q->port->payload_max, .buffer = b};
    }
    return n;
}

/* A socket that is full holds its sends until there is room: nothing is lost, only later. */
bool sl_udp_rests(struct sl_queue *base)
{
    return queue_of(base)->n_slot_free < SL_PORT_BURST;
}

static void drop(struct sl_udp_queue *q, struct sl_udp_buffer *b, enum sl_port_drop why)
{
    sl_udp_count(&q->stats.drops[why], 1);
    sl_udp_unref(q, b);
}

/* ---- what became of a send ---- */

static enum sl_port_drop reason(int res)
{
    switch (res) {
    case -EMSGSIZE:
    case -EINVAL: /* of UDP_SEGMENT: segments larger than the interface's MTU */
        return SL_PORT_BAD_LENGTH;
    case -EAGAIN:
    case -ENOBUFS:
    case -ENOMEM:
        return SL_PORT_TX_FULL;
    case -ENETDOWN:
    case -EADDRNOTAVAIL: /* the interface lost its address */
    case -ECANCELED:
        return SL_PORT_LINK_DOWN;
    default:
        return SL_PORT_UNREACHABLE;
    }
}

static void release(struct sl_udp_queue *q, unsigned index)
{
    struct sl_udp_slot *s = &q->slots[index];

    for (unsigned i = 0; i < s->n; i++)
        sl_udp_unref(q, s->buffer[i]);
    s->n = 0;
    q->slot_free[q->n_slot_free++] = (uint16_t)index;
}

static void submit(struct sl_udp_queue *q, unsigned index, uint16_t segment);

/* The interface cannot cut a run into datagrams (it has no checksum offload): one by one from now on. */
static void send_singly(struct sl_udp_queue *q, const struct sl_udp_slot *run)
{
    q->segmented = false;
    for (unsigned i = 0; i < run->n; i++) {
        if (q->n_slot_free == 0) {
            sl_udp_count(&q->stats.drops[SL_PORT_TX_FULL], 1);
            continue;
        }
        unsigned index = q->slot_free[--q->n_slot_free];
        struct sl_udp_slot *s = &q->slots[index];
        s->to = run->to;
        s->from = run->from;
        s->ecn = run->ecn;
        s->socket = run->socket;
        s->n = 1;
        s->iov[0] = run->iov[i];
        s->bytes = (uint32_t)run->iov[i].iov_len;
        s->buffer[0] = run->buffer[i];
        s->buffer[0]->refs++;
        submit(q, index, 0);
    }
}

void sl_udp_sent(struct sl_udp_queue *q, unsigned index, int res, uint32_t flags)
{
    struct sl_udp_slot *s = &q->slots[index];

    if (res >= 0) {
        sl_udp_count(&q->stats.tx_packets, s->n);
        sl_udp_count(&q->stats.tx_bytes, s->bytes);
    } else if (res == -EIO && s->n > 1) {
        send_singly(q, s);
    } else {
        sl_udp_count(&q->stats.drops[reason(res)], s->n);
    }
    release(q, index);
}

void sl_udp_abandon_sends(struct sl_udp_queue *q)
{
    for (unsigned i = 0; i < SL_UDP_SLOTS; i++) {
        if (q->slots[i].n == 0)
            continue;
        sl_udp_count(&q->stats.drops[SL_PORT_LINK_DOWN], q->slots[i].n);
        release(q, i);
    }
}

/* ---- bursts ---- */

/* segment: of a run; 0 for one datagram. */
static void submit(struct sl_udp_queue *q, unsigned index, uint16_t segment)
{
    const struct sl_udp_port *p = q->port;
    struct sl_udp_slot *s = &q->slots[index];
    struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);

    if (sqe == NULL) { /* there are more than slots and receives: the kernel takes nothing any more */
        sl_udp_count(&q->stats.drops[SL_PORT_TX_FULL], s->n);
        release(q, index);
        return;
    }
    s->msg = (struct msghdr){.msg_name = &s->to,
        .msg_namelen = p->ipv6 ? sizeof(s->to.v6) : sizeof(s->to.v4),
        .msg_iov = s->iov,
        .msg_iovlen = s->n,
        .msg_control = s->control};
    s->msg.msg_controllen = sl_udp_write_control(
        s->control, sizeof(s->control), p->ipv6, segment, s->ecn, p->any_address ? &s->from : NULL);
    io_uring_prep_sendmsg(sqe, s->socket, &s->msg, 0);
    sqe->flags |= IOSQE_FIXED_FILE;
    io_uring_sqe_set_data64(sqe, sl_udp_op(SL_UDP_OP_SEND, index));
    sl_udp_count(&q->calls.sends, 1);
}

static bool same_way(const struct sl_dgram *a, const struct sl_dgram *b)
{
    return memcmp(a->dst.ip, b->dst.ip, sizeof(a->dst.ip)) == 0 && a->dst.port == b->dst.port &&
           memcmp(a->src.ip, b->src.ip, sizeof(a->src.ip)) == 0 && a->src.port == b->src.port &&
           a->ecn == b->ecn;
}

/* How many of d[0 .. n) can leave as one message: equal in length but for a shorter last one (udp(7),
 * UDP_SEGMENT). */
static unsigned run_length(const struct sl_udp_queue *q, const struct sl_dgram *d, unsigned n)
{
    unsigned k = 1;
    uint32_t bytes = d[0].len;

    if (!q->segmented || d[0].len == 0)
        return 1;
    while (k < n && k < SL_UDP_SEGMENTS_MAX && d[k].len <= d[0].len && d[k].len > 0 &&
           bytes + d[k].len <= SL_UDP_RUN_BYTES && same_way(&d[0], &d[k])) {
        bytes += d[k].len;
        if (d[k++].len < d[0].len)
            break;
    }
    return k;
}

static void send_run(struct sl_udp_queue *q, const struct sl_dgram *d, unsigned n)
{
    unsigned index = q->slot_free[--q->n_slot_free];
    struct sl_udp_slot *s = &q->slots[index];
    uint16_t socket = (uint16_t)(d[0].src.port - q->local.port);

    sl_udp_write_name(&s->to, &d[0].dst);
    s->from = d[0].src;
    s->ecn = d[0].ecn;
    s->socket = socket < q->port->n_sockets ? socket : 0;
    s->n = (uint16_t)n;
    s->bytes = 0;
    for (unsigned i = 0; i < n; i++) {
        s->buffer[i] = d[i].buffer;
        s->iov[i] = (struct iovec){.iov_base = d[i].data, .iov_len = d[i].len};
        s->bytes += d[i].len;
    }
    submit(q, index, n > 1 ? d[0].len : 0);
}

/* Drops what this port cannot send, and closes the gap. */
static unsigned sendable(struct sl_udp_queue *q, struct sl_dgram *d, unsigned n)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < n; i++) {
        if (d[i].len > q->port->payload_max)
            drop(q, d[i].buffer, SL_PORT_BAD_LENGTH);
        else if (sl_addr_is_mapped(&d[i].dst) == q->port->ipv6)
            drop(q, d[i].buffer, SL_PORT_UNREACHABLE);
        else
            d[kept++] = d[i];
    }
    return kept;
}

unsigned sl_udp_tx(struct sl_queue *base, struct sl_dgram *d, unsigned n)
{
    struct sl_udp_queue *q = queue_of(base);
    unsigned at = 0;

    n = sendable(q, d, n < SL_PORT_BURST ? n : SL_PORT_BURST);
    while (at < n && q->n_slot_free > 0) {
        unsigned k = run_length(q, d + at, n - at);
        send_run(q, d + at, k);
        at += k;
    }
    for (unsigned i = at; i < n; i++)
        drop(q, d[i].buffer, SL_PORT_TX_FULL);
    if (at > 0) {
        sl_udp_enter_kernel(q);
        sl_udp_collect(q);
    }
    return at;
}
