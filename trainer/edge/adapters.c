/* The global adapter on the control thread: to devices, from them, and to disk (rules L3, T12). */
#include "trainer/edge/edge.h"

#include "trainer/model/peft.h"
#include "trainer/pipeline/factors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHECKPOINT_MAX = 1 << 30 };

/* G's first blocks at the rank of the device's class (rules L5). */
static const float *g_at_rank(struct edge *e, const struct device *d, size_t *n)
{
    struct sl_lora_config lora = e->lora;
    lora.rank = d->class->rank;
    *n = d->cut * sl_adapter_block_size(e->shape, &lora);
    if (lora.rank == e->lora.rank)
        return e->g;
    sl_factors_prefix(e->shape, &e->lora, e->g, d->cut, lora.rank, e->low_rank);
    return e->low_rank;
}

void edge_send_g(struct edge *e, struct device *d)
{
    struct sl_adapter_transfer t = {.version = e->version, .step = d->last_step, .first = 0, .last = d->cut};
    t.data = g_at_rank(e, d, &t.n);
    if (d->state != DEVICE_JOINED || sl_control_send_adapter(d->control, &t))
        return; /* on its way out, or it does not read: its time-out ends it */
    sl_loop_flush(e->loop, d->control);
}

_Static_assert((int)SLUICE__ADAPTER_KIND__ADAPTER_WEIGHTS == (int)SL_PUSH_WEIGHTS &&
                   (int)SLUICE__ADAPTER_KIND__ADAPTER_GRADIENTS == (int)SL_PUSH_GRADIENTS &&
                   (int)SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS == (int)SL_PUSH_MOMENTS,
    "control.proto and trainer.h number the kinds alike");

enum { OWED_PER_DEVICE = 4 };

void edge_take_push(struct edge *e, struct device *d, const struct sl_adapter_transfer *t)
{
    struct sl_command c = {.kind = SL_COMMAND_PUSH, .device = d->index};
    /* The trainer takes commands between gangs: what waits for it meanwhile has a bound (rules T16). */
    if (e->owed.n >= OWED_PER_DEVICE * e->max_devices) {
        edge_drop_device(
            e, d, SLUICE__ERROR_CODE__ERROR_LIMIT, "adapters are pushed faster than they are merged");
        return;
    }
    c.push.kind = (enum sl_push_kind)t->kind; /* the same numbers */
    c.push.version = t->version;
    c.push.tokens = t->tokens;
    c.push.step = t->step;
    c.push.first = t->first;
    c.push.last = t->last;
    c.push.n = t->n;
    c.push.weights = malloc((t->n ? t->n : 1) * sizeof *c.push.weights);
    if (!c.push.weights) {
        edge_end(e, EXIT_FAILURE, "out of memory");
        return;
    }
    memcpy(c.push.weights, t->data, t->n * sizeof *c.push.weights);
    edge_command(e, &c);
}

/* -------------------------------------------------------------------------------------------------
 * checkpoints */

static void checkpoint_written(void *app, void *data, int status)
{
    struct edge *e = app;
    free(data);
    e->checkpoint_busy = false;
    if (status) {
        edge_say(e, "cannot write the checkpoint: %s; the older one stays and the run goes on%s",
            strerror(-status), status == -ENOSPC ? "; free some disk space" : "");
        e->checkpoint_failed = true;
    }
    edge_checkpointed(e, status == 0);
    uint8_t *next = e->checkpoint_next;
    e->checkpoint_next = NULL;
    if (next)
        edge_write_checkpoint(e, next, e->checkpoint_next_bytes);
}

/* One at a time; of those that wait only the newest matters. Takes the image. */
void edge_write_checkpoint(struct edge *e, uint8_t *image, size_t bytes)
{
    char path[SL_PATH_BYTES + 32];
    if (!image)
        return;
    if (e->checkpoint_busy) {
        free(e->checkpoint_next);
        e->checkpoint_next = image;
        e->checkpoint_next_bytes = bytes;
        return;
    }
    snprintf(path, sizeof path, "%s/checkpoint.bin", e->options.run);
    e->checkpoint_busy = true;
    sl_image_sign(image, bytes);
    int status = sl_loop_write_file(e->loop, path, image, bytes, checkpoint_written, e);
    if (status)
        checkpoint_written(e, image, status);
}

static int read_file(const char *path, uint8_t **bytes, size_t *len)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC), status = 0;
    *bytes = NULL;
    if (fd < 0)
        return -errno;
    if (fstat(fd, &st))
        status = -errno;
    else if (st.st_size > CHECKPOINT_MAX)
        status = -EFBIG;
    else if (!(*bytes = malloc((size_t)st.st_size + 1)))
        status = -ENOMEM;
    *len = 0;
    while (!status && *len < (size_t)st.st_size) {
        ssize_t n = read(fd, *bytes + *len, (size_t)st.st_size - *len);
        if (n < 0)
            status = -errno;
        if (n == 0)
            break;
        *len += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    if (status) {
        free(*bytes);
        *bytes = NULL;
    }
    return status;
}

