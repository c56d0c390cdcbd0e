/* Control connections: bytes between sockets and sl_control. */
#include "dataplane/io/uring/loop_internal.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BACKLOG = 128,    /* rules T16 */
    LINGER_MS = 1000, /* for the peer to read our last words */
    ACCEPT_PAUSE_MS = 500,
    CONNECT_DEFAULT_S = 10,
    TICKED_A_TURN = 64,
};
static const uint64_t ms_ns = 1000000, second_ns = 1000000000;

static void arm_recv(struct sl_loop_conn *conn);

/* No new work for it; it is freed when the last request is back. */
static void end(struct sl_loop_conn *conn)
{
    if (conn->ending)
        return;
    conn->ending = true;
    conn->next_ending = conn->loop->ended;
    conn->loop->ended = conn;
    if (conn->in_flight)
        io_uring_prep_cancel_fd(sl_loop_sqe(conn->loop, NULL), conn->fd, IORING_ASYNC_CANCEL_ALL);
}

static void handshake_over(struct sl_loop_conn *conn)
{
    if (conn->listener)
        conn->listener->handshakes--;
    conn->listener = NULL;
}

/* Gives the control object back to its application. */
static void close_control(struct sl_loop_conn *conn, const char *why)
{
    struct sl_control *control = conn->control;

    if (!control)
        return;
    handshake_over(conn);
    sl_control_eof(control, why);
    conn->control = NULL; /* sl_loop_peer works inside `closed` */
}

static void lose(struct sl_loop_conn *conn, const char *why)
{
    close_control(conn, why);
    end(conn);
}

/* All is sent: our half is closed; the other half is read to its end, or for LINGER_MS. */
static void finish(struct sl_loop_conn *conn)
{
    close_control(conn, NULL);
    shutdown(conn->fd, SHUT_WR);
    conn->give_up_ns = conn->loop->now_ns + LINGER_MS * ms_ns;
    if (!conn->recv_armed)
        end(conn);
}

static void arm_send(struct sl_loop_conn *conn)
{
    struct io_uring_sqe *sqe = sl_loop_sqe(conn->loop, &conn->send_op);

    io_uring_prep_send(sqe, conn->fd, conn->out + conn->out_at, conn->out_len - conn->out_at, MSG_NOSIGNAL);
    conn->sending = true;
    conn->in_flight++;
}

static bool take_out(struct sl_loop_conn *conn)
{
    struct sl_loop *loop = conn->loop;

    if (!conn->out)
        conn->out = loop->n_spare_out ? loop->spare_out[--loop->n_spare_out] : malloc(SL_LOOP_SEND_BYTES);
    return conn->out;
}

/* What was in it is ciphertext. */
static void give_out(struct sl_loop_conn *conn)
{
    struct sl_loop *loop = conn->loop;

    if (conn->out && loop->n_spare_out < SL_LOOP_SPARE_OUT)
        loop->spare_out[loop->n_spare_out++] = conn->out;
    else
        free(conn->out);
    conn->out = NULL;
}

/* Without memory for what is to be sent, the next tick tries again. */
static void pump(struct sl_loop_conn *conn)
{
    if (!conn->control || conn->connecting || conn->sending || conn->send_failed || conn->ending)
        return;
    if (conn->out_at == conn->out_len) {
        conn->out_at = conn->out_len = 0;
        sl_control_drain(conn->control, NULL, 0); /* moves what is queued into TLS */
        if (sl_control_pending_out(conn->control) && take_out(conn))
            conn->out_len = sl_control_drain(conn->control, conn->out, SL_LOOP_SEND_BYTES);
        if (!conn->out_len)
            give_out(conn);
    }
    if (conn->out_len)
        arm_send(conn);
    else if (sl_control_wants_close(conn->control))
        finish(conn);
}

static void on_send(struct sl_loop *loop, void *owner, int res, uint32_t flags)
{
    struct sl_loop_conn *conn = owner;

    conn->in_flight--;
    conn->sending = false;
    if (res >= 0) {
        conn->out_at += (size_t)res;
        if (conn->out_at < conn->out_len && !conn->ending && conn->control)
            arm_send(conn);
        else
            pump(conn);
    } else if (!conn->ending && conn->control) {
        /* Why the peer went may still lie in the receive queue (a TLS alert, an Error): let the receive side
         * tell. */
        conn->send_failed = true;
        conn->give_up_ns = loop->now_ns + LINGER_MS * ms_ns;
        snprintf(conn->why, sizeof(conn->why), "the connection was lost: %s", strerror(-res));
        if (!conn->recv_armed)
            lose(conn, conn->why);
    }
}

