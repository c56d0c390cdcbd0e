/* Carries out what a store of personal adapters (pipeline/adapter_store.h) wants of the disk: a file of
 * records in a loop's ring. Records are encoded, decoded and checked here, on the loop's thread, so that the
 * trainer's does not touch them again. */
#pragma once

#include "dataplane/io/uring/record_file.h"
#include "trainer/pipeline/adapter_store.h"

struct sl_adapter_disk;
struct sl_adapter_disk_config {
    struct sl_loop *loop;
    const char *path;
    struct sl_adapter_record_shape shape;
    unsigned buffers; /* operations at a time */
    /* A FETCH is done: `record` is the whole of it, NULL where the device has the initial adapter. Returns 0,
     * or -errno with why: that is how the operation ends. */
    int (*fetched)(void *app, const struct sl_disk_op *, const uint8_t *record, char *why, size_t why_cap);
    /* It cannot be read; the operation ends with that. */
    void (*not_fetched)(void *app, const struct sl_disk_op *, int status);
    void *app;
};

/* Before the loop runs, or from its thread, as everything else here. -errno with err. */
int sl_adapter_disk_open(
    const struct sl_adapter_disk_config *, struct sl_adapter_disk **, char *err, size_t err_cap);
void sl_adapter_disk_close(struct sl_adapter_disk *); /* after sl_loop_free */
/* Takes what the store asks for, and begins with it. */
void sl_adapter_disk_poll(struct sl_adapter_disk *, struct sl_adapter_store *);
struct sl_record_file *sl_adapter_disk_file(struct sl_adapter_disk *);
