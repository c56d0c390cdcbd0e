/* A file of records of one size, read and written by a loop's ring past the page cache (O_DIRECT), from and
 * to a few buffers of its own that are registered with the ring. What has no buffer or meets an operation on
 * the same record waits in the order in which it was asked for. Where the file system refuses O_DIRECT, or
 * the limit of locked memory the registration, the same operations go without it: sl_record_file_describe
 * says so.
 *
 * All calls but open and close come from the loop's thread; callbacks run there. */
#pragma once

#include "dataplane/io/uring/loop.h"

enum { SL_RECORD_ALIGN = 4096 }; /* of offsets, lengths and memory: what O_DIRECT asks for at most */

struct sl_record_file;

struct sl_record_file_stats {
    uint64_t reads, writes, bytes_read, bytes_written, syncs;
    uint64_t read_ns, write_ns; /* from the buffer's being there to the end, summed */
};

/* Opens `path`, and creates it where it is missing. record_bytes is rounded up to SL_RECORD_ALIGN. `buffers`
 * of that size each: the most operations at a time. Before the loop runs, or from its thread. -errno with
 * err. */
int sl_record_file_open(struct sl_loop *, const char *path, size_t record_bytes, unsigned buffers,
    struct sl_record_file **, char *err, size_t err_cap);
/* After sl_loop_free, or when nothing is under way. What still waits is forgotten: no callback comes. */
void sl_record_file_close(struct sl_record_file *);

/* Bytes [offset, offset + len) of a record, both multiples of SL_RECORD_ALIGN. `done` gets them for the
 * duration of the call; NULL with a status of -errno (-EIO: the file ends before). -ENOMEM, -EINVAL. */
typedef void (*sl_record_read_done)(void *app, void *op, const uint8_t *data, int status);
int sl_record_read(struct sl_record_file *, uint64_t record, size_t offset, size_t len, sl_record_read_done,
    void *app, void *op);
/* The same bytes are written: `fill` puts them into the buffer when there is one, now or later; `done` tells
 * the end. */
typedef void (*sl_record_fill)(void *app, void *op, uint8_t *data);
typedef void (*sl_record_write_done)(void *app, void *op, int status);
int sl_record_write(struct sl_record_file *, uint64_t record, size_t offset, size_t len, sl_record_fill,
    sl_record_write_done, void *app, void *op);
/* fdatasync: what was written before is on the disk at `done`. */
int sl_record_sync(struct sl_record_file *, sl_record_write_done, void *app, void *op);

void sl_record_file_stats(const struct sl_record_file *, struct sl_record_file_stats *);
uint32_t sl_record_file_pending(const struct sl_record_file *); /* operations not yet done */
/* "O_DIRECT, 8 registered buffers of 132 KiB", or what of it there is not, and why. */
void sl_record_file_describe(const struct sl_record_file *, char *text, size_t cap);
