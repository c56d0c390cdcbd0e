/* Operations wait in one list, in order; a pass over it starts what has a buffer and no elder operation on
 * its record. There are a few at a time, so the list is short. */
#include "dataplane/io/uring/record_file.h"

#include "dataplane/io/uring/loop_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { RECORD_FILE_MODE = 0600, NO_BUFFER = -1 };

enum record_kind { RECORD_READ, RECORD_WRITE, RECORD_SYNC };

struct record_op {
    struct record_op *next;
    struct sl_record_file *file;
    struct sl_loop_op op;
    enum record_kind kind;
    bool started;
    uint64_t record, from_ns;
    size_t offset, len, at;
    int buffer;
    sl_record_fill fill;
    sl_record_read_done read_done;
    sl_record_write_done write_done;
    void *app, *what;
};

struct sl_record_file {
    struct sl_loop *loop;
    int fd, direct_status, registered_status; /* 0: in use; else why not */
    size_t record_bytes;
    unsigned n_buffers, n_free;
    uint8_t *memory;
    unsigned *unused;
    struct record_op *first, **last;
    uint32_t pending;
    struct sl_record_file_stats stats;
};

static size_t round_up(size_t n)
{
    return (n + SL_RECORD_ALIGN - 1) / SL_RECORD_ALIGN * SL_RECORD_ALIGN;
}

static uint8_t *buffer_at(const struct sl_record_file *f, int buffer)
{
    return f->memory + (size_t)buffer * f->record_bytes;
}

/* A file system that has no O_DIRECT says so when the file is opened, or at the first operation. */
static int open_file(struct sl_record_file *f, const char *path)
{
    const int flags = O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW;

    f->fd = open(path, flags | O_DIRECT, RECORD_FILE_MODE);
    if (f->fd < 0 && errno == EINVAL) {
        f->direct_status = -EINVAL;
        f->fd = open(path, flags, RECORD_FILE_MODE);
    }
    return f->fd < 0 ? -errno : 0;
}

static void register_buffers(struct sl_record_file *f)
{
    struct iovec *iov = calloc(f->n_buffers, sizeof(*iov));

    f->registered_status = -ENOMEM;
    if (!iov)
        return;
    for (unsigned i = 0; i < f->n_buffers; i++)
        iov[i] = (struct iovec){buffer_at(f, (int)i), f->record_bytes};
    f->registered_status = io_uring_register_buffers(&f->loop->ring, iov, f->n_buffers);
    free(iov);
}

int sl_record_file_open(struct sl_loop *loop, const char *path, size_t record_bytes, unsigned buffers,
    struct sl_record_file **out, char *err, size_t err_cap)
{
    struct sl_record_file *f = calloc(1, sizeof(*f));
    int status = -ENOMEM;

    *out = NULL;
    if (f) {
        f->fd = -1;
        f->loop = loop;
        f->record_bytes = round_up(record_bytes);
        f->n_buffers = f->n_free = buffers;
        f->last = &f->first;
        f->memory = aligned_alloc(SL_RECORD_ALIGN, buffers * f->record_bytes);
        f->unused = calloc(buffers, sizeof(*f->unused));
        status = f->memory && f->unused ? open_file(f, path) : -ENOMEM;
    }
    if (status) {
        snprintf(err, err_cap, "%s: cannot open it: %s", path, strerror(-status));
        sl_record_file_close(f);
        return status;
    }
    memset(f->memory, 0, buffers * f->record_bytes); /* what is written beside a record's own bytes */
    for (unsigned i = 0; i < buffers; i++)
        f->unused[i] = buffers - 1 - i;
    register_buffers(f);
    *out = f;
    return 0;
}

void sl_record_file_close(struct sl_record_file *f)
{
    if (!f)
        return;
    while (f->first) {
        struct record_op *op = f->first;
        f->first = op->next;
        free(op);
    }
    if (f->fd >= 0)
        close(f->fd);
    free(f->memory);
    free(f->unused);
    free(f);
}

static void start_ready(struct sl_record_file *f);

static void submit(struct sl_record_file *f, struct record_op *op)
{
    struct io_uring_sqe *sqe = sl_loop_sqe(f->loop, &op->op);
    uint8_t *data = op->kind == RECORD_SYNC ? NULL : buffer_at(f, op->buffer) + op->at;
    uint64_t at = op->record * f->record_bytes + op->offset + op->at;
    unsigned left = (unsigned)(op->len - op->at);
    bool fixed = f->registered_status == 0;

    if (op->kind == RECORD_SYNC)
        io_uring_prep_fsync(sqe, f->fd, IORING_FSYNC_DATASYNC);
    else if (op->kind == RECORD_READ && fixed)
        io_uring_prep_read_fixed(sqe, f->fd, data, left, at, op->buffer);
    else if (op->kind == RECORD_READ)
        io_uring_prep_read(sqe, f->fd, data, left, at);
    else if (fixed)
        io_uring_prep_write_fixed(sqe, f->fd, data, left, at, op->buffer);
    else
        io_uring_prep_write(sqe, f->fd, data, left, at);
    io_uring_sqe_set_data(sqe, &op->op);
}

static void unlink_op(struct sl_record_file *f, struct record_op *op)
{
    struct record_op **at = &f->first;

    while (*at != op)
        at = &(*at)->next;
    *at = op->next;
    if (f->last == &op->next)
        f->last = at;
    f->pending--;
    f->loop->n_record_ops--;
}

