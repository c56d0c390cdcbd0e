/* Personal adapters on the control thread: what the trainer's store wants of the disk, what devices are told
 * and sent, and every device's adapter for people at the end (rules L3, T12).
 *
 *   trainer --operations--> [adapters.bin, by the loop's ring] --done--> trainer
 *
 * Records are encoded, decoded and checked here, so that the trainer's thread does not touch them again. */
#include "trainer/edge/edge.h"

#include "trainer/model/peft.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a FETCH is for. */
enum { FETCH_PULL = 1, FETCH_EXPORT = 2 };
enum { WHY_BYTES = 256, RECORD_BUFFERS = 8 };

/* ------------------------------------------------------------------------------------------------- bring-up
 */

uint32_t edge_resident(const struct edge *e)
{
    const struct sl_experiment *x = e->x;
    struct sl_adapter_store_config c = {
        .model = e->shape, .lora = e->lora, .optim = e->optim, .first = e->min_cut};
    if (!e->personal)
        return 0;
    if (x->edge.adapters.resident)
        return x->edge.adapters.resident < e->max_devices ? x->edge.adapters.resident : e->max_devices;
    uint64_t fit = EDGE_RESIDENT_BYTES / sl_adapter_store_frame_bytes(&c);
    if (fit < EDGE_RESIDENT_MIN)
        fit = EDGE_RESIDENT_MIN;
    return x->training.deterministic || fit > x->n_devices ? x->n_devices : (uint32_t)fit;
}

/* A file that no checkpoint speaks of holds nothing of use. */
int edge_open_records(struct edge *e)
{
    char path[SL_PATH_BYTES + 32], text[200];
    if (!e->personal)
        return 0;
    e->record_shape = (struct sl_adapter_record_shape){.n_layers = e->shape->n_layers,
        .first = e->min_cut,
        .max_cut = e->max_cut,
        .block = e->block,
        .moments = e->optim.kind == SL_ADAMW};
    snprintf(path, sizeof path, "%s/adapters.bin", e->options.run);
    if (!e->resumed)
        unlink(path);
    int status = sl_record_file_open(e->loop, path, sl_adapter_record_bytes(&e->record_shape), RECORD_BUFFERS,
        &e->records, e->err, sizeof e->err);
    if (status)
        return status;
    sl_record_file_describe(e->records, text, sizeof text);
    edge_say(e, "personal adapters: %u in memory, the others in adapters.bin: %s", edge_resident(e), text);
    return 0;
}

void edge_close_records(struct edge *e)
{
    sl_record_file_close(e->records);
    sl_adapter_free(e->export.adapter);
    for (uint32_t i = 0; e->export.moments && i < e->shape->n_layers - e->min_cut; i++)
        sl_moments_free(&e->export.moments[i]);
    free(e->export.moments);
    free(e->export.config);
    free(e->export.weights);
}

/* ------------------------------------------------------------------------------------------------ the disk
 */

static void done(struct edge *e, struct sl_disk_op *op, int status, const char *why)
{
    char text[WHY_BYTES] = "";
    if (status && why)
        snprintf(text, sizeof text, "%s", why);
    else if (status)
        snprintf(text, sizeof text, "adapters.bin: cannot %s the adapter of %s: %s%s",
            op->kind == SL_DISK_SAVE ? "write" : "read", op->head.id, strerror(-status),
            status == -ENOSPC ? "; free some disk space and start the edge again" : "");
    op->done_ns = sl_loop_now_ns();
    sl_adapter_store_done(sl_trainer_store(e->trainer), op, status, text);
}

static void loaded(void *app, void *what, const uint8_t *data, int status)
{
    struct edge *e = app;
    struct sl_disk_op *op = what;
    char why[WHY_BYTES];
    if (status) {
        done(e, op, status, NULL);
        return;
    }
    status = sl_adapter_record_decode(&e->record_shape, op->head.id, data, op->frame->adapter,
        op->frame->moments, &op->head, why, sizeof why);
    done(e, op, status, why);
}

static void carry_out(struct edge *e, struct sl_disk_op *op);

static void fill(void *app, void *what, uint8_t *data)
{
    struct edge *e = app;
    struct sl_disk_op *op = what, *next = op->frame->waiting;
    sl_adapter_record_encode(&e->record_shape, &op->head, op->frame->adapter, op->frame->moments, data);
    if (op->front)
        sl_adapter_record_encode_front(
            &e->record_shape, &op->head, op->front, data + sl_adapter_record_edge_bytes(&e->record_shape));
    op->frame->unsaved = false;
    op->frame->waiting = NULL;
    if (next)
        carry_out(e, next);
}

static void saved(void *app, void *what, int status)
{
    done(app, what, status, NULL);
}