static void receive(struct sl_loop_conn *conn, const uint8_t *bytes, size_t len)
{
    if (!conn->control || conn->ending)
        return;
    sl_control_feed(conn->control, bytes, len, conn->loop->now_ns);
    if (conn->listener && sl_tls_established(sl_control_tls(conn->control)))
        handshake_over(conn);
    if (conn->send_failed && sl_control_wants_close(conn->control))
        lose(conn, NULL);
    else
        pump(conn);
}

static void on_recv(struct sl_loop *loop, void *owner, int res, uint32_t flags)
{
    struct sl_loop_conn *conn = owner;

    if (!(flags & IORING_CQE_F_MORE)) {
        conn->recv_armed = false;
        conn->in_flight--;
    }
    if (flags & IORING_CQE_F_BUFFER) {
        unsigned buffer = flags >> IORING_CQE_BUFFER_SHIFT;

        if (res > 0)
            receive(conn, loop->buffers + (size_t)buffer * SL_LOOP_RECV_BYTES, (size_t)res);
        sl_loop_recycle(loop, buffer);
    }
    if (conn->ending)
        return;
    if (res == 0) {
        lose(conn, conn->send_failed ? conn->why : NULL);
    } else if (res < 0 && res != -ENOBUFS && res != -EAGAIN && res != -EINTR) {
        snprintf(conn->why, sizeof(conn->why), "the connection was lost: %s", strerror(-res));
        lose(conn, conn->why);
    } else if (!conn->recv_armed) {
        arm_recv(conn); /* buffers ran out, or the kernel ended the series */
    }
}

static void arm_recv(struct sl_loop_conn *conn)
{
    struct io_uring_sqe *sqe = sl_loop_sqe(conn->loop, &conn->recv_op);

    io_uring_prep_recv_multishot(sqe, conn->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = SL_LOOP_BUFFER_GROUP;
    conn->recv_armed = true;
    conn->in_flight++;
}

static struct sl_loop_conn *conn_create(struct sl_loop *loop, int fd)
{
    struct sl_loop_conn *conn = calloc(1, sizeof(*conn));

    if (!conn)
        return NULL;
    conn->loop = loop;
    conn->fd = fd;
    conn->recv_op = (struct sl_loop_op){on_recv, conn};
    conn->send_op = (struct sl_loop_op){on_send, conn};
    conn->next = loop->conns;
    conn->link = &loop->conns;
    if (conn->next)
        conn->next->link = &conn->next;
    loop->conns = conn;
    loop->n_conns++;
    return conn;
}

static void conn_free(struct sl_loop_conn *conn)
{
    if (conn->loop->ticking == conn)
        conn->loop->ticking = conn->next;
    *conn->link = conn->next;
    if (conn->next)
        conn->next->link = conn->link;
    conn->loop->n_conns--;
    if (conn->fd >= 0)
        close(conn->fd);
    give_out(conn);
    explicit_bzero(conn, sizeof(*conn));
    free(conn);
}

/* --- accepting --- */

static void accepted(struct sl_loop *loop, struct sl_loop_listener *l, int fd)
{
    struct sl_loop_conn *conn = loop->ending ? NULL : conn_create(loop, fd);
    int one = 1;

    if (!conn) {
        close(fd);
        return;
    }
    conn->remote = l->remote;
    sl_loop_format_address(&conn->remote, conn->peer, sizeof(conn->peer));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (sl_control_create(&l->config, l->tls, l->ops, l->app, loop->now_ns, &conn->control) != 0) {
        end(conn);
        return;
    }
    conn->listener = l;
    l->handshakes++;
    sl_control_set_transport(conn->control, conn);
    arm_recv(conn);
}

static void on_accept(struct sl_loop *loop, void *owner, int res, uint32_t flags)
{
    struct sl_loop_listener *l = owner;

    l->armed = false;
    if (res >= 0)
        accepted(loop, l, res);
    else if (res != -ECONNABORTED && res != -EINTR &&
             res != -EAGAIN) /* no file descriptors, say: no hot loop */
        l->pause_until_ns = loop->now_ns + ACCEPT_PAUSE_MS * ms_ns;
}

static void arm_accept(struct sl_loop *loop, struct sl_loop_listener *l)
{
    struct io_uring_sqe *sqe;

    if (l->armed || loop->ending || l->handshakes >= l->handshakes_max || loop->n_conns >= loop->max_conns ||
        loop->now_ns < l->pause_until_ns)
        return;
    l->remote_len = sizeof(l->remote);
    sqe = sl_loop_sqe(loop, &l->accept_op);
    io_uring_prep_accept(sqe, l->fd, (struct sockaddr *)&l->remote, &l->remote_len, SOCK_CLOEXEC);
    l->armed = true;
}

static int explain_listen(int err, const char *address, char *text, size_t cap)
{
    const char *port = strrchr(address, ':');

    if (err == -EADDRINUSE)
        snprintf(text, cap,
            "%s is taken by another program: stop it (`ss -ltnp 'sport = %s'` shows it) or choose another "
            "port",
            address, port);
    else if (err == -EADDRNOTAVAIL)
        snprintf(text, cap, "%s: this host has no such address (`ip address` lists them)", address);
    else if (err == -EACCES)
        snprintf(text, cap, "%s: not permitted; choose a port from 1024 on", address);
    else
        snprintf(text, cap, "cannot listen on %s: %s", address, strerror(-err));
    return err;
}

static int listen_socket(const struct sockaddr_storage *a, socklen_t len, uint16_t *port)
{
    struct sockaddr_storage bound;
    socklen_t bound_len = sizeof(bound);
    int one = 1, fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0), err;

    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(fd, (const struct sockaddr *)a, len) != 0 || listen(fd, BACKLOG) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &bound_len) != 0) {
        err = -errno;
        close(fd);
        return err;
    }
    *port = ntohs(((struct sockaddr_in *)&bound)->sin_port); /* at the same place in IPv6 */
    return fd;
}