int edge_read_checkpoint(struct edge *e, struct sl_checkpoint *c, bool *found)
{
    char path[SL_PATH_BYTES + 32], why[256];
    uint8_t *bytes;
    size_t len = 0;
    *found = false;
    snprintf(path, sizeof path, "%s/checkpoint.bin", e->options.run);
    int status = read_file(path, &bytes, &len);
    if (status == -ENOENT)
        return 0;
    if (status) {
        snprintf(e->err, sizeof e->err, "%s: cannot read it: %s", path, strerror(-status));
        return status;
    }
    status = sl_checkpoint_decode(bytes, len, c, why, sizeof why);
    free(bytes);
    if (status)
        snprintf(e->err, sizeof e->err, "%s: %s", path, why);
    *found = !status;
    return status;
}

/* ---------------------------------------------------------------------------------------------------
 * versions */

static void remember_steps(struct edge *e, const uint64_t *steps)
{
    for (uint32_t d = 0; steps && d < e->max_devices; d++)
        if (steps[d])
            e->devices[d].last_step = steps[d];
}

void edge_new_version(struct edge *e, struct sl_event *event)
{
    if (!event->version.g || !event->version.devices) {
        free(event->version.g);
        free(event->version.devices);
        free(event->version.steps);
        free(event->version.checkpoint);
        edge_end(e, EXIT_FAILURE, "out of memory");
        return;
    }
    free(e->g);
    e->g = event->version.g;
    e->version = event->version.version;
    e->global_step = e->version_step = event->version.global_step;
    remember_steps(e, event->version.steps);
    free(event->version.steps);
    for (uint32_t i = 0; i < event->version.n_devices; i++)
        edge_send_g(e, &e->devices[event->version.devices[i]]);
    free(event->version.devices);
    edge_write_checkpoint(e, event->version.checkpoint, event->version.checkpoint_bytes);
    if (!event->version.copies)
        return;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "version", (double)e->version);
    cJSON_AddNumberToObject(o, "step", (double)e->global_step);
    cJSON_AddNumberToObject(o, "copies", event->version.copies);
    cJSON_AddNumberToObject(o, "left_out", event->version.left_out);
    sl_metrics_number(o, "factor_error", event->version.factor_error);
    if (e->x->training.lora.svd && e->min_rank == e->lora.rank)
        sl_metrics_number(o, "mean_error", event->version.mean_error);
    if (e->optim.proximal > 0 && !e->personal)
        sl_metrics_number(o, "proximal", event->version.proximal);
    cJSON_AddNumberToObject(o, "ms", (double)event->version.ns * 1e-6);
    cJSON_AddNumberToObject(o, "checkpoint_ms", (double)event->version.checkpoint_ns * 1e-6);
    edge_event(e, "aggregate", o);
}

/* -------------------------------------------------------------------------------------------------------
 * PEFT */

static void adapter_written(void *app, void *data, int status)
{
    struct edge *e = app;
    (void)data;
    if (!status)
        return;
    edge_say(e, "cannot write adapters/global: %s%s", strerror(-status),
        status == -ENOSPC ? "; free some disk space" : "");
    e->checkpoint_failed = true;
}

/* G as PEFT has it, under RUN/adapters/global. The loop writes; the memory lives until the end. */
void edge_write_adapters(struct edge *e)
{
    char dir[SL_PATH_BYTES + 32], path[SL_PATH_BYTES + 80];
    struct sl_adapter *adapter = NULL;
    if (!e->g || e->adapters_written)
        return;
    e->adapters_written = true;
    if (e->personal) {
        edge_export_personal(e);
        return;
    }
    snprintf(dir, sizeof dir, "%s/adapters", e->options.run);
    mkdir(dir, 0755);
    snprintf(dir, sizeof dir, "%s/adapters/global", e->options.run);
    mkdir(dir, 0755);
    int status = sl_adapter_create(e->shape, &e->lora, 0, e->shape->n_layers, &adapter);
    if (!status) {
        for (uint32_t l = 0; l < e->shape->n_layers; l++)
            memcpy(sl_adapter_block(adapter, l).data, e->g + l * e->block, e->block * sizeof *e->g);
        status =
            sl_peft_config_json(adapter, e->shape, e->x->model.path, &e->peft_config, &e->peft_config_bytes);
    }
    if (!status)
        status = sl_peft_safetensors(adapter, e->shape, &e->peft_weights, &e->peft_weights_bytes);
    sl_adapter_free(adapter);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    if (!status)
        status =
            sl_loop_write_file(e->loop, path, e->peft_weights, e->peft_weights_bytes, adapter_written, e);
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    if (!status)
        status = sl_loop_write_file(e->loop, path, e->peft_config, e->peft_config_bytes, adapter_written, e);
    if (status)
        adapter_written(e, NULL, status);
}
