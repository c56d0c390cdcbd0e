/* What the files of the loop share. Private to dataplane/io/uring. */
#pragma once

#include "dataplane/io/uring/loop.h"

#include <liburing.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <sys/socket.h>

enum {
    /* So that two requests of every one fit the largest submission ring, 32,768: before the loop runs it
       cannot be emptied. From then on it is, as often as need be. */
    SL_LOOP_CONNECTIONS_MAX = 16000,
    SL_LOOP_WRITES_MAX = 64,
    SL_LOOP_SEND_BYTES = 64 * 1024,
    SL_LOOP_SPARE_OUT = 16,
    SL_LOOP_RECV_BYTES = 16 * 1024,
    SL_LOOP_BUFFER_GROUP = 0,
};

/* A request in flight: what its completion calls. */
struct sl_loop_op {
    void (*done)(struct sl_loop *, void *owner, int res, uint32_t flags);
    void *owner;
};

struct sl_loop_listener {
    struct sl_loop_listener *next;
    int fd;
    bool armed;
    uint32_t handshakes, handshakes_max;
    uint64_t pause_until_ns; /* after EMFILE and the like */
    struct sl_loop_op accept_op;
    struct sockaddr_storage remote;
    socklen_t remote_len;
    struct sl_tls_ctx *tls;
    struct sl_control_config config;
    const struct sl_control_ops *ops;
    void *app;
};

/* Life: (connecting) -> open: `control` is there -> lingering: control is gone, what the peer still sends is
 * thrown away, so that our last words are not lost to a reset -> ending: cancelled, waiting for `in_flight`
 * to fall to 0 -> freed at the turn's end. */
struct sl_loop_conn {
    struct sl_loop_conn *next, **link; /* of loop->conns */
    struct sl_loop_conn *next_dirty, *next_ending;
    struct sl_loop *loop;
    struct sl_loop_listener *listener; /* whose handshake it still is, or NULL */
    struct sl_control *control;
    int fd;
    unsigned in_flight;
    bool connecting, recv_armed, sending, send_failed, ending, dirty, dropped;
    uint64_t give_up_ns; /* of connecting, lingering, or of a failed send; 0: none */
    struct sl_loop_op recv_op, send_op, connect_op;
    struct sockaddr_storage remote;
    socklen_t remote_len;
    char peer[80], why[160]; /* text of the address; a failure found before the loop could tell it */
    size_t out_at, out_len;
    uint8_t *out; /* SL_LOOP_SEND_BYTES while there is something to send: an idle connection has none */
};

struct sl_loop_write; /* file.c */

struct sl_loop {
    struct io_uring ring;
    struct io_uring_buf_ring *buffer_ring;
    uint8_t *buffers;
    unsigned n_buffers;
    size_t buffer_ring_bytes;
    bool enabled; /* the ring belongs to `thread` */
    pid_t thread;
    int stop_fd; /* eventfd: from a signal handler too */
    atomic_int stop;
    uint64_t stop_value;
    struct sl_loop_op stop_op;

    uint32_t max_conns, n_conns;
    struct sl_loop_conn *conns, *dirty, *ended; /* all; to be pumped; ending, waiting to be freed */
    struct sl_loop_conn *ticking; /* whose time-outs are looked at next; NULL: the round is over */
    bool ending;
    uint8_t *spare_out[SL_LOOP_SPARE_OUT]; /* send buffers that nobody uses */
    unsigned n_spare_out;
    struct sl_loop_listener *listeners;
    struct sl_loop_write *writes;
    uint32_t n_writes, n_record_ops; /* of files (file.c), of record files (record_file.c) */
    uint64_t now_ns, next_tick_ns;
};

/* Never NULL: the submission ring has room for every connection's and every write's requests of a turn. */
struct io_uring_sqe *sl_loop_sqe(struct sl_loop *, struct sl_loop_op *);
void sl_loop_recycle(struct sl_loop *, unsigned buffer);
/* The connections' part of a turn: before the wait, and every tick. */
void sl_loop_conns_turn(struct sl_loop *);
/* Time-outs, of a few connections: a turn must not wait for thousands. */
void sl_loop_conns_tick(struct sl_loop *);
/* Tells every application and starts to end what is open. */
void sl_loop_conns_end(struct sl_loop *, const char *why);
/* Frees what is left when nothing can be in flight any more. */
void sl_loop_conns_free(struct sl_loop *);
void sl_loop_writes_free(struct sl_loop *);

/* Why a ring cannot be had, for people; returns err. */
int sl_loop_explain_setup(int err, char *text, size_t cap);

enum { SL_LOOP_ADDRESS_TEXT = 128 };
/* "1.2.3.4:5" or "[::1]:5". 0 or -EINVAL with err. */
int sl_loop_parse_address(
    const char *text, struct sockaddr_storage *, socklen_t *, char *err, size_t err_cap);
void sl_loop_format_address(const struct sockaddr_storage *, char *out, size_t cap);
