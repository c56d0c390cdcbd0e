#include "trainer/model/proximal.h"
#include "trainer/pipeline/trainer_internal.h"
#include "trainer/tensor/rows.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------------------------------- creation
 */

static void usable(void *app, uint32_t device, uint64_t since_ns)
{
    struct sl_trainer *t = app;
    struct device *d = &t->devices[device];
    if (!d->slot) /* an evaluation message waits, which looks for itself */
        return;
    t->personal.waiting -= d->adapter_awaited;
    d->adapter_awaited = false;
    d->usable_ns = since_ns;
    sl_gang_set_ready(t->gang, device, true);
}

static int refuse_checkpoint(char *err, size_t err_cap, const char *what)
{
    snprintf(err, err_cap, "the checkpoint in the run directory %s; use another --run directory", what);
    return -EINVAL;
}

static int get_part(struct sl_trainer *t, const struct sl_checkpoint *c, char *err, size_t err_cap)
{
    const struct sl_section *part = sl_checkpoint_part(c, SL_PART_PERSONAL);
    if (!part)
        return refuse_checkpoint(err, err_cap, "is of a run with one shared adapter");
    struct sl_section s = *part;
    uint32_t n = sl_section_u32(&s);
    for (uint32_t i = 0; i < n && !s.bad; i++) {
        char id[SL_CHECKPOINT_ID_BYTES];
        struct sl_adapter_boundary b;
        sl_section_bytes(&s, id, sizeof id);
        b.place = sl_section_u32(&s);
        b.version = sl_section_u64(&s);
        b.step = sl_section_u64(&s);
        if (s.bad || id[sizeof id - 1])
            break;
        uint32_t device = t->config.personal.index(t->config.app, id);
        if (device >= t->config.gang.max_devices)
            return refuse_checkpoint(
                err, err_cap, "knows more devices than edge.max_devices lets in; raise it");
        int status = sl_adapter_store_restore(t->personal.store, device, id, &b);
        if (status)
            return status == -ENOMEM ? status : refuse_checkpoint(err, err_cap, "names one record twice");
    }
    return sl_section_ended(&s) ? 0
                                : refuse_checkpoint(err, err_cap, "has a list of adapters that does not end");
}

int sl_personal_create(struct sl_trainer *t, const struct sl_checkpoint *resume, char *err, size_t err_cap)
{
    struct sl_personal *p = &t->personal;
    size_t bytes = t->n_layers * t->block * sizeof(float);
    p->initial = malloc(bytes);
    if (!p->initial)
        return -ENOMEM;
    memcpy(p->initial, sl_trainer_g(t, t->version), bytes);
    struct sl_adapter_store_config c = {.model = t->model,
        .lora = t->config.lora,
        .optim = t->config.optim,
        .first = t->config.min_cut,
        .max_cut = t->config.personal.max_cut,
        .max_devices = t->config.gang.max_devices,
        .resident = t->config.personal.resident,
        .initial = p->initial,
        .usable = usable,
        .app = t};
    int status = sl_adapter_store_create(&c, &p->store);
    if (status) {
        snprintf(err, err_cap, "not enough memory for %u adapters of %zu KiB; lower edge.adapters.resident",
            c.resident, sl_adapter_store_frame_bytes(&c) / 1024);
        return status;
    }
    return resume ? get_part(t, resume, err, err_cap) : 0;
}

void sl_personal_free(struct sl_trainer *t)
{
    sl_adapter_store_free(t->personal.store);
    free(t->personal.initial);
}

/* ---------------------------------------------------------------------------------------------- checkpoints
 */

void sl_personal_put_part(const struct sl_trainer *t, struct sl_image *image)
{
    struct sl_adapter_boundary b;
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++)
        n += sl_adapter_store_boundary(t->personal.store, i, &b);
    sl_image_section(image, SL_PART_PERSONAL);
    sl_image_u32(image, n);
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        if (!sl_adapter_store_boundary(t->personal.store, i, &b))
            continue;
        sl_image_bytes(image, sl_adapter_store_id(t->personal.store, i), SL_CHECKPOINT_ID_BYTES);
        sl_image_u32(image, b.place);
        sl_image_u64(image, b.version);
        sl_image_u64(image, b.step);
    }
}

uint64_t sl_personal_last_step(const struct sl_trainer *t, uint32_t device)
{
    struct sl_adapter_boundary b;
    return sl_adapter_store_boundary(t->personal.store, device, &b) ? b.step : 0;
}

bool sl_personal_first_checkpoint(struct sl_trainer *t)
{
    if (t->personal.first_made)
        return false;
    t->personal.first_made = t->personal.checkpoint_under_way = true;
    sl_adapter_store_checkpoint_begin(t->personal.store);
    return true;
}

