/* A queue's ring, receiving, and sleep, on its thread. */
#include "dataplane/io/uring/loop_internal.h"
#include "dataplane/io/uring/udp_internal.h"

#include <errno.h>
#include <string.h>

enum {
    SQ_ENTRIES = 256,  /* more than a burst of sends; receives are armed in portions of it */
    CQ_ENTRIES = 2048, /* more than buffers, twice the sends, and the ends of every socket's receive */
    GROUP = 0,
    FEW_LEFT = SL_UDP_RX_BUFFERS / 2, /* from here on datagrams are copied out of their buffers */
};

static inline struct sl_udp_queue *queue_of(struct sl_queue *q)
{
    return (struct sl_udp_queue *)q;
}

/* ---- buffers ---- */

static void provide(struct sl_udp_queue *q, struct sl_udp_buffer *b)
{
    io_uring_buf_ring_add(
        q->provided, b->memory, SL_UDP_RX_BYTES, b->index, io_uring_buf_ring_mask(SL_UDP_RX_BUFFERS), 0);
    io_uring_buf_ring_advance(q->provided, 1);
    q->n_out--;
}

void sl_udp_unref(struct sl_udp_queue *q, struct sl_udp_buffer *b)
{
    if (--b->refs > 0)
        return;
    if (!b->provided)
        q->pool_free[q->n_pool_free++] = b;
    else if (q->entered) /* after that the next thread provides all that are free */
        provide(q, b);
}

void sl_udp_free(struct sl_queue *base, struct sl_dgram *d, unsigned n)
{
    struct sl_udp_queue *q = queue_of(base);

    for (unsigned i = 0; i < n; i++)
        sl_udp_unref(q, d[i].buffer);
}

/* ---- the ring ---- */

static bool work_waits(struct sl_udp_queue *q)
{
    return (IO_URING_READ_ONCE(*q->ring.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

void sl_udp_enter_kernel(struct sl_udp_queue *q)
{
    io_uring_submit_and_get_events(&q->ring); /* what fails stays on the ring for the next time */
    sl_udp_count(&q->calls.enters, 1);
}

/* A receive that has ended starts again as soon as there is a buffer for it. */
static void arm(struct sl_udp_queue *q)
{
    while (q->n_unarmed > 0 && q->n_out < SL_UDP_RX_BUFFERS) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&q->ring);
        if (sqe == NULL)
            return;
        unsigned socket = q->unarmed[--q->n_unarmed];
        io_uring_prep_recvmsg_multishot(sqe, (int)socket, &q->receive_msg, 0);
        sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
        sqe->buf_group = GROUP;
        io_uring_sqe_set_data64(sqe, sl_udp_op(SL_UDP_OP_RECEIVE, socket));
        sl_udp_count(&q->calls.rearms, 1);
    }
}

static void arm_wake(struct sl_udp_queue *q)
{
    struct io_uring_sqe *sqe = q->wake_armed ? NULL : io_uring_get_sqe(&q->ring);

    if (sqe == NULL)
        return;
    io_uring_prep_read(sqe, q->wake_fd, &q->wake_value, sizeof(q->wake_value), 0);
    io_uring_sqe_set_data64(sqe, sl_udp_op(SL_UDP_OP_WAKE, 0));
    q->wake_armed = true;
}

static void arrived(struct sl_udp_queue *q, unsigned socket, int res, uint32_t flags)
{
    if ((flags & IORING_CQE_F_MORE) == 0)
        q->unarmed[q->n_unarmed++] = (uint16_t)socket;
    if ((flags & IORING_CQE_F_BUFFER) == 0)
        return;
    unsigned buffer = flags >> IORING_CQE_BUFFER_SHIFT;
    q->n_out++;
    q->rx[buffer].refs = 1;
    q->arrivals[q->arrived_tail++ % SL_UDP_RX_BUFFERS] =
        (struct sl_udp_arrival){.buffer = (uint16_t)buffer, .socket = (uint16_t)socket, .res = res};
}

void sl_udp_collect(struct sl_udp_queue *q)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;

    io_uring_for_each_cqe(&q->ring, head, cqe)
    {
        unsigned index = (uint32_t)cqe->user_data;
        n++;
        switch (cqe->user_data >> 32) {
        case SL_UDP_OP_RECEIVE:
            arrived(q, index, cqe->res, cqe->flags);
            break;
        case SL_UDP_OP_SEND:
            sl_udp_sent(q, index, cqe->res, cqe->flags);
            break;
        default:
            q->wake_armed = false;
        }
    }
    if (n > 0)
        io_uring_cq_advance(&q->ring, n);
}

