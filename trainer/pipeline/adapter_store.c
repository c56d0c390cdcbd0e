/* Devices that may be evicted (resident, not pinned, not being written) stand in one list, the least recently
 * used at its tail. Devices that need a frame stand in one queue, in the order in which they came to need it.
 * serve() matches the two; everything else changes states and calls it. */
#include "trainer/pipeline/adapter_store.h"

#include "trainer/pipeline/mailbox.h"
#include "trainer/pipeline/places.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NONE UINT32_MAX

enum { WHY_BYTES = 256 };

enum role { ROLE_CURRENT, ROLE_BOUNDARY, ROLE_PENDING, ROLE_DURABLE, ROLES };

struct entry {
    char id[SL_ADAPTER_RECORD_ID_BYTES];
    enum sl_adapter_state state;
    bool known, pinned, queued, expected; /* expected: hinted, and not wanted since */
    bool dirty;                           /* what is in memory is at no place */
    bool saving;                          /* a boundary is being written from its frame */
    bool discard;                         /* what is under way is not wanted any more: rolled back */
    bool fetching;
    uint32_t fetch_owed; /* bits of what for */
    uint32_t place[ROLES], saving_to;
    uint32_t frame;
    uint64_t version, step;             /* of the newest boundary, written or about to be; of its contents */
    uint64_t saved_version, saved_step; /* of the one at ROLE_BOUNDARY */
    uint64_t pushed_step;               /* what `step` becomes with the push that is owed */
    float *front;
    uint32_t front_cut;
    uint32_t newer, older; /* in the list of those that may be evicted */
    bool listed;
};

struct completion {
    enum sl_disk_kind kind;
    uint32_t device, place, frame;
    bool boundary;
    int status;
    uint64_t asked_ns, done_ns;
    struct sl_adapter_record_head head;
    char why[WHY_BYTES];
};

struct sl_adapter_store {
    struct sl_adapter_store_config config;
    struct sl_adapter_record_shape shape;
    uint32_t n_layers;
    struct entry *entries;           /* [max_devices] */
    struct sl_adapter_frame *frames; /* [resident] */
    uint32_t *unused, n_unused;
    uint32_t newest, oldest;
    uint32_t *queue, queue_head, n_queue; /* [max_devices], in a ring */
    uint32_t n_known, n_expected, n_pushes;
    struct sl_places places;
    struct sl_mailbox *requests, *completions;
    bool asked, failed;
    char error[WHY_BYTES];
    struct sl_adapter_store_stats stats;
};

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

static void fail(struct sl_adapter_store *s, const char *what)
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

static void enqueue(struct sl_adapter_store *s, uint32_t device)
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

/* -------------------------------------------------------------------------------------------------- places
 */

static void give_unless_used(struct sl_adapter_store *s, const struct entry *e, uint32_t place)
{
    if (place == NONE || place == e->saving_to)
        return;
    for (unsigned r = 0; r < ROLES; r++)
        if (e->place[r] == place)
            return;
    sl_places_give(&s->places, place);
}

static void set_place(struct sl_adapter_store *s, struct entry *e, enum role role, uint32_t place)
{
    uint32_t before = e->place[role];
    e->place[role] = place;
    if (before != place)
        give_unless_used(s, e, before);
}

/* Where its contents may be written: over what only this run remembers, else to a free place. */
static bool place_to_write(struct sl_adapter_store *s, struct entry *e, bool boundary)
{
    uint32_t current = e->place[ROLE_CURRENT];
    if (!boundary && current != NONE && current != e->place[ROLE_BOUNDARY] &&
        current != e->place[ROLE_PENDING] && current != e->place[ROLE_DURABLE])
        e->saving_to = current;
    else if (sl_places_take(&s->places, &e->saving_to)) {
        e->saving_to = NONE;
        fail(s, "out of memory");
        return false;
    }
    return true;
}

/* -------------------------------------------------------------------------------------------------- the disk
 */