static void finish(struct sl_record_file *f, struct record_op *op, int status)
{
    uint64_t ns = sl_loop_now_ns() - op->from_ns;

    unlink_op(f, op);
    switch (op->kind) {
    case RECORD_READ:
        f->stats.reads++;
        f->stats.bytes_read += op->len;
        f->stats.read_ns += ns;
        op->read_done(op->app, op->what, status ? NULL : buffer_at(f, op->buffer), status);
        break;
    case RECORD_WRITE:
        f->stats.writes++;
        f->stats.bytes_written += op->len;
        f->stats.write_ns += ns;
        op->write_done(op->app, op->what, status);
        break;
    case RECORD_SYNC:
        f->stats.syncs++;
        op->write_done(op->app, op->what, status);
        break;
    }
    if (op->buffer != NO_BUFFER)
        f->unused[f->n_free++] = (unsigned)op->buffer;
    free(op);
    start_ready(f);
}

static bool without_direct(struct sl_record_file *f)
{
    int flags = fcntl(f->fd, F_GETFL);

    if (f->direct_status || flags < 0 || fcntl(f->fd, F_SETFL, flags & ~O_DIRECT))
        return false;
    f->direct_status = -EINVAL;
    return true;
}

static void on_op(struct sl_loop *loop, void *owner, int res, uint32_t flags)
{
    struct record_op *op = owner;
    struct sl_record_file *f = op->file;

    if (res == -EINTR || res == -EAGAIN || (res == -EINVAL && op->kind != RECORD_SYNC && without_direct(f))) {
        submit(f, op);
        return;
    }
    if (op->kind != RECORD_SYNC && res > 0) {
        op->at += (size_t)res;
        /* O_DIRECT goes on at an aligned place only. */
        op->at = op->at == op->len ? op->at : op->at / SL_RECORD_ALIGN * SL_RECORD_ALIGN;
        if (op->at < op->len && res >= SL_RECORD_ALIGN) {
            submit(f, op);
            return;
        }
        res = op->at == op->len ? 0 : -EIO;
    } else if (op->kind != RECORD_SYNC && res == 0) {
        res = op->kind == RECORD_WRITE ? -ENOSPC : -EIO;
    }
    finish(f, op, res);
}

/* An elder operation on the same record, or for a sync any elder one, has to end first. */
static bool must_wait(const struct sl_record_file *f, const struct record_op *op)
{
    for (const struct record_op *o = f->first; o != op; o = o->next)
        if (op->kind == RECORD_SYNC || (o->kind != RECORD_SYNC && o->record == op->record))
            return true;
    return false;
}

static void start_ready(struct sl_record_file *f)
{
    struct record_op *next;

    for (struct record_op *op = f->first; op; op = next) {
        next = op->next;
        if (op->started || must_wait(f, op) || (op->kind != RECORD_SYNC && !f->n_free))
            continue;
        op->started = true;
        op->from_ns = sl_loop_now_ns();
        if (op->kind != RECORD_SYNC)
            op->buffer = (int)f->unused[--f->n_free];
        if (op->kind == RECORD_WRITE)
            op->fill(op->app, op->what, buffer_at(f, op->buffer));
        submit(f, op);
    }
}

static struct record_op *add_op(struct sl_record_file *f, enum record_kind kind, uint64_t record,
    size_t offset, size_t len, void *app, void *what)
{
    struct record_op *op = calloc(1, sizeof(*op));

    if (!op)
        return NULL;
    *op = (struct record_op){.file = f,
        .op = {on_op, op},
        .kind = kind,
        .record = record,
        .offset = offset,
        .len = len,
        .buffer = NO_BUFFER,
        .app = app,
        .what = what};
    *f->last = op;
    f->last = &op->next;
    f->pending++;
    f->loop->n_record_ops++; /* the loop's end waits for it as for its files */
    return op;
}

static bool wrong_part(const struct sl_record_file *f, size_t offset, size_t len)
{
    return offset % SL_RECORD_ALIGN || len % SL_RECORD_ALIGN || len == 0 || offset > f->record_bytes ||
           len > f->record_bytes - offset;
}

int sl_record_read(struct sl_record_file *f, uint64_t record, size_t offset, size_t len,
    sl_record_read_done done, void *app, void *what)
{
    if (wrong_part(f, offset, len))
        return -EINVAL;
    struct record_op *op = add_op(f, RECORD_READ, record, offset, len, app, what);
    if (!op)
        return -ENOMEM;
    op->read_done = done;
    start_ready(f);
    return 0;
}

int sl_record_write(struct sl_record_file *f, uint64_t record, size_t offset, size_t len, sl_record_fill fill,
    sl_record_write_done done, void *app, void *what)
{
    if (wrong_part(f, offset, len))
        return -EINVAL;
    struct record_op *op = add_op(f, RECORD_WRITE, record, offset, len, app, what);
    if (!op)
        return -ENOMEM;
    op->fill = fill;
    op->write_done = done;
    start_ready(f);
    return 0;
}

int sl_record_sync(struct sl_record_file *f, sl_record_write_done done, void *app, void *what)
{
    struct record_op *op = add_op(f, RECORD_SYNC, 0, 0, 0, app, what);

    if (!op)
        return -ENOMEM;
    op->write_done = done;
    start_ready(f);
    return 0;
}

void sl_record_file_stats(const struct sl_record_file *f, struct sl_record_file_stats *s)
{
    *s = f->stats;
}

uint32_t sl_record_file_pending(const struct sl_record_file *f)
{
    return f->pending;
}

void sl_record_file_describe(const struct sl_record_file *f, char *text, size_t cap)
{
    int n = snprintf(text, cap, "%s, %u buffers of %zu KiB %s",
        f->direct_status ? "through the page cache (the file system has no O_DIRECT)" : "O_DIRECT",
        f->n_buffers, f->record_bytes / 1024, f->registered_status ? "not registered: " : "registered");

    if (f->registered_status && n > 0 && (size_t)n < cap)
        snprintf(text + n, cap - (size_t)n, "%s", strerror(-f->registered_status));
}
