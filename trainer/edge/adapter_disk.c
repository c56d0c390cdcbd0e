#include "trainer/edge/adapter_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WHY_BYTES = 256 };

struct sl_adapter_disk {
    struct sl_adapter_disk_config config;
    struct sl_record_file *file;
    struct sl_adapter_store *store;
    size_t edge_bytes, all_bytes; /* of a record's edge part; of both */
};

int sl_adapter_disk_open(
    const struct sl_adapter_disk_config *config, struct sl_adapter_disk **out, char *err, size_t err_cap)
{
    *out = NULL;
    struct sl_adapter_disk *d = calloc(1, sizeof *d);
    if (!d) {
        snprintf(err, err_cap, "not enough memory");
        return -ENOMEM;
    }
    d->config = *config;
    d->edge_bytes = sl_adapter_record_edge_bytes(&config->shape);
    d->all_bytes = sl_adapter_record_bytes(&config->shape);
    int status = sl_record_file_open(
        config->loop, config->path, d->all_bytes, config->buffers, &d->file, err, err_cap);
    if (status) {
        free(d);
        return status;
    }
    *out = d;
    return 0;
}

void sl_adapter_disk_close(struct sl_adapter_disk *d)
{
    if (d)
        sl_record_file_close(d->file);
    free(d);
}

struct sl_record_file *sl_adapter_disk_file(struct sl_adapter_disk *d)
{
    return d->file;
}

static void done(struct sl_adapter_disk *d, struct sl_disk_op *op, int status, const char *why)
{
    char text[WHY_BYTES] = "";
    if (status && why && why[0])
        snprintf(text, sizeof text, "%s", why);
    else if (status)
        snprintf(text, sizeof text, "%s: cannot %s the adapter of %s: %s%s", d->config.path,
            op->kind == SL_DISK_SAVE ? "write" : "read", op->head.id, strerror(-status),
            status == -ENOSPC ? "; free some disk space and start the edge again" : "");
    op->done_ns = sl_loop_now_ns();
    sl_adapter_store_done(d->store, op, status, text);
}

static void loaded(void *app, void *what, const uint8_t *data, int status)
{
    struct sl_adapter_disk *d = app;
    struct sl_disk_op *op = what;
    char why[WHY_BYTES] = "";
    if (!status)
        status = sl_adapter_record_decode(&d->config.shape, op->head.id, data, op->frame->adapter,
            op->frame->moments, &op->head, why, sizeof why);
    done(d, op, status, why);
}

static void carry_out(struct sl_adapter_disk *d, struct sl_disk_op *op);

/* What was in the frame is out of it: the load that waits for that may come in. */
static void fill(void *app, void *what, uint8_t *data)
{
    struct sl_adapter_disk *d = app;
    struct sl_disk_op *op = what, *next = op->frame->waiting;
    sl_adapter_record_encode(&d->config.shape, &op->head, op->frame->adapter, op->frame->moments, data);
    if (op->front)
        sl_adapter_record_encode_front(&d->config.shape, &op->head, op->front, data + d->edge_bytes);
    op->frame->unsaved = false;
    op->frame->waiting = NULL;
    if (next)
        carry_out(d, next);
}

static void saved(void *app, void *what, int status)
{
    done(app, what, status, NULL);
}

static void fetched(void *app, void *what, const uint8_t *data, int status)
{
    struct sl_adapter_disk *d = app;
    char why[WHY_BYTES] = "";
    if (status)
        d->config.not_fetched(d->config.app, what, status);
    else
        status = d->config.fetched(d->config.app, what, data, why, sizeof why);
    done(d, what, status, why);
}

static void carry_out(struct sl_adapter_disk *d, struct sl_disk_op *op)
{
    int status = 0;
    switch (op->kind) {
    case SL_DISK_LOAD:
        if (op->frame->unsaved) {
            op->frame->waiting = op;
        } else if (op->place == SL_PLACE_NONE) {
            sl_adapter_store_make_initial(d->store, op->frame);
            done(d, op, 0, NULL);
        } else {
            status = sl_record_read(d->file, op->place, 0, d->edge_bytes, loaded, d, op);
        }
        break;
    case SL_DISK_SAVE:
        op->frame->unsaved = true;
        status = sl_record_write(
            d->file, op->place, 0, op->front ? d->all_bytes : d->edge_bytes, fill, saved, d, op);
        break;
    case SL_DISK_FETCH:
        if (op->place == SL_PLACE_NONE)
            fetched(d, op, NULL, 0);
        else
            status = sl_record_read(d->file, op->place, 0, d->all_bytes, fetched, d, op);
        break;
    }
    if (status)
        done(d, op, status, NULL);
}

void sl_adapter_disk_poll(struct sl_adapter_disk *d, struct sl_adapter_store *store)
{
    struct sl_disk_op *op;
    d->store = store;
    while ((op = sl_adapter_store_take(store)))
        carry_out(d, op);
}