static struct sl_disk_op *ask(
    struct sl_adapter_store *s, enum sl_disk_kind kind, uint32_t device, uint64_t now)
{
    struct entry *e = &s->entries[device];
    struct sl_disk_op *op = sl_mailbox_claim(s->requests); /* by its size: never NULL */
    op->kind = kind;
    op->device = device;
    op->asked_ns = now;
    op->head = (struct sl_adapter_record_head){.version = e->version, .step = e->step, .cut = e->front_cut};
    memcpy(op->head.id, e->id, sizeof op->head.id);
    if (kind != SL_DISK_FETCH)
        op->frame = &s->frames[e->frame];
    s->asked = true;
    return op;
}

static void start_load(struct sl_adapter_store *s, uint32_t device, uint64_t now)
{
    struct entry *e = &s->entries[device];
    struct sl_disk_op *op = ask(s, SL_DISK_LOAD, device, now);
    op->place = e->place[ROLE_CURRENT];
    e->state = SL_ADAPTER_COMING;
    s->stats.loads += op->place != NONE;
    s->stats.made += op->place == NONE;
    sl_mailbox_post(s->requests, op);
}

static bool start_save(struct sl_adapter_store *s, uint32_t device, bool boundary, uint64_t now)
{
    struct entry *e = &s->entries[device];
    if (!place_to_write(s, e, boundary))
        return false;
    if (boundary)
        e->step = e->pushed_step;
    struct sl_disk_op *op = ask(s, SL_DISK_SAVE, device, now);
    op->place = e->saving_to;
    op->boundary = boundary;
    op->front = boundary ? e->front : NULL;
    e->saving = boundary;
    s->frames[e->frame].saves++;
    s->stats.saves += boundary;
    s->stats.evictions += !boundary;
    sl_mailbox_post(s->requests, op);
    return true;
}

static void start_fetch(struct sl_adapter_store *s, uint32_t device, uint64_t now)
{
    struct entry *e = &s->entries[device];
    struct sl_disk_op *op = ask(s, SL_DISK_FETCH, device, now);
    op->place = e->place[ROLE_BOUNDARY];
    op->what = e->fetch_owed;
    op->head.version = e->saved_version;
    op->head.step = e->saved_step;
    e->fetch_owed = 0;
    e->fetching = true;
    sl_mailbox_post(s->requests, op);
}

/* ------------------------------------------------------------------------------------- coming and leaving */

static void leave_frame(struct sl_adapter_store *s, struct entry *e)
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
        if (!start_save(s, device, false, now))
            return false;
        uint32_t place = e->saving_to;
        e->saving_to = NONE;
        set_place(s, e, ROLE_CURRENT, place);
        e->dirty = false;
    }
    unlist(s, device);
    leave_frame(s, e);
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
static void settle(struct sl_adapter_store *s, uint32_t device, uint64_t now)
{
    struct entry *e = &s->entries[device];
    e->state = SL_ADAPTER_RESIDENT;
    if (e->front)
        start_save(s, device, true, now);
    else if (e->pinned)
        s->config.usable(s->config.app, device, now);
    else
        list(s, device);
}

static void serve(struct sl_adapter_store *s, uint64_t now)
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
            start_load(s, device, now);
        } else {
            sl_adapter_store_make_initial(s, &s->frames[frame]);
            s->stats.made++;
            settle(s, device, now);
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
        enqueue(s, device);
    serve(s, now_ns);
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
    enqueue(s, device);
    serve(s, now_ns);
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
        start_save(s, device, true, now_ns);
    else if (e->state == SL_ADAPTER_AWAY)
        enqueue(s, device);
    serve(s, now_ns);
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
            leave_frame(s, e);
        set_place(s, e, ROLE_CURRENT, e->place[ROLE_BOUNDARY]);
    }
    e->dirty = false;
    e->step = e->saved_step;
}

void sl_adapter_store_fetch(struct sl_adapter_store *s, uint32_t device, uint32_t what, uint64_t now_ns)
{
    struct entry *e = &s->entries[device];
    e->fetch_owed |= what;
    if (!e->front && !e->fetching)
        start_fetch(s, device, now_ns);
}

/* ---------------------------------------------------------------------------------------------- checkpoints
 */

void sl_adapter_store_checkpoint_begin(struct sl_adapter_store *s)
{
    for (uint32_t i = 0; i < s->config.max_devices; i++)
        set_place(s, &s->entries[i], ROLE_PENDING, s->entries[i].place[ROLE_BOUNDARY]);
}

