/* A file is replaced whole or not at all: temporary file, fsync, rename, fsync of the directory, step by step
 * through the ring. */
#include "dataplane/io/uring/loop_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WRITE_MAX = 1 << 30, FILE_MODE = 0644 };

enum step {
    OPEN, /* the temporary file */
    WRITE,
    SYNC,
    CLOSE,
    RENAME,
    OPEN_DIR,
    SYNC_DIR,
    CLOSE_DIR,
    /* after a failure */
    CLOSE_FAILED,
    UNLINK,
};

struct sl_loop_write {
    struct sl_loop_write *next;
    struct sl_loop_op op;
    enum step step;
    int fd, status;
    const uint8_t *data;
    size_t len, at;
    void (*done)(void *app, void *data, int status);
    void *app;
    char *path, *temporary, *dir;
};

static void write_free(struct sl_loop_write *w)
{
    free(w->path);
    free(w->temporary);
    free(w->dir);
    free(w);
}

static void complete(struct sl_loop *loop, struct sl_loop_write *w)
{
    struct sl_loop_write **at = &loop->writes;

    while (*at != w)
        at = &(*at)->next;
    *at = w->next;
    loop->n_writes--;
    w->done(w->app, (void *)w->data, w->status);
    write_free(w);
}

static void submit(struct sl_loop *loop, struct sl_loop_write *w)
{
    struct io_uring_sqe *sqe = sl_loop_sqe(loop, &w->op);
    size_t left = w->len - w->at;

    switch (w->step) {
    case OPEN:
        io_uring_prep_openat(
            sqe, AT_FDCWD, w->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
        break;
    case WRITE:
        io_uring_prep_write(
            sqe, w->fd, w->data + w->at, (unsigned)(left < WRITE_MAX ? left : WRITE_MAX), w->at);
        break;
    case SYNC:
    case SYNC_DIR:
        io_uring_prep_fsync(sqe, w->fd, 0);
        break;
    case CLOSE:
    case CLOSE_DIR:
    case CLOSE_FAILED:
        io_uring_prep_close(sqe, w->fd);
        break;
    case RENAME:
        io_uring_prep_renameat(sqe, AT_FDCWD, w->temporary, AT_FDCWD, w->path, 0);
        break;
    case OPEN_DIR:
        io_uring_prep_openat(sqe, AT_FDCWD, w->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
        break;
    case UNLINK:
        io_uring_prep_unlinkat(sqe, AT_FDCWD, w->temporary, 0);
        break;
    }
}

/* The step after one that failed; false: there is none. The new file stands once it is renamed. */
static bool after_failure(struct sl_loop_write *w, int err)
{
    if (!w->status)
        w->status = err;
    switch (w->step) {
    case WRITE:
    case SYNC:
        w->step = CLOSE_FAILED;
        return true;
    case CLOSE:
    case RENAME:
    case CLOSE_FAILED:
        w->step = UNLINK;
        return true;
    case SYNC_DIR:
        w->step = CLOSE_DIR;
        return true;
    default: /* OPEN: there is no file; OPEN_DIR, CLOSE_DIR, UNLINK: nothing left to undo */
        return false;
    }
}

static bool after_success(struct sl_loop_write *w, int res)
{
    switch (w->step) {
    case OPEN:
        w->fd = res;
        w->step = w->len ? WRITE : SYNC;
        return true;
    case WRITE:
        w->at += (size_t)res;
        if (w->at == w->len)
            w->step = SYNC;
        return true;
    case OPEN_DIR:
        w->fd = res;
        w->step = SYNC_DIR;
        return true;
    case CLOSE_FAILED:
        w->step = UNLINK;
        return true;
    case CLOSE_DIR:
    case UNLINK:
        return false;
    default: /* SYNC, CLOSE, RENAME, SYNC_DIR */
        w->step++;
        return true;
    }
}

static void on_step(struct sl_loop *loop, void *owner, int res, uint32_t flags)
{
    struct sl_loop_write *w = owner;
    bool more;

    if (res == -EINTR || res == -EAGAIN)
        more = true;
    else if (res < 0 || (w->step == WRITE && res == 0))
        more = after_failure(w, res < 0 ? res : -ENOSPC);
    else
        more = after_success(w, res);
    if (more)
        submit(loop, w);
    else
        complete(loop, w);
}

static bool names(struct sl_loop_write *w, const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    int dir_len = slash ? (int)(slash - path) : 0;

    w->path = strdup(path);
    if (asprintf(&w->temporary, "%.*s.%s.new", slash ? dir_len + 1 : 0, path, name) < 0)
        w->temporary = NULL;
    w->dir = slash ? strndup(path, dir_len ? (size_t)dir_len : 1) : strdup(".");
    return w->path && w->temporary && w->dir;
}

int sl_loop_write_file(struct sl_loop *loop, const char *path, const void *data, size_t len,
    void (*done)(void *app, void *data, int status), void *app)
{
    size_t path_len = strlen(path);
    struct sl_loop_write *w;

    if (!path_len || path[path_len - 1] == '/')
        return -EINVAL;
    for (w = loop->writes; w; w = w->next)
        if (strcmp(w->path, path) == 0)
            return -EBUSY;
    if (loop->n_writes >= SL_LOOP_WRITES_MAX)
        return -EBUSY;
    w = calloc(1, sizeof(*w));
    if (!w || !names(w, path)) {
        if (w)
            write_free(w);
        return -ENOMEM;
    }
    w->op = (struct sl_loop_op){on_step, w};
    w->data = data;
    w->len = len;
    w->done = done;
    w->app = app;
    w->next = loop->writes;
    loop->writes = w;
    loop->n_writes++;
    submit(loop, w);
    return 0;
}

void sl_loop_writes_free(struct sl_loop *loop)
{
    while (loop->writes) {
        loop->writes->status = -ECANCELED;
        complete(loop, loop->writes);
    }
}