void sl_personal_checkpointed(struct sl_trainer *t, bool on_disk)
{
    if (!t->personal.checkpoint_under_way)
        return;
    t->personal.checkpoint_under_way = false;
    sl_adapter_store_checkpoint_end(t->personal.store, on_disk);
}

static bool make_checkpoint(struct sl_trainer *t)
{
    struct sl_personal *p = &t->personal;
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (!e)
        return false;
    p->checkpoint_due = false;
    p->checkpoint_under_way = true;
    sl_adapter_store_checkpoint_begin(p->store);
    e->kind = SL_EVENT_CHECKPOINT;
    e->checkpoint.image = sl_trainer_checkpoint(t, &e->checkpoint.bytes);
    e->checkpoint.stats = p->stats;
    sl_adapter_store_stats(p->store, &e->checkpoint.stats.store);
    sl_mailbox_post(t->events, e);
    return true;
}

/* --------------------------------------------------------------------------------------- devices and
 * messages
 */

/* A device that does not hold the version that is stored here begins again from that; so does one that is new
 * to this run, whatever the edge has trained of it since. */
void sl_personal_join(struct sl_trainer *t, const struct sl_command *c)
{
    struct sl_adapter_store *store = t->personal.store;
    sl_adapter_store_know(store, c->device, c->id);
    if (c->anew || c->holds != sl_adapter_store_version(store, c->device))
        sl_adapter_store_roll_back(store, c->device);
}

void sl_personal_wait(struct sl_trainer *t, struct device *d)
{
    d->message_ns = d->usable_ns = t->config.now_ns();
    d->adapter_awaited = true;
    t->personal.waiting++;
    sl_adapter_store_want(t->personal.store, (uint32_t)(d - t->devices), d->message_ns);
}

void sl_personal_stop_waiting(struct sl_trainer *t, struct device *d)
{
    t->personal.waiting -= d->adapter_awaited;
    d->adapter_awaited = false;
    sl_adapter_store_unwant(t->personal.store, (uint32_t)(d - t->devices));
}

struct sl_adapter *sl_personal_adapter(struct sl_trainer *t, uint32_t device)
{
    struct sl_adapter_store *store = t->personal.store;
    sl_adapter_store_want(store, device, t->config.now_ns());
    return sl_adapter_store_usable(store, device) ? sl_adapter_store_frame(store, device)->adapter : NULL;
}

/* ----------------------------------------------------------------------------------------------------- gangs
 */

void sl_personal_begin_gang(struct sl_trainer *t)
{
    struct sl_personal *p = &t->personal;
    uint64_t message = sl_gang_opened_ns(t->gang), adapter = 0; /* the trainer was at work until then */
    for (uint32_t i = 0; i < sl_batch_members(t->batch); i++) {
        const struct device *d = &t->devices[sl_batch_member(t->batch, i)->device];
        message = d->message_ns > message ? d->message_ns : message;
        adapter = d->usable_ns > adapter ? d->usable_ns : adapter;
    }
    p->stats.gangs++;
    p->stats.gangs_waited += adapter > message;
    p->stats.waited_ns += adapter > message ? adapter - message : 0;
}

static bool gradient_is_finite(const struct sl_trainer *t, struct sl_adapter *a, uint32_t cut)
{
    for (uint32_t l = cut; l < t->n_layers; l++) {
        struct sl_block b = sl_adapter_block(a, l);
        if (!sl_all_finite(b.grad, b.n))
            return false;
    }
    return true;
}

/* The gradients have left. Devices do not meet in anything but base products, row by row: one whose gradient
 * is not finite has no part in the others' (rules T15). */
void sl_personal_step(struct sl_trainer *t, uint32_t left)
{
    for (uint32_t i = 0; i < left; i++) {
        const struct sl_batch_member *m = sl_batch_member(t->batch, i);
        struct sl_adapter_frame *f = sl_adapter_store_frame(t->personal.store, m->device);
        if (!m->left || !isfinite(m->nll) || !gradient_is_finite(t, f->adapter, m->cut)) {
            sl_trainer_tell(t, SL_EVENT_REFUSED, m->device, false,
                "its gradient is not finite; lower training.optimizer.lr");
            continue;
        }
        for (uint32_t l = m->cut; l < t->n_layers; l++) {
            struct sl_block b = sl_adapter_block(f->adapter, l);
            sl_proximal_add(f->adapter, l, NULL, t->config.optim.proximal, (double)m->rows, b.grad);
            sl_optim_apply(&t->config.optim, &f->moments[l - t->config.min_cut], b.data, b.grad, b.n,
                (double)m->rows, t->global_step);
        }
        sl_adapter_store_stepped(t->personal.store, m->device, m->step);
    }
}