/* ---- receiving ---- */

static void drop(struct sl_udp_queue *q, struct sl_udp_buffer *b, enum sl_port_drop why)
{
    sl_udp_count(&q->stats.drops[why], 1);
    sl_udp_unref(q, b);
}

/* Begins to take the next buffer apart. False: it held nothing for us, and why is counted. */
static bool open_arrival(struct sl_udp_queue *q, const struct sl_udp_arrival *a)
{
    struct sl_udp_buffer *b = &q->rx[a->buffer];
    const struct io_uring_recvmsg_out *out = (const void *)b->memory;
    const uint8_t *name = b->memory + sizeof(*out);
    struct sl_udp_control c;

    sl_udp_count(&q->calls.receives, 1);
    if (a->res < SL_UDP_HEAD_BYTES || out->namelen > SL_UDP_NAME_BYTES ||
        out->controllen > SL_UDP_CONTROL_BYTES || !sl_udp_read_name(name, out->namelen, &q->split.src)) {
        drop(q, b, SL_PORT_BAD_LENGTH);
        return false;
    }
    if (out->flags & (MSG_TRUNC | MSG_CTRUNC)) {
        drop(q, b, SL_PORT_TRUNCATED);
        return false;
    }
    sl_udp_read_control(name + SL_UDP_NAME_BYTES, out->controllen, &c);
    if (c.fragmented) {
        drop(q, b, SL_PORT_IP_FRAGMENT);
        return false;
    }
    q->split.buffer = b;
    q->split.at = b->memory + SL_UDP_HEAD_BYTES;
    q->split.left = (uint32_t)a->res - SL_UDP_HEAD_BYTES;
    q->split.segment = c.segment != 0 ? c.segment : q->split.left;
    q->split.ecn = c.ecn;
    q->split.dst = q->local;
    q->split.dst.port = (uint16_t)(q->local.port + a->socket);
    if (c.has_local)
        memcpy(q->split.dst.ip, c.local, sizeof(c.local));
    return true;
}

/* Where few buffers are left to receive into, a datagram moves to one of its own. */
static struct sl_udp_buffer *place(struct sl_udp_queue *q, uint8_t **at, uint32_t len)
{
    struct sl_udp_buffer *b = q->n_out > FEW_LEFT ? sl_udp_pool_take(q) : NULL;

    if (b == NULL) {
        q->split.buffer->refs++;
        return q->split.buffer;
    }
    memcpy(b->memory, *at, len);
    *at = b->memory;
    sl_udp_count(&q->calls.copies, 1);
    return b;
}

/* The next datagrams of the buffer that is being taken apart. */
static unsigned split(struct sl_udp_queue *q, struct sl_dgram *d, unsigned n)
{
    unsigned got = 0;

    while (q->split.buffer != NULL && got < n) {
        uint32_t len = q->split.left < q->split.segment ? q->split.left : q->split.segment;
        uint8_t *at = q->split.at;
        q->split.at += len;
        q->split.left -= len;
        if (len > q->port->payload_max) {
            sl_udp_count(&q->stats.drops[SL_PORT_BAD_LENGTH], 1);
        } else {
            struct sl_dgram *out = &d[got++];
            out->buffer = place(q, &at, len);
            out->data = at;
            out->len = (uint16_t)len;
            out->ecn = q->split.ecn;
            out->src = q->split.src;
            out->dst = q->split.dst;
        }
        if (q->split.left == 0) {
            sl_udp_unref(q, q->split.buffer);
            q->split.buffer = NULL;
        }
    }
    return got;
}

