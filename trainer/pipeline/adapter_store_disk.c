#include "trainer/pipeline/adapter_store_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

void sl_store_set_place(struct sl_adapter_store *s, struct entry *e, enum role role, uint32_t place)
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
        sl_store_fail(s, "out of memory");
        return false;
    }
    return true;
}

/* ---------------------------------------------------------------------------------------- what is asked for
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

void sl_store_load(struct sl_adapter_store *s, uint32_t device, uint64_t now)
{
    struct entry *e = &s->entries[device];
    struct sl_disk_op *op = ask(s, SL_DISK_LOAD, device, now);
    op->place = e->place[ROLE_CURRENT];
    e->state = SL_ADAPTER_COMING;
    s->stats.loads += op->place != NONE;
    s->stats.made += op->place == NONE;
    sl_mailbox_post(s->requests, op);
}

bool sl_store_save(struct sl_adapter_store *s, uint32_t device, bool boundary, uint64_t now)
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
        sl_store_set_place(s, &s->entries[i], ROLE_PENDING, s->entries[i].place[ROLE_BOUNDARY]);
}

void sl_adapter_store_checkpoint_end(struct sl_adapter_store *s, bool on_disk)
{
    for (uint32_t i = 0; i < s->config.max_devices; i++) {
        struct entry *e = &s->entries[i];
        if (on_disk)
            sl_store_set_place(s, e, ROLE_DURABLE, e->place[ROLE_PENDING]);
        sl_store_set_place(s, e, ROLE_PENDING, NONE);
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
        sl_store_leave_frame(s, e);
        sl_store_set_place(s, e, ROLE_CURRENT, e->place[ROLE_BOUNDARY]);
        sl_store_enqueue(s, device); /* where it is not needed, serve passes it */
        return;
    }
    if (c->place != NONE && (c->head.version != e->version - (e->front != NULL) || c->head.step != e->step)) {
        sl_store_fail(s, "a stored adapter is older than it should be: the disk has lost a write");
        return;
    }
    e->dirty = false;
    sl_store_settle(s, device, c->done_ns);
}

static void saved(struct sl_adapter_store *s, uint32_t device, const struct completion *c, uint64_t now)
{
    struct entry *e = &s->entries[device];
    uint32_t place = e->saving_to;
    e->saving_to = NONE;
    sl_store_set_place(s, e, ROLE_CURRENT, place);
    sl_store_set_place(s, e, ROLE_BOUNDARY, place);
    e->saved_version = c->head.version;
    e->saved_step = c->head.step;
    e->saving = e->dirty = false;
    free(e->front);
    e->front = NULL;
    s->n_pushes--;
    if (e->fetch_owed && !e->fetching)
        start_fetch(s, device, now);
    sl_store_settle(s, device, c->done_ns);
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
            sl_store_fail(s, c->why);
        else if (c->kind == SL_DISK_FETCH)
            fetched(s, c->device, now_ns);
        else if (c->kind == SL_DISK_LOAD)
            loaded(s, c->device, c);
        else if (c->boundary)
            saved(s, c->device, c, now_ns);
        sl_mailbox_release(s->completions, c);
    }
    sl_store_serve(s, now_ns);
    return any;
}

/* ----------------------------------------------------------------------------------------- the other thread
 */

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