void sl_personal_end_gang(struct sl_trainer *t, const struct sl_batch *b)
{
    for (uint32_t i = 0; t->personal.store && i < sl_batch_members(b); i++) {
        struct device *d = &t->devices[sl_batch_member(b, i)->device];
        if (!d->slot)
            sl_personal_stop_waiting(t, d);
    }
}

/* ------------------------------------------------------------------------------------------------ boundaries
 */

static void keep(struct sl_trainer *t, uint32_t device, bool tell_device)
{
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (!e)
        return;
    e->kind = SL_EVENT_KEPT;
    e->device = device;
    e->kept.version = sl_adapter_store_version(t->personal.store, device);
    e->kept.tell_device = tell_device;
    sl_mailbox_post(t->events, e);
}

void sl_personal_push(struct sl_trainer *t, const struct sl_command *c)
{
    struct device *d = &t->devices[c->device];
    const char *why = NULL;
    float *weights = c->push.weights;
    if (!d->live) {
        free(weights);
        return;
    }
    if (c->push.first != 0 || c->push.last != d->cut || c->push.n != d->cut * t->block)
        why = "the pushed adapter has the wrong shape";
    else
        why = sl_trainer_check_weights(t, weights, d->cut, d->rank);
    if (why)
        free(weights);
    else if (!sl_adapter_store_push(
                 t->personal.store, c->device, weights, d->cut, d->applied, t->config.now_ns()))
        why = "it pushed again before its last push was written";
    bool awaited = d->awaited;
    sl_trainer_no_longer_awaited(t, d);
    d->tokens_since = 0;
    d->steps_since = 0;
    if (why) {
        sl_trainer_tell(t, SL_EVENT_PUSH_REFUSED, c->device, false, why);
        return;
    }
    d->in_round = awaited;
    if (!awaited) { /* it missed the round, or the run is over */
        d->version = t->version;
        t->personal.checkpoint_due = true;
    }
    keep(t, c->device, !awaited);
}

void sl_personal_pull(struct sl_trainer *t, const struct sl_command *c)
{
    sl_adapter_store_fetch(t->personal.store, c->device, c->what, t->config.now_ns());
}

bool sl_personal_close_round(struct sl_trainer *t, uint64_t now_ns)
{
    struct sl_personal *p = &t->personal;
    if (p->checkpoint_under_way)
        return false;
    t->version++;
    memcpy(sl_trainer_g(t, t->version), p->initial, t->n_layers * t->block * sizeof(float));
    t->oldest = t->version;
    uint32_t n = sl_trainer_close_round(t);
    for (uint32_t i = 0; i < n; i++)
        keep(t, t->order[i], true);
    sl_trainer_announce(t, 0, n, 0, t->config.now_ns() - now_ns);
    p->checkpoint_due = true;
    p->ending = t->finishing;
    if (!p->ending)
        sl_gang_open(t->gang, t->config.now_ns());
    for (uint32_t i = 0; p->ending && i < t->config.gang.max_devices; i++)
        if (t->devices[i].slot) /* nobody trains on it any more, and pushes may need its adapter's memory */
            sl_personal_stop_waiting(t, &t->devices[i]);
    return true;
}

/* A device that has a slot computes now, and sends then: its adapter has that long to come. */
static void take_hints(struct sl_trainer *t, uint64_t now_ns)
{
    uint32_t devices[POP_BURST];
    for (uint32_t i = 0; i < t->config.n_lcores; i++) {
        struct sl_ring_spsc *granted = t->config.lcore[i].granted;
        unsigned n = granted ? sl_ring_spsc_pop(granted, devices, POP_BURST) : 0;
        for (unsigned k = 0; k < n; k++)
            if (devices[k] < t->config.gang.max_devices)
                sl_adapter_store_hint(t->personal.store, devices[k], now_ns);
    }
}

bool sl_personal_turn(struct sl_trainer *t, uint64_t now_ns)
{
    struct sl_personal *p = &t->personal;
    if (!p->store)
        return false;
    take_hints(t, now_ns);
    bool worked = sl_adapter_store_turn(p->store, now_ns);
    if (sl_adapter_store_error(p->store)) {
        if (!p->error_told)
            sl_trainer_tell(t, SL_EVENT_DIVERGED, 0, false, sl_adapter_store_error(p->store));
        p->error_told = t->finished = true;
        sl_gang_close(t->gang);
        return worked;
    }
    if (p->checkpoint_due && !p->checkpoint_under_way && sl_adapter_store_pushes(p->store) == 0)
        worked = make_checkpoint(t) || worked;
    if (p->ending && !p->checkpoint_due) {
        p->ending = false;
        sl_trainer_end_training(t, now_ns);
        worked = true;
    }
    return worked;
}