void sl_adapter_store_checkpoint_end(struct sl_adapter_store *s, bool on_disk)
{
    for (uint32_t i = 0; i < s->config.max_devices; i++) {
        struct entry *e = &s->entries[i];
        if (on_disk)
            set_place(s, e, ROLE_DURABLE, e->place[ROLE_PENDING]);
        set_place(s, e, ROLE_PENDING, NONE);
    }
}

bool sl_adapter_store_boundary(
    const struct sl_adapter_store *s, uint32_t device, struct sl_adapter_boundary *b)
{
    const struct entry *e = &s->entries[device];
    *b = (struct sl_adapter_boundary){e->place[ROLE_BOUNDARY], e->saved_version, e->saved_step};
    return b->place != NONE;
}

/* --------------------------------------------------------------------------------------- what the disk did
 */

static void loaded(struct sl_adapter_store *s, uint32_t device, const struct completion *c)
{
    struct entry *e = &s->entries[device];
    uint64_t ns = c->done_ns - c->asked_ns;
    s->stats.load_ns += ns;
    s->stats.load_ns_max = ns > s->stats.load_ns_max ? ns : s->stats.load_ns_max;
    if (e->discard) {
        e->discard = false;
        leave_frame(s, e);
        set_place(s, e, ROLE_CURRENT, e->place[ROLE_BOUNDARY]);
        enqueue(s, device); /* where it is not needed, serve passes it */
        return;
    }
    if (c->place != NONE && (c->head.version != e->version - (e->front != NULL) || c->head.step != e->step)) {
        fail(s, "a stored adapter is older than it should be: the disk has lost a write");
        return;
    }
    e->dirty = false;
    settle(s, device, c->done_ns);
}

static void saved(struct sl_adapter_store *s, uint32_t device, const struct completion *c, uint64_t now)
{
    struct entry *e = &s->entries[device];
    uint32_t place = e->saving_to;
    e->saving_to = NONE;
    set_place(s, e, ROLE_CURRENT, place);
    set_place(s, e, ROLE_BOUNDARY, place);
    e->saved_version = c->head.version;
    e->saved_step = c->head.step;
    e->saving = e->dirty = false;
    free(e->front);
    e->front = NULL;
    s->n_pushes--;
    if (e->fetch_owed && !e->fetching)
        start_fetch(s, device, now);
    settle(s, device, c->done_ns);
}

static void fetched(struct sl_adapter_store *s, uint32_t device, uint64_t now)
{
    struct entry *e = &s->entries[device];
    e->fetching = false;
    if (e->fetch_owed && !e->front)
        start_fetch(s, device, now);
}

bool sl_adapter_store_turn(struct sl_adapter_store *s, uint64_t now_ns)
{
    struct completion *c;
    bool any = false;
    while ((c = sl_mailbox_take(s->completions))) {
        any = true;
        if (c->kind == SL_DISK_SAVE)
            s->frames[c->frame].saves--;
        if (c->status)
            fail(s, c->why);
        else if (c->kind == SL_DISK_FETCH)
            fetched(s, c->device, now_ns);
        else if (c->kind == SL_DISK_LOAD)
            loaded(s, c->device, c);
        else if (c->boundary)
            saved(s, c->device, c, now_ns);
        sl_mailbox_release(s->completions, c);
    }
    serve(s, now_ns);
    return any;
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

struct sl_disk_op *sl_adapter_store_take(struct sl_adapter_store *s)
{
    return sl_mailbox_take(s->requests);
}

void sl_adapter_store_done(struct sl_adapter_store *s, struct sl_disk_op *op, int status, const char *why)
{
    struct completion *c = sl_mailbox_claim(s->completions); /* by its size: never NULL */
    c->kind = op->kind;
    c->device = op->device;
    c->place = op->place;
    c->frame = op->frame ? (uint32_t)(op->frame - s->frames) : NONE;
    c->boundary = op->boundary;
    c->status = status;
    c->asked_ns = op->asked_ns;
    c->done_ns = op->done_ns;
    c->head = op->head;
    snprintf(c->why, sizeof c->why, "%s", why ? why : "");
    sl_mailbox_post(s->completions, c);
    sl_mailbox_release(s->requests, op);
}
