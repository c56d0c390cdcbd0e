/* Personal adapters on the control thread: what the trainer's store wants of the disk, what devices are told
 * and sent, and every device's adapter for people at the end (rules L3, T12).
 *
 *   trainer --operations--> [adapters.bin, by the loop's ring] --done--> trainer
 *   (adapter_disk.h) */
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

/* --------------------------------------------------------------------------------------------------- fetches
 */

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

static void not_fetched(void *app, const struct sl_disk_op *op, int status)
{
    struct edge *e = app;
    if (!(op->what & FETCH_EXPORT))
        return;
    export_failed(e, &e->devices[op->device], status);
    e->export.under_way = false;
}

static int fetched(void *app, const struct sl_disk_op *op, const uint8_t *record, char *why, size_t why_cap)
{
    struct edge *e = app;
    struct device *d = &e->devices[op->device];
    struct sl_adapter_record_head head = {.cut = d->class ? d->cut : e->min_cut};
    float *front = malloc(e->max_cut * e->block * sizeof *front);
    int status = front ? 0 : -ENOMEM;
    if (!status && record)
        status = sl_adapter_record_decode_front(&e->record_shape, op->head.id,
            record + sl_adapter_record_edge_bytes(&e->record_shape), front, &head, why, why_cap);
    const float *weights = record ? front : e->g;
    if (!status && op->what & FETCH_PULL)
        answer_pull(e, d, head.version, head.cut, weights);
    if (!status && op->what & FETCH_EXPORT)
        export_record(e, d, record, weights, head.cut);
    if (status)
        not_fetched(e, op, status);
    free(front);
    return status;
}

void edge_poll_records(struct edge *e)
{
    if (e->personal)
        sl_adapter_disk_poll(e->disk, sl_trainer_store(e->trainer));
}

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
    char text[200];
    if (!e->personal)
        return 0;
    e->record_shape = (struct sl_adapter_record_shape){.n_layers = e->shape->n_layers,
        .first = e->min_cut,
        .max_cut = e->max_cut,
        .block = e->block,
        .moments = e->optim.kind == SL_ADAMW};
    snprintf(e->records_path, sizeof e->records_path, "%s/adapters.bin", e->options.run);
    if (!e->resumed)
        unlink(e->records_path);
    struct sl_adapter_disk_config c = {.loop = e->loop,
        .path = e->records_path,
        .shape = e->record_shape,
        .buffers = RECORD_BUFFERS,
        .fetched = fetched,
        .not_fetched = not_fetched,
        .app = e};
    int status = sl_adapter_disk_open(&c, &e->disk, e->err, sizeof e->err);
    if (status)
        return status;
    sl_record_file_describe(sl_adapter_disk_file(e->disk), text, sizeof text);
    edge_say(e, "personal adapters: %u in memory, the others in adapters.bin: %s", edge_resident(e), text);
    return 0;
}

void edge_close_records(struct edge *e)
{
    sl_adapter_disk_close(e->disk);
    sl_adapter_free(e->export.adapter);
    for (uint32_t i = 0; e->export.moments && i < e->shape->n_layers - e->min_cut; i++)
        sl_moments_free(&e->export.moments[i]);
    free(e->export.moments);
    free(e->export.config);
    free(e->export.weights);
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
    int status = event->checkpoint.image
                     ? sl_record_sync(sl_adapter_disk_file(e->disk), synced, e, event->checkpoint.image)
                     : -ENOMEM;
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
