/* The trainer's state as a checkpoint's image, and back (rules T12). The trainer thread only copies; whoever
 * gets the image signs and writes it. A mode of training with state of its own adds a part: one line in
 * put_parts, one in get_parts. */
#include "trainer/pipeline/trainer_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------- writing
 */

static void list_devices(struct sl_trainer *t, struct sl_checkpoint *c)
{
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        const struct device *d = &t->devices[i];
        if (!d->id[0])
            continue;
        struct sl_checkpoint_device *to = &c->devices[c->n_devices++];
        memcpy(to->id, d->id, sizeof d->id);
        to->last_step = t->personal.store ? sl_personal_last_step(t, i) : d->applied;
        to->cut = d->cut;
    }
    for (uint32_t i = 0; i < t->n_resumed; i++)
        c->devices[c->n_devices++] = t->resumed[i];
}

uint8_t *sl_trainer_checkpoint(struct sl_trainer *t, size_t *len)
{
    struct sl_checkpoint c = {.run = t->config.run,
        .incarnation = t->config.incarnation,
        .version = t->version,
        .global_step = t->global_step,
        .tokens = t->tokens,
        .train_ns = t->train_ns + (t->train_from_ns ? t->config.now_ns() - t->train_from_ns : 0),
        .lora = t->config.lora,
        .optim = t->config.optim.kind,
        .n_layers = t->n_layers,
        .first = t->owned,
        .block = t->block,
        .g = sl_trainer_g(t, t->version),
        .moments = t->moments + t->owned};
    struct sl_image image;
    uint8_t *bytes;
    memcpy(c.model_hash, t->config.model_hash, sizeof c.model_hash);
    c.devices = calloc(t->config.gang.max_devices + t->n_resumed + 1u, sizeof *c.devices);
    if (!c.devices)
        return NULL;
    list_devices(t, &c);
    sl_checkpoint_encode(&c, t->server ? sl_server_part_bytes(t->server) : 0, &image);
    if (t->server)
        sl_server_put(t->server, &image);
    if (t->personal.store)
        sl_personal_put_part(t, &image);
    free(c.devices);
    sl_image_finish(&image, &bytes, len); /* NULL where memory ran out */
    return bytes;
}

/* ------------------------------------------------------------------------------------------------- reading
 */

static bool same_experiment(const struct sl_trainer *t, const struct sl_checkpoint *c)
{
    const struct sl_trainer_config *g = &t->config;
    return !memcmp(c->model_hash, g->model_hash, sizeof g->model_hash) && c->lora.rank == g->lora.rank &&
           c->lora.alpha == g->lora.alpha && c->lora.targets == g->lora.targets &&
           c->lora.freeze_a == g->lora.freeze_a && c->lora.seed == g->lora.seed &&
           c->optim == g->optim.kind && c->n_layers == t->n_layers && c->first == t->owned &&
           c->block == t->block && (c->moments->m != NULL) == (g->optim.kind == SL_ADAMW);
}

int sl_trainer_restore(struct sl_trainer *t, const struct sl_checkpoint *c, char *err, size_t err_cap)
{
    const struct sl_section *server = sl_checkpoint_part(c, SL_PART_SERVER);
    if (!same_experiment(t, c) || (server != NULL) != (t->server != NULL) ||
        (server && !sl_server_get(t->server, *server))) {
        snprintf(err, err_cap,
            "the checkpoint in the run directory belongs to another model or experiment; use another --run "
            "directory");
        return -EINVAL;
    }
    t->version = t->oldest = c->version;
    t->global_step = c->global_step;
    t->tokens = t->tokens_then[t->version % t->n_history] = c->tokens;
    t->train_ns = c->train_ns;
    memcpy(sl_trainer_g(t, t->version), c->g, t->n_layers * t->block * sizeof(float));
    for (uint32_t l = c->first; l < t->n_layers; l++) {
        const struct sl_moments *from = &c->moments[l - c->first];
        t->moments[l].t = from->t;
        if (!from->m)
            continue;
        memcpy(t->moments[l].m, from->m, t->block * sizeof(float));
        memcpy(t->moments[l].v, from->v, t->block * sizeof(float));
    }
    t->resumed = calloc(c->n_devices + 1u, sizeof *t->resumed);
    if (!t->resumed)
        return -ENOMEM;
    memcpy(t->resumed, c->devices, c->n_devices * sizeof *t->resumed);
    t->n_resumed = c->n_devices;
    return 0;
}