int sl_loop_listen(struct sl_loop *loop, const char *address, uint32_t handshakes, struct sl_tls_ctx *tls,
    const struct sl_control_config *config, const struct sl_control_ops *ops, void *app, char *err,
    size_t err_cap)
{
    struct sl_loop_listener *l;
    struct sockaddr_storage a;
    socklen_t len;
    uint16_t port = 0;
    int status = sl_loop_parse_address(address, &a, &len, err, err_cap);

    if (status)
        return status;
    status = listen_socket(&a, len, &port);
    if (status < 0)
        return explain_listen(status, address, err, err_cap);
    l = calloc(1, sizeof(*l));
    if (!l) {
        close(status);
        return explain_listen(-ENOMEM, address, err, err_cap);
    }
    l->fd = status;
    l->handshakes_max = handshakes ? handshakes : 1;
    l->tls = tls;
    l->config = *config;
    l->ops = ops;
    l->app = app;
    l->accept_op = (struct sl_loop_op){on_accept, l};
    l->next = loop->listeners;
    loop->listeners = l;
    return port;
}

/* --- connecting --- */

static void explain_connect(struct sl_loop_conn *conn, int err)
{
    snprintf(conn->why, sizeof(conn->why), "cannot connect to %s: %s%s", conn->peer, strerror(-err),
        err == -ECONNREFUSED ? " (is sluice-edge running there?)" : "");
}

static void on_connect(struct sl_loop *loop, void *owner, int res, uint32_t flags)
{
    struct sl_loop_conn *conn = owner;

    conn->in_flight--;
    conn->connecting = false;
    conn->give_up_ns = 0;
    if (conn->ending)
        return;
    if (res < 0) {
        explain_connect(conn, res);
        lose(conn, conn->why);
        return;
    }
    arm_recv(conn);
    pump(conn);
}

/* Starts it, or leaves the reason in `why`, which the next tick tells. */
static void start_connect(
    struct sl_loop_conn *conn, const char *address, const struct sl_control_config *config)
{
    uint64_t limit_ns =
        config->handshake_timeout_ns ? config->handshake_timeout_ns : CONNECT_DEFAULT_S * second_ns;
    int one = 1;

    conn->connecting = true;
    if (sl_loop_parse_address(address, &conn->remote, &conn->remote_len, conn->why, sizeof(conn->why)) != 0)
        return;
    sl_loop_format_address(&conn->remote, conn->peer, sizeof(conn->peer));
    conn->fd = socket(conn->remote.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (conn->fd < 0) {
        explain_connect(conn, -errno);
        return;
    }
    setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    conn->give_up_ns = sl_loop_now_ns() + limit_ns;
    conn->connect_op = (struct sl_loop_op){on_connect, conn};
    io_uring_prep_connect(sl_loop_sqe(conn->loop, &conn->connect_op), conn->fd,
        (struct sockaddr *)&conn->remote, conn->remote_len);
    conn->in_flight++;
}

int sl_loop_connect(struct sl_loop *loop, const char *address, struct sl_tls_ctx *tls,
    const struct sl_control_config *config, const struct sl_control_ops *ops, void *app, void *user,
    struct sl_control **out)
{
    struct sl_loop_conn *conn;
    int err;

