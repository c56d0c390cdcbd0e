/* Devices that may be evicted (resident, not pinned, not being written) stand in one list, the least recently
 * used at its tail. Devices that need a frame stand in one queue, in the order in which they came to need it.
 * sl_store_serve() matches the two; everything else changes states and calls it. */
#include "trainer/pipeline/adapter_store_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------- creation
 */

size_t sl_adapter_store_frame_bytes(const struct sl_adapter_store_config *c)
{
    struct sl_lora_config whole = c->lora;
    whole.freeze_a = false;
    size_t all = sl_adapter_block_size(c->model, &whole), trained = sl_adapter_block_size(c->model, &c->lora);
    size_t block = all + trained + (c->optim.kind == SL_ADAMW ? 2 * trained : 0);
    return (c->model->n_layers - c->first) * block * sizeof(float);
}

static void free_frame(struct sl_adapter_store *s, struct sl_adapter_frame *f)
{
    for (uint32_t i = 0; f->moments && i < s->n_layers - s->config.first; i++)
        sl_moments_free(&f->moments[i]);
    free(f->moments);
    sl_adapter_free(f->adapter);
    *f = (struct sl_adapter_frame){0};
}

static int make_frame(struct sl_adapter_store *s, struct sl_adapter_frame *f)
{
    uint32_t blocks = s->n_layers - s->config.first;
    int status =
        sl_adapter_create(s->config.model, &s->config.lora, s->config.first, s->n_layers, &f->adapter);
    f->moments = calloc(blocks, sizeof *f->moments);
    for (uint32_t i = 0; !status && f->moments && i < blocks; i++)
        status = sl_moments_create(&s->config.optim, s->shape.block, &f->moments[i]);
    if (status || !f->moments) {
        free_frame(s, f);
        return -ENOMEM;
    }
    return 0;
}

int sl_adapter_store_create(const struct sl_adapter_store_config *config, struct sl_adapter_store **out)
{
    *out = NULL;
    if (!config->max_devices || !config->resident || config->first >= config->model->n_layers)
        return -EINVAL;
    struct sl_adapter_store *s = calloc(1, sizeof *s);
    if (!s)
        return -ENOMEM;
    s->config = *config;
    s->n_layers = config->model->n_layers;
    s->newest = s->oldest = NONE;
    s->shape = (struct sl_adapter_record_shape){.n_layers = s->n_layers,
        .first = config->first,
        .max_cut = config->max_cut,
        .block = sl_adapter_block_size(config->model, &config->lora),
        .moments = config->optim.kind == SL_ADAMW};
    /* Of a device there are at most an eviction, a load or a boundary after it, and a fetch under way. */
    uint32_t entries = 2;
    while (entries < 4 * config->max_devices)
        entries *= 2;
    s->requests = sl_mailbox_create(entries, sizeof(struct sl_disk_op));
    s->completions = sl_mailbox_create(entries, sizeof(struct completion));
    s->entries = calloc(config->max_devices, sizeof *s->entries);
    s->frames = calloc(config->resident, sizeof *s->frames);
    s->unused = calloc(config->resident, sizeof *s->unused);
    s->queue = calloc(config->max_devices, sizeof *s->queue);
    if (!s->requests || !s->completions || !s->entries || !s->frames || !s->unused || !s->queue) {
        sl_adapter_store_free(s);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < config->resident; i++) {
        if (make_frame(s, &s->frames[i])) {
            sl_adapter_store_free(s);
            return -ENOMEM;
        }
        s->unused[s->n_unused++] = i;
    }
    for (uint32_t i = 0; i < config->max_devices; i++) {
        s->entries[i].frame = s->entries[i].saving_to = NONE;
        for (unsigned r = 0; r < ROLES; r++)
            s->entries[i].place[r] = NONE;
    }
    *out = s;
    return 0;
}

void sl_adapter_store_free(struct sl_adapter_store *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; s->entries && i < s->config.max_devices; i++)
        free(s->entries[i].front);
    for (uint32_t i = 0; s->frames && i < s->config.resident; i++)
        free_frame(s, &s->frames[i]);
    sl_places_free(&s->places);
    sl_mailbox_free(s->requests);
    sl_mailbox_free(s->completions);
    free(s->entries);
    free(s->frames);
    free(s->unused);
    free(s->queue);
    free(s);
}

void sl_store_fail(struct sl_adapter_store *s, const char *what)
{
    if (s->failed)
        return;
    s->failed = true;
    snprintf(s->error, sizeof s->error, "%s", what);
}

/* --------------------------------------------------------------------------------------------------- lists
 */

static void list(struct sl_adapter_store *s, uint32_t device)
{
    struct entry *e = &s->entries[device];
    if (e->listed)
        return;
    e->listed = true;
    e->newer = NONE;
    e->older = s->newest;
    if (s->newest != NONE)
        s->entries[s->newest].newer = device;
    else
        s->oldest = device;
    s->newest = device;
}