static void answer_pull(struct edge *e, struct device *d, uint64_t version, uint32_t cut, const float *front)
{
    struct sl_adapter_transfer t = {
        .version = version, .step = d->last_step, .last = cut, .data = front, .n = cut * e->block};
    if (d->state == DEVICE_JOINED && sl_control_send_adapter(d->control, &t) == 0)
        sl_loop_flush(e->loop, d->control);
}

static void export_failed(struct edge *e, const struct device *d, int status);
static void export_record(
    struct edge *e, struct device *d, const uint8_t *data, const float *front, uint32_t cut);

static void fetched(void *app, void *what, const uint8_t *data, int status)
{
    struct edge *e = app;
    struct sl_disk_op *op = what;
    struct device *d = &e->devices[op->device];
    struct sl_adapter_record_head head = {.cut = d->class ? d->cut : e->min_cut};
    char why[WHY_BYTES];
    float *front = NULL;
    if (!status && data) {
        front = malloc(e->max_cut * e->block * sizeof *front);
        status =
            front ? sl_adapter_record_decode_front(&e->record_shape, op->head.id,
                        data + sl_adapter_record_edge_bytes(&e->record_shape), front, &head, why, sizeof why)
                  : -ENOMEM;
    }
    uint32_t asked = op->what;
    if (status) {
        done(e, op, status, data && front ? why : NULL);
        free(front);
        if (asked & FETCH_EXPORT)
            export_failed(e, d, status);
        e->export.under_way = asked & FETCH_EXPORT ? false : e->export.under_way;
        return;
    }
    if (asked & FETCH_PULL)
        answer_pull(e, d, head.version, head.cut, front ? front : e->g);
    if (asked & FETCH_EXPORT)
        export_record(e, d, data, front ? front : e->g, head.cut);
    done(e, op, 0, NULL);
    free(front);
}

static void carry_out(struct edge *e, struct sl_disk_op *op)
{
    size_t edge = sl_adapter_record_edge_bytes(&e->record_shape),
           all = sl_adapter_record_bytes(&e->record_shape);
    int status = 0;
    switch (op->kind) {
    case SL_DISK_LOAD:
        if (op->frame->unsaved) { /* what is in there has to be taken out first */
            op->frame->waiting = op;
            return;
        }
        if (op->place == SL_PLACE_NONE) {
            sl_adapter_store_make_initial(sl_trainer_store(e->trainer), op->frame);
            done(e, op, 0, NULL);
            return;
        }
        status = sl_record_read(e->records, op->place, 0, edge, loaded, e, op);
        break;
    case SL_DISK_SAVE:
        op->frame->unsaved = true;
        status = sl_record_write(e->records, op->place, 0, op->front ? all : edge, fill, saved, e, op);
        break;
    case SL_DISK_FETCH:
        if (op->place == SL_PLACE_NONE)
            fetched(e, op, NULL, 0);
        else
            status = sl_record_read(e->records, op->place, 0, all, fetched, e, op);
        break;
    }
    if (status)
        done(e, op, status, NULL);
}

void edge_poll_records(struct edge *e)
{
    struct sl_disk_op *op;
    while (e->personal && (op = sl_adapter_store_take(sl_trainer_store(e->trainer))))
        carry_out(e, op);
}

/* ---------------------------------------------------------------------------------------------- checkpoints
 */

/* The records that it names are on the disk before it is. */
static void synced(void *app, void *what, int status)
{
    struct edge *e = app;
    uint8_t *image = what;
    if (status) {
        edge_say(e,
            "adapters.bin: cannot bring it to the disk: %s; the older checkpoint stays and the run "
            "goes on",
            strerror(-status));
        e->checkpoint_failed = true;
        free(image);
        edge_checkpointed(e, false);
        return;
    }
    edge_write_checkpoint(e, image, e->checkpoint_bytes);
}

void edge_take_checkpoint(struct edge *e, struct sl_event *event)
{
    e->personal_stats = event->checkpoint.stats;
    e->checkpoint_bytes = event->checkpoint.bytes;
    int status =
        event->checkpoint.image ? sl_record_sync(e->records, synced, e, event->checkpoint.image) : -ENOMEM;
    if (status)
        synced(e, event->checkpoint.image, status);
}

void edge_checkpointed(struct edge *e, bool on_disk)
{
    struct sl_command c = {.kind = SL_COMMAND_CHECKPOINTED, .on_disk = on_disk};
    if (e->personal && e->trainer)
        edge_command(e, &c);
}

/* --------------------------------------------------------------------------------------------------- devices
 */

void edge_kept(struct edge *e, const struct sl_event *event)
{
    struct device *d = &e->devices[event->device];
    d->version = event->kept.version;
    if (!event->kept.tell_device || d->state != DEVICE_JOINED)
        return;
    Sluice__AdapterKept kept = SLUICE__ADAPTER_KEPT__INIT;
    kept.version = d->version;
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;
    envelope.body_case = SLUICE__ENVELOPE__BODY_ADAPTER_KEPT;
    envelope.adapter_kept = &kept;
    if (sl_control_send(d->control, &envelope) == 0)
        sl_loop_flush(e->loop, d->control);
}

