/* One io_uring loop of one thread: control connections, timers, and files. Multishot accept and receive on a provided buffer
 * ring, SINGLE_ISSUER | DEFER_TASKRUN. Callbacks run on the loop's thread. */
#pragma once

#include "dataplane/control/peer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_loop;

/* -EPERM / -ENOSYS: io_uring is not permitted here (containers, sysctl kernel.io_uring_disabled): err says so and what to do. */
int sl_loop_create(uint32_t max_connections, struct sl_loop **, char *err, size_t err_cap);
void sl_loop_free(struct sl_loop *);
/* Runs until sl_loop_stop. `poll` (may be NULL) is called on every turn, and at least every poll_interval_ns. */
int sl_loop_run(struct sl_loop *, void (*poll)(void *app, uint64_t now_ns), void *app, uint64_t poll_interval_ns);
void sl_loop_stop(struct sl_loop *); /* from any thread or a signal handler */
uint64_t sl_loop_now_ns(void);       /* CLOCK_MONOTONIC */

/* Accepts control connections at "address:port" (port 0: any; the bound port is returned). At most `handshakes` unfinished ones
 * at a time (rules T16); others wait in the backlog. -EADDRINUSE etc. with err. */
int sl_loop_listen(struct sl_loop *, const char *address, uint32_t handshakes, struct sl_tls_ctx *, const struct sl_control_config *,
    const struct sl_control_ops *, void *app, char *err, size_t err_cap);
/* Opens one. Failure to connect comes as ops->closed. */
int sl_loop_connect(struct sl_loop *, const char *address, struct sl_tls_ctx *, const struct sl_control_config *,
    const struct sl_control_ops *, void *app, void *user, struct sl_control **);
/* Sends what sl_control_* queued outside of a callback (inside one it happens by itself). */
void sl_loop_flush(struct sl_loop *, struct sl_control *);

/* Writes a whole file: temporary name in the same directory, fsync, rename, fsync of the directory. `data` must live until `done`
 * (status 0 or -errno; on failure the old file stays and the temporary one is gone). */
int sl_loop_write_file(struct sl_loop *, const char *path, const void *data, size_t len,
    void (*done)(void *app, void *data, int status), void *app);