static void unlist(struct sl_adapter_store *s, uint32_t device)
{
    struct entry *e = &s->entries[device];
    if (!e->listed)
        return;
    e->listed = false;
    if (e->newer != NONE)
        s->entries[e->newer].older = e->older;
    else
        s->newest = e->older;
    if (e->older != NONE)
        s->entries[e->older].newer = e->newer;
    else
        s->oldest = e->newer;
}

void sl_store_enqueue(struct sl_adapter_store *s, uint32_t device)
{
    struct entry *e = &s->entries[device];
    if (e->queued)
        return;
    e->queued = true;
    s->queue[(s->queue_head + s->n_queue++) % s->config.max_devices] = device;
}

static void no_longer_expected(struct sl_adapter_store *s, struct entry *e)
{
    s->n_expected -= e->expected;
    e->expected = false;
}

/* ------------------------------------------------------------------------------------- coming and leaving */

void sl_store_leave_frame(struct sl_adapter_store *s, struct entry *e)
{
    s->unused[s->n_unused++] = e->frame;
    e->frame = NONE;
    e->state = SL_ADAPTER_AWAY;
    no_longer_expected(s, e);
}

/* The least recently used one leaves, and its frame is free at once: whoever carries out the disk's
 * operations takes its contents out before it puts others in. So a load never waits here for the eviction
 * before it. */
static bool evict_one(struct sl_adapter_store *s, uint64_t now)
{
    uint32_t device = s->oldest;
    if (device == NONE)
        return false;
    struct entry *e = &s->entries[device];
    if (e->dirty) {
        if (!sl_store_save(s, device, false, now))
            return false;
        uint32_t place = e->saving_to;
        e->saving_to = NONE;
        sl_store_set_place(s, e, ROLE_CURRENT, place);
        e->dirty = false;
    }
    unlist(s, device);
    sl_store_leave_frame(s, e);
    return true;
}

static bool take_frame(struct sl_adapter_store *s, uint32_t *frame)
{
    if (!s->n_unused)
        return false;
    *frame = s->unused[--s->n_unused];
    return true;
}

void sl_adapter_store_make_initial(const struct sl_adapter_store *s, struct sl_adapter_frame *f)
{
    size_t n = s->shape.block;
    for (uint32_t l = s->config.first; l < s->n_layers; l++) {
        struct sl_moments *m = &f->moments[l - s->config.first];
        memcpy(sl_adapter_block(f->adapter, l).data, s->config.initial + l * n, n * sizeof(float));
        m->t = 0;
        if (m->m) {
            memset(m->m, 0, n * sizeof(float));
            memset(m->v, 0, n * sizeof(float));
        }
    }
}

/* Its adapter is in its frame, and nobody else works on it. */
void sl_store_settle(struct sl_adapter_store *s, uint32_t device, uint64_t now)
{
    struct entry *e = &s->entries[device];
    e->state = SL_ADAPTER_RESIDENT;
    if (e->front)
        sl_store_save(s, device, true, now);
    else if (e->pinned)
        s->config.usable(s->config.app, device, now);
    else
        list(s, device);
}

void sl_store_serve(struct sl_adapter_store *s, uint64_t now)
{
    while (s->n_queue && !s->failed) {
        uint32_t device = s->queue[s->queue_head], frame;
        struct entry *e = &s->entries[device];
        bool needed = e->state == SL_ADAPTER_AWAY && (e->pinned || e->front || e->expected);
        if (needed && !take_frame(s, &frame)) {
            if (!evict_one(s, now))
                break;
            continue;
        }
        s->queue_head = (s->queue_head + 1) % s->config.max_devices;
        s->n_queue--;
        e->queued = false;
        if (!needed)
            continue;
        e->frame = frame;
        s->frames[frame].device = device;
        if (e->place[ROLE_CURRENT] != NONE || s->frames[frame].saves) {
            sl_store_load(s, device, now);
        } else {
            sl_adapter_store_make_initial(s, &s->frames[frame]);
            s->stats.made++;
            sl_store_settle(s, device, now);
        }
    }
}

/* ----------------------------------------------------------------------------------------- what is asked for
 */

void sl_adapter_store_know(struct sl_adapter_store *s, uint32_t device, const char *id)
{
    struct entry *e = &s->entries[device];
    s->n_known += !e->known;
    e->known = true;
    memset(e->id, 0, sizeof e->id);
    snprintf(e->id, sizeof e->id, "%s", id);
}

int sl_adapter_store_restore(
    struct sl_adapter_store *s, uint32_t device, const char *id, const struct sl_adapter_boundary *b)
{
    struct entry *e = &s->entries[device];
    int status = sl_places_claim(&s->places, b->place);
    if (status)
        return status == -EEXIST ? -EINVAL : status;
    sl_adapter_store_know(s, device, id);
    e->version = e->saved_version = b->version;
    e->step = e->saved_step = b->step;
    e->place[ROLE_CURRENT] = e->place[ROLE_BOUNDARY] = e->place[ROLE_DURABLE] = b->place;
    return 0;
}