void edge_pull_personal(struct edge *e, struct device *d)
{
    struct sl_command c = {.kind = SL_COMMAND_PULL, .device = d->index, .what = FETCH_PULL};
    edge_command(e, &c);
}

/* --------------------------------------------------------------------------------------------------- exports
 * One device after another: memory for one adapter, whatever their number. */

static void export_failed(struct edge *e, const struct device *d, int status)
{
    edge_say(e, "cannot write adapters/%s: %s%s", d->id, strerror(-status),
        status == -ENOSPC ? "; free some disk space" : "");
    e->checkpoint_failed = true;
    e->exit_code = e->exit_code ? e->exit_code : EXIT_FAILURE;
}

/* A certificate's name is its owner's choice; a path is not. */
static void directory_of(const struct edge *e, const struct device *d, char *path, size_t cap)
{
    char name[SL_CHECKPOINT_ID_BYTES];
    snprintf(name, sizeof name, "%s", d->id);
    for (char *c = name; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '-' && *c != '_' && (*c != '.' || c == name))
            *c = '_';
    snprintf(path, cap, "%s/adapters/%s", e->options.run, name);
}

static void file_written(void *app, void *data, int status)
{
    struct edge *e = app;
    (void)data;
    if (status)
        export_failed(e, &e->devices[e->export.device], status);
    if (--e->export.files)
        return;
    free(e->export.config);
    free(e->export.weights);
    e->export.config = NULL;
    e->export.weights = NULL;
    e->export.under_way = false;
}

static int make_scratch(struct edge *e)
{
    uint32_t blocks = e->shape->n_layers - e->min_cut;
    if (e->export.adapter)
        return 0;
    int status = sl_adapter_create(e->shape, &e->lora, 0, e->shape->n_layers, &e->export.adapter);
    e->export.moments = calloc(blocks, sizeof *e->export.moments);
    if (!e->export.moments)
        return -ENOMEM;
    for (uint32_t i = 0; !status && i < blocks; i++)
        status = sl_moments_create(&e->optim, e->block, &e->export.moments[i]);
    return status;
}

static int fill_scratch(
    struct edge *e, const struct device *d, const uint8_t *data, const float *front, uint32_t cut)
{
    char why[WHY_BYTES];
    size_t bytes = e->block * sizeof(float);
    int status = make_scratch(e);
    if (status)
        return status;
    for (uint32_t l = e->min_cut; !data && l < e->shape->n_layers; l++)
        memcpy(sl_adapter_block(e->export.adapter, l).data, e->g + l * e->block, bytes);
    if (data)
        status = sl_adapter_record_decode(
            &e->record_shape, d->id, data, e->export.adapter, e->export.moments, NULL, why, sizeof why);
    for (uint32_t l = 0; l < cut; l++)
        memcpy(sl_adapter_block(e->export.adapter, l).data, front + l * e->block, bytes);
    return status;
}

static void export_record(
    struct edge *e, struct device *d, const uint8_t *data, const float *front, uint32_t cut)
{
    char dir[SL_PATH_BYTES + 96], path[SL_PATH_BYTES + 160];
    size_t config_bytes = 0, weights_bytes = 0;
    int status = fill_scratch(e, d, data, front, cut);
    directory_of(e, d, dir, sizeof dir);
    if (!status && mkdir(dir, 0755) && errno != EEXIST)
        status = -errno;
    if (!status)
        status = sl_peft_config_json(
            e->export.adapter, e->shape, e->x->model.path, &e->export.config, &config_bytes);
    if (!status)
        status = sl_peft_safetensors(e->export.adapter, e->shape, &e->export.weights, &weights_bytes);
    e->export.files = 1;
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    if (!status &&
        !(status = sl_loop_write_file(e->loop, path, e->export.weights, weights_bytes, file_written, e)))
        e->export.files++;
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    if (!status &&
        !(status = sl_loop_write_file(e->loop, path, e->export.config, config_bytes, file_written, e)))
        e->export.files++;
    file_written(e, NULL, status);
}

void edge_export_personal(struct edge *e)
{
    char dir[SL_PATH_BYTES + 32];
    if (e->export.running)
        return;
    e->export.running = true;
    snprintf(dir, sizeof dir, "%s/adapters", e->options.run);
    mkdir(dir, 0755);
}

bool edge_exporting(struct edge *e)
{
    while (e->export.running && !e->export.under_way) {
        if (e->export.next == e->max_devices) {
            e->export.running = false;
            break;
        }
        struct device *d = &e->devices[e->export.next++];
        if (!d->id[0])
            continue;
        e->export.device = d->index;
        e->export.under_way = true;
        struct sl_command c = {.kind = SL_COMMAND_PULL, .device = d->index, .what = FETCH_EXPORT};
        edge_command(e, &c);
    }
    return e->export.running;
}