    *out = NULL;
    if (loop->ending)
        return -ESHUTDOWN;
    if (loop->n_conns >= loop->max_conns)
        return -EBUSY;
    conn = conn_create(loop, -1);
    if (!conn)
        return -ENOMEM;
    err = sl_control_create(config, tls, ops, app, sl_loop_now_ns(), &conn->control);
    if (err) {
        conn_free(conn);
        return err;
    }
    sl_control_set_user(conn->control, user);
    sl_control_set_transport(conn->control, conn);
    start_connect(conn, address, config);
    *out = conn->control;
    return 0;
}

/* --- the loop's part --- */

void sl_loop_flush(struct sl_loop *loop, struct sl_control *control)
{
    struct sl_loop_conn *conn = sl_control_transport(control);

    if (conn && !conn->dirty) {
        conn->dirty = true;
        conn->next_dirty = loop->dirty;
        loop->dirty = conn;
    }
}

void sl_loop_drop(struct sl_loop *loop, struct sl_control *control)
{
    struct sl_loop_conn *conn = sl_control_transport(control);

    if (conn) {
        conn->dropped = true;
        sl_loop_flush(loop, control);
    }
}

const char *sl_loop_peer(const struct sl_control *control)
{
    const struct sl_loop_conn *conn = sl_control_transport(control);

    return conn ? conn->peer : "";
}

static void pump_dirty(struct sl_loop *loop)
{
    struct sl_loop_conn *conn = loop->dirty, *next;

    loop->dirty = NULL; /* a callback inside of pump may start it anew */
    for (; conn; conn = next) {
        next = conn->next_dirty;
        conn->dirty = false;
        if (conn->dropped)
            lose(conn, "dropped");
        else
            pump(conn);
    }
}

static void free_ended(struct sl_loop *loop)
{
    struct sl_loop_conn **at = &loop->ended;

    while (*at) {
        struct sl_loop_conn *conn = *at;

        if (conn->in_flight || conn->dirty) { /* a dirty one is in that list, too: the next turn */
            at = &conn->next_ending;
            continue;
        }
        *at = conn->next_ending;
        conn_free(conn);
    }
}

void sl_loop_conns_turn(struct sl_loop *loop)
{
    pump_dirty(loop);
    free_ended(loop);
    for (struct sl_loop_listener *l = loop->listeners; l; l = l->next)
        arm_accept(loop, l);
}

/* Time-outs of one connection. */
static void tick(struct sl_loop_conn *conn)
{
    uint64_t now_ns = conn->loop->now_ns;

    if (conn->ending)
        return;
    if (conn->connecting && !conn->in_flight) { /* it could not even be started */
        lose(conn, conn->why);
        return;
    }
    if (conn->give_up_ns && now_ns >= conn->give_up_ns) {
        if (conn->connecting)
            snprintf(conn->why, sizeof(conn->why), "cannot connect to %s: no answer", conn->peer);
        lose(conn, conn->why[0] ? conn->why : NULL);
        return;
    }
    if (!conn->control || conn->connecting)
        return;
    if (sl_control_deadline(conn->control) <= now_ns)
        sl_control_tick(conn->control, now_ns);
    if (conn->sending && sl_control_wants_close(conn->control) && !conn->give_up_ns)
        conn->give_up_ns =
            now_ns + SL_CONTROL_CLOSE_TIMEOUT_S * second_ns; /* for a peer that does not read */
    pump(conn);
}

void sl_loop_conns_tick(struct sl_loop *loop)
{
    if (!loop->ticking)
        loop->ticking = loop->conns;
    for (unsigned n = 0; n < TICKED_A_TURN && loop->ticking; n++) {
        struct sl_loop_conn *conn = loop->ticking;
        loop->ticking = conn->next; /* none is freed here, but a callback may add one at the front */
        tick(conn);
    }
}

void sl_loop_conns_end(struct sl_loop *loop, const char *why)
{
    loop->ending = true; /* accepts and connects no more */
    for (struct sl_loop_conn *conn = loop->conns; conn; conn = conn->next)
        lose(conn, why);
}

void sl_loop_conns_free(struct sl_loop *loop)
{
    while (loop->conns)
        conn_free(loop->conns);
}
