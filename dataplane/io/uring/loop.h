/* One io_uring loop of one thread: control connections, timers, and files. Multishot receive on a provided
 * buffer ring, SINGLE_ISSUER | DEFER_TASKRUN (Linux 6.1). Accepts are single shots, so that the handshake
 * limit is exact: a multishot accept would go on taking strangers off the backlog. The loop's thread is the
 * one that first calls sl_loop_run; callbacks run there, and after that all calls but sl_loop_stop must come
 * from there.
 *
 * The application frees a `sl_control` itself, in its ops->closed or later; the loop does not touch it after
 * that call. */
#pragma once

#include "dataplane/control/peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_loop;

/* max_connections: 1..16000, connected ones and those that connect, together.
 * -EPERM / -ENOSYS: io_uring is not permitted here (containers, sysctl kernel.io_uring_disabled): err says so
 * and what to do. */
int sl_loop_create(uint32_t max_connections, struct sl_loop **, char *err, size_t err_cap);
/* Waits for file writes, then ends what is left: ops->closed comes for every connection. Not inside a
 * callback. From the loop's thread; or from another when that thread has ended (a write that it cut short
 * ends with -ECANCELED). */
void sl_loop_free(struct sl_loop *);
/* Runs until sl_loop_stop; may be called again. 0 or -errno. Time-outs are looked at every 100 ms. `poll`
 * (may be NULL) is called on every turn, and at least every poll_interval_ns. */
int sl_loop_run(
    struct sl_loop *, void (*poll)(void *app, uint64_t now_ns), void *app, uint64_t poll_interval_ns);
void sl_loop_stop(struct sl_loop *);                  /* from any thread or a signal handler */
void sl_loop_wake(struct sl_loop *);                  /* likewise: the loop takes a turn now */
uint64_t sl_loop_now_ns(void);                        /* CLOCK_MONOTONIC */
uint32_t sl_loop_connections(const struct sl_loop *); /* open, connecting or not yet wholly closed */
uint32_t sl_loop_writes(const struct sl_loop *); /* files being written, and operations on record files */
/* "address:port" of the other end, for messages. Only before or in ops->closed. */
const char *sl_loop_peer(const struct sl_control *);

/* Accepts control connections at "127.0.0.1:7443" or "[::1]:7443" (port 0: any; the bound port is returned).
 * At most `handshakes` unfinished ones at a time (rules T16); others wait in the backlog, as they do while
 * max_connections are there. -EADDRINUSE etc. with err. */
int sl_loop_listen(struct sl_loop *, const char *address, uint32_t handshakes, struct sl_tls_ctx *,
    const struct sl_control_config *, const struct sl_control_ops *, void *app, char *err, size_t err_cap);
/* Opens one. Failure to connect, a wrong address included, comes as ops->closed from a later turn of the
 * loop. -ENOMEM; -EBUSY: max_connections are there; -ESHUTDOWN: in sl_loop_free. */
int sl_loop_connect(struct sl_loop *, const char *address, struct sl_tls_ctx *,
    const struct sl_control_config *, const struct sl_control_ops *, void *app, void *user,
    struct sl_control **);
/* Sends what sl_control_* queued: needed outside of that connection's own callbacks. It takes effect in the
 * loop's next turn. */
void sl_loop_flush(struct sl_loop *, struct sl_control *);

/* Ends a connection without a goodbye, as when its process dies: ops->closed comes in the loop's next turn.
 */
void sl_loop_drop(struct sl_loop *, struct sl_control *);

/* Writes a whole file: temporary name in the same directory, fsync, rename, fsync of the directory. `data`
 * must live until `done` (status 0 or -errno; on failure the old file stays and the temporary one is gone).
 * -EBUSY: the same file is being written, or 64 others are; -EINVAL: no file name. */
int sl_loop_write_file(struct sl_loop *, const char *path, const void *data, size_t len,
    void (*done)(void *app, void *data, int status), void *app);
