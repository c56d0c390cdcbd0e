/* The ring, its buffers, and the turn of the loop. */
#include "dataplane/io/uring/loop.h"
#include "dataplane/io/lcore/clock.h"

#include "dataplane/io/uring/loop_internal.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    OPS_PER_CONN = 4,      /* receive, send, connect, cancel */
    OPS_OF_LOOP = 128,     /* stop, listeners, writes */
    ENTRIES_MAX = 1 << 15, /* the kernel's own bound */
    BUFFERS_MIN = 32,
    BUFFERS_MAX = 1024,
    TICK_MS = 100,
    FREE_WAIT_S = 10, /* for file writes, at the end */
};
static const uint64_t ms_ns = 1000000, second_ns = 1000000000;

uint64_t sl_loop_now_ns(void)
{
    return sl_clock_ns();
}

static unsigned power_of_two(unsigned n)
{
    unsigned p = 1;

    while (p < n)
        p *= 2;
    return p;
}

int sl_loop_explain_setup(int err, char *text, size_t cap)
{
    switch (err) {
    case -EPERM:
    case -EACCES:
    case -ENOSYS:
        snprintf(text, cap,
            "io_uring is not permitted here (%s): allow it (sysctl kernel.io_uring_disabled=0, or the "
            "container's seccomp "
            "profile)",
            strerror(-err));
        break;
    case -EINVAL:
        snprintf(text, cap, "this kernel's io_uring is too old: Linux 6.1 or newer is needed");
        break;
    case -ENOMEM:
        snprintf(text, cap,
            "io_uring gets no memory: raise the limit of locked memory (ulimit -l) or the container's");
        break;
    default:
        snprintf(text, cap, "io_uring cannot be set up: %s", strerror(-err));
    }
    return err;
}

void sl_loop_recycle(struct sl_loop *loop, unsigned buffer)
{
    io_uring_buf_ring_add(loop->buffer_ring, loop->buffers + (size_t)buffer * SL_LOOP_RECV_BYTES,
        SL_LOOP_RECV_BYTES, (unsigned short)buffer, io_uring_buf_ring_mask(loop->n_buffers), 0);
    io_uring_buf_ring_advance(loop->buffer_ring, 1);
}

/* liburing 2.3 has no io_uring_setup_buf_ring: the ring is a page-aligned mapping of ours. */
static int buffers_create(struct sl_loop *loop)
{
    struct io_uring_buf_reg reg = {.bgid = SL_LOOP_BUFFER_GROUP};
    int err;

    loop->buffer_ring_bytes = loop->n_buffers * sizeof(struct io_uring_buf);
    loop->buffer_ring =
        mmap(NULL, loop->buffer_ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (loop->buffer_ring == MAP_FAILED) {
        loop->buffer_ring = NULL;
        return -ENOMEM;
    }
    loop->buffers = malloc((size_t)loop->n_buffers * SL_LOOP_RECV_BYTES);
    if (!loop->buffers)
        return -ENOMEM;
    reg.ring_addr = (uintptr_t)loop->buffer_ring;
    reg.ring_entries = loop->n_buffers;
    err = io_uring_register_buf_ring(&loop->ring, &reg, 0);
    if (err)
        return err;
    io_uring_buf_ring_init(loop->buffer_ring);
    for (unsigned i = 0; i < loop->n_buffers; i++)
        sl_loop_recycle(loop, i);
    return 0;
}

struct io_uring_sqe *sl_loop_sqe(struct sl_loop *loop, struct sl_loop_op *op)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);

    if (!sqe && loop->enabled) {
        io_uring_submit(&loop->ring);
        sqe = io_uring_get_sqe(&loop->ring);
    }
    assert(sqe); /* by the sizes in sl_loop_create */
    io_uring_sqe_set_data(sqe, op);
    return sqe;
}

static void arm_stop(struct sl_loop *loop);

static void on_stop(struct sl_loop *loop, void *owner, int res, uint32_t flags)
{
    arm_stop(loop); /* the flag says what to do, this was only the waking */
}

static void arm_stop(struct sl_loop *loop)
{
    struct io_uring_sqe *sqe = sl_loop_sqe(loop, &loop->stop_op);

    io_uring_prep_read(sqe, loop->stop_fd, &loop->stop_value, sizeof(loop->stop_value), 0);
}