bool sl_adapter_store_usable(const struct sl_adapter_store *s, uint32_t device)
{
    const struct entry *e = &s->entries[device];
    return e->state == SL_ADAPTER_RESIDENT && !e->saving && !e->front;
}

void sl_adapter_store_want(struct sl_adapter_store *s, uint32_t device, uint64_t now_ns)
{
    struct entry *e = &s->entries[device];
    if (e->pinned)
        return;
    e->pinned = true;
    no_longer_expected(s, e);
    unlist(s, device);
    if (sl_adapter_store_usable(s, device)) {
        s->stats.hits++;
        s->config.usable(s->config.app, device, now_ns);
        return;
    }
    s->stats.misses++;
    if (e->state == SL_ADAPTER_AWAY)
        sl_store_enqueue(s, device);
    sl_store_serve(s, now_ns);
}

void sl_adapter_store_unwant(struct sl_adapter_store *s, uint32_t device)
{
    struct entry *e = &s->entries[device];
    if (!e->pinned)
        return;
    e->pinned = false;
    if (sl_adapter_store_usable(s, device))
        list(s, device);
}

void sl_adapter_store_hint(struct sl_adapter_store *s, uint32_t device, uint64_t now_ns)
{
    struct entry *e = &s->entries[device];
    if (!e->known || e->state != SL_ADAPTER_AWAY || e->queued)
        return;
    s->stats.hints++;
    if (s->n_queue || s->n_expected >= s->config.resident / 2) {
        s->stats.hints_dropped++;
        return;
    }
    e->expected = true;
    s->n_expected++;
    sl_store_enqueue(s, device);
    sl_store_serve(s, now_ns);
}

struct sl_adapter_frame *sl_adapter_store_frame(struct sl_adapter_store *s, uint32_t device)
{
    return &s->frames[s->entries[device].frame];
}

void sl_adapter_store_stepped(struct sl_adapter_store *s, uint32_t device, uint64_t step)
{
    s->entries[device].dirty = true;
    s->entries[device].step = step;
}

uint64_t sl_adapter_store_push(
    struct sl_adapter_store *s, uint32_t device, float *front, uint32_t cut, uint64_t step, uint64_t now_ns)
{
    struct entry *e = &s->entries[device];
    if (e->front) {
        free(front);
        return 0;
    }
    e->front = front;
    e->front_cut = cut;
    e->pushed_step = step;
    e->version++;
    s->n_pushes++;
    unlist(s, device);
    if (e->state == SL_ADAPTER_RESIDENT)
        sl_store_save(s, device, true, now_ns);
    else if (e->state == SL_ADAPTER_AWAY)
        sl_store_enqueue(s, device);
    sl_store_serve(s, now_ns);
    return e->version;
}

uint32_t sl_adapter_store_pushes(const struct sl_adapter_store *s)
{
    return s->n_pushes;
}

const char *sl_adapter_store_id(const struct sl_adapter_store *s, uint32_t device)
{
    return s->entries[device].id;
}

uint64_t sl_adapter_store_version(const struct sl_adapter_store *s, uint32_t device)
{
    return s->entries[device].version;
}

/* A push that is being written is the last boundary: nothing can have come after it. */
void sl_adapter_store_roll_back(struct sl_adapter_store *s, uint32_t device)
{
    struct entry *e = &s->entries[device];
    if (e->front || (!e->dirty && e->place[ROLE_CURRENT] == e->place[ROLE_BOUNDARY]))
        return;
    if (e->state == SL_ADAPTER_COMING) {
        e->discard = true;
    } else {
        unlist(s, device);
        if (e->state == SL_ADAPTER_RESIDENT)
            sl_store_leave_frame(s, e);
        sl_store_set_place(s, e, ROLE_CURRENT, e->place[ROLE_BOUNDARY]);
    }
    e->dirty = false;
    e->step = e->saved_step;
}

const char *sl_adapter_store_error(const struct sl_adapter_store *s)
{
    return s->failed ? s->error : NULL;
}

bool sl_adapter_store_asked(struct sl_adapter_store *s)
{
    bool asked = s->asked;
    s->asked = false;
    return asked;
}

void sl_adapter_store_stats(const struct sl_adapter_store *s, struct sl_adapter_store_stats *stats)
{
    *stats = s->stats;
}

enum sl_adapter_state sl_adapter_store_state(const struct sl_adapter_store *s, uint32_t device)
{
    return s->entries[device].state;
}

uint32_t sl_adapter_store_places(const struct sl_adapter_store *s)
{
    return s->places.n;
}

void sl_adapter_store_shape(const struct sl_adapter_store *s, struct sl_adapter_record_shape *shape)
{
    *shape = s->shape;
}