unsigned sl_udp_rx(struct sl_queue *base, struct sl_dgram *d, unsigned n)
{
    struct sl_udp_queue *q = queue_of(base);
    unsigned got = split(q, d, n);
    uint64_t bytes = 0;

    if (got < n) {
        arm(q);
        if (io_uring_sq_ready(&q->ring) > 0 || (q->arrived_head == q->arrived_tail && work_waits(q)))
            sl_udp_enter_kernel(q);
        sl_udp_collect(q);
    }
    while (got < n && q->arrived_head != q->arrived_tail)
        if (open_arrival(q, &q->arrivals[q->arrived_head++ % SL_UDP_RX_BUFFERS]))
            got += split(q, d + got, n - got);
    if (got == 0)
        return 0;
    for (unsigned i = 0; i < got; i++)
        bytes += d[i].len;
    sl_udp_count(&q->stats.rx_packets, got);
    sl_udp_count(&q->stats.rx_bytes, bytes);
    return got;
}

/* ---- sleep ---- */

void sl_udp_sleep(struct sl_queue *base, uint64_t ns)
{
    struct sl_udp_queue *q = queue_of(base);
    struct __kernel_timespec t = {
        .tv_sec = (long long)(ns / 1000000000u), .tv_nsec = (long long)(ns % 1000000000u)};
    struct io_uring_cqe *cqe;

    if (q->split.buffer != NULL || q->arrived_head != q->arrived_tail)
        return;
    arm(q);
    arm_wake(q);
    io_uring_submit_and_wait_timeout(&q->ring, &cqe, 1, &t, NULL);
    sl_udp_count(&q->calls.enters, 1);
}

void sl_udp_wake(struct sl_queue *base)
{
    uint64_t one = 1;

    if (write(queue_of(base)->wake_fd, &one, sizeof(one)) < 0) {
        /* full: it is waking up already */
    }
}

/* ---- the thread ---- */

static int set_up(struct sl_udp_queue *q)
{
    struct io_uring_params params = {.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                              IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_CQSIZE,
        .cq_entries = CQ_ENTRIES};
    struct io_uring_buf_reg reg = {
        .ring_addr = (uintptr_t)q->provided, .ring_entries = SL_UDP_RX_BUFFERS, .bgid = GROUP};
    int err = io_uring_queue_init_params(SQ_ENTRIES, &q->ring, &params);

    if (err != 0)
        return err;
    err = io_uring_register_files(&q->ring, q->fds, q->port->n_sockets);
    if (err == 0)
        err = io_uring_register_buf_ring(&q->ring, &reg, 0);
    if (err != 0) {
        io_uring_queue_exit(&q->ring);
        return err;
    }
    io_uring_register_ring_fd(&q->ring); /* makes each call a little cheaper where the kernel can */
    return 0;
}

int sl_udp_enter(struct sl_queue *base, char *err, size_t cap)
{
    struct sl_udp_queue *q = queue_of(base);
    int status = set_up(q);

    if (status != 0)
        return sl_loop_explain_setup(status, err, cap);
    q->entered = true;
    q->wake_armed = false;
    io_uring_buf_ring_init(q->provided);
    q->n_out = SL_UDP_RX_BUFFERS;
    for (unsigned i = 0; i < SL_UDP_RX_BUFFERS; i++)
        if (q->rx[i].refs == 0)
            provide(q, &q->rx[i]);
    q->n_unarmed = 0;
    for (unsigned i = q->port->n_sockets; i > 0; i--)
        q->unarmed[q->n_unarmed++] = (uint16_t)(i - 1);
    arm(q);
    sl_udp_enter_kernel(q);
    return 0;
}

/* What the ring has not said is lost with it: sends under way count as not sent. */
void sl_udp_leave(struct sl_queue *base)
{
    struct sl_udp_queue *q = queue_of(base);

    sl_udp_enter_kernel(q);
    sl_udp_collect(q);
    io_uring_queue_exit(&q->ring);
    q->entered = false;
    while (q->arrived_head != q->arrived_tail)
        sl_udp_unref(q, &q->rx[q->arrivals[q->arrived_head++ % SL_UDP_RX_BUFFERS].buffer]);
    if (q->split.buffer != NULL)
        sl_udp_unref(q, q->split.buffer);
    q->split.buffer = NULL;
    sl_udp_abandon_sends(q);
}