int sl_loop_create(uint32_t max_connections, struct sl_loop **out, char *err, size_t err_cap)
{
    struct io_uring_params params = {0};
    unsigned entries = power_of_two(OPS_PER_CONN * max_connections + OPS_OF_LOOP);
    struct sl_loop *loop;
    int status;

    *out = NULL;
    if (max_connections < 1 || max_connections > SL_LOOP_CONNECTIONS_MAX) {
        snprintf(
            err, err_cap, "%u connections: 1 to %d are possible", max_connections, SL_LOOP_CONNECTIONS_MAX);
        return -EINVAL;
    }
    loop = calloc(1, sizeof(*loop));
    if (!loop) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    if (entries > ENTRIES_MAX)
        entries = ENTRIES_MAX;
    loop->max_conns = max_connections;
    loop->n_buffers = power_of_two(max_connections < BUFFERS_MIN ? BUFFERS_MIN : max_connections);
    if (loop->n_buffers > BUFFERS_MAX)
        loop->n_buffers = BUFFERS_MAX;
    /* R_DISABLED: who creates the loop need not be the thread that runs it. */
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED |
                   IORING_SETUP_CQSIZE;
    params.cq_entries = 2 * entries; /* more than there are buffers and requests */
    if (params.cq_entries < 2 * loop->n_buffers)
        params.cq_entries = 2 * loop->n_buffers;
    status = io_uring_queue_init_params(entries, &loop->ring, &params);
    if (status) {
        free(loop);
        return sl_loop_explain_setup(status, err, err_cap);
    }
    loop->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    status = loop->stop_fd < 0 ? -errno : buffers_create(loop);
    if (status) {
        sl_loop_free(loop);
        return sl_loop_explain_setup(status, err, err_cap);
    }
    loop->stop_op = (struct sl_loop_op){.done = on_stop};
    arm_stop(loop);
    *out = loop;
    return 0;
}

void sl_loop_wake(struct sl_loop *loop)
{
    uint64_t one = 1;
    int keep = errno;

    if (write(loop->stop_fd, &one, sizeof(one)) < 0) {
        /* full: it is waking up already */
    }
    errno = keep;
}

void sl_loop_stop(struct sl_loop *loop)
{
    atomic_store(&loop->stop, 1);
    sl_loop_wake(loop);
}

static void complete_all(struct sl_loop *loop)
{
    struct io_uring_cqe *cqe;
    unsigned head, n = 0;

    io_uring_for_each_cqe(&loop->ring, head, cqe)
    {
        struct sl_loop_op *op = io_uring_cqe_get_data(cqe);

        n++;
        if (op)
            op->done(loop, op->owner, cqe->res, cqe->flags);
    }
    io_uring_cq_advance(&loop->ring, n);
}

/* Submits, waits at most wait_ns for a completion, works on all there are. */
static int turn(struct sl_loop *loop, uint64_t wait_ns)
{
    struct __kernel_timespec ts = {
        .tv_sec = (long long)(wait_ns / second_ns), .tv_nsec = (long long)(wait_ns % second_ns)};
    struct io_uring_cqe *cqe;
    int err;

    sl_loop_conns_turn(loop);
    err = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, &ts, NULL);
    if (err < 0 && err != -ETIME && err != -EINTR && err != -EBUSY && err != -EAGAIN)
        return err;
    loop->now_ns = sl_loop_now_ns();
    complete_all(loop);
    if (!loop->ticking && loop->now_ns < loop->next_tick_ns)
        return 0;
    if (!loop->ticking)
        loop->next_tick_ns = loop->now_ns + TICK_MS * ms_ns;
    sl_loop_conns_tick(loop);
    return 0;
}

static int enable(struct sl_loop *loop)
{
    if (loop->enabled)
        return 0;
    /* liburing 2.3 declares io_uring_enable_rings, but its shared library does not export it */
    if (syscall(SYS_io_uring_register, loop->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0) < 0)
        return -errno;
    loop->enabled = true;
    loop->thread = gettid();
    return 0;
}

int sl_loop_run(
    struct sl_loop *loop, void (*poll)(void *app, uint64_t now_ns), void *app, uint64_t poll_interval_ns)
{
    uint64_t wait_ns = TICK_MS * ms_ns;
    int err = enable(loop);

    if (poll && poll_interval_ns < wait_ns)
        wait_ns = poll_interval_ns;
    loop->now_ns = sl_loop_now_ns();
    while (!err && !atomic_load(&loop->stop)) {
        err = turn(loop, loop->ticking && wait_ns > ms_ns ? ms_ns : wait_ns);
        if (!err && poll)
            poll(app, loop->now_ns);
    }
    atomic_store(&loop->stop, 0);
    return err;
}

uint32_t sl_loop_connections(const struct sl_loop *loop)
{
    return loop->n_conns;
}

uint32_t sl_loop_writes(const struct sl_loop *loop)
{
    return loop->n_writes + loop->n_record_ops;
}

static void free_listeners(struct sl_loop *loop)
{
    while (loop->listeners) {
        struct sl_loop_listener *l = loop->listeners;

        loop->listeners = l->next;
        close(l->fd);
        free(l);
    }
}

void sl_loop_free(struct sl_loop *loop)
{
    if (!loop)
        return;
    sl_loop_conns_end(loop, "the loop ended");
    if (loop->enabled && loop->thread == gettid()) {
        uint64_t until = sl_loop_now_ns() + FREE_WAIT_S * second_ns;

        while ((loop->n_conns || sl_loop_writes(loop)) && sl_loop_now_ns() < until &&
               turn(loop, 10 * ms_ns) == 0)
            ;
    }
    io_uring_queue_exit(&loop->ring);
    sl_loop_conns_free(loop);
    sl_loop_writes_free(loop);
    free_listeners(loop);
    if (loop->buffer_ring)
        munmap(loop->buffer_ring, loop->buffer_ring_bytes);
    free(loop->buffers);
    while (loop->n_spare_out)
        free(loop->spare_out[--loop->n_spare_out]);
    if (loop->stop_fd >= 0)
        close(loop->stop_fd);
    free(loop);
}
