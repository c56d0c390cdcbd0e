/* Creation, commands and the turn. */
#include "trainer/pipeline/trainer_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { COMMANDS = 1024, EVENTS_MIN = 1024 };

/* ------------------------------------------------------------------------------------------------ creation
 */

static int fail(char *err, size_t err_cap, int status, const char *what)
{
    snprintf(err, err_cap, "%s", what);
    return status;
}

static int begin_anew(struct sl_trainer *t)
{
    struct sl_adapter *g;
    int err = sl_adapter_create(t->model, &t->config.lora, 0, t->n_layers, &g);
    if (err)
        return err;
    for (uint32_t l = 0; l < t->n_layers; l++)
        memcpy(sl_trainer_g(t, 0) + l * t->block, sl_adapter_block(g, l).data, t->block * sizeof(float));
    sl_adapter_free(g);
    return 0;
}

static int create_batches(struct sl_trainer *t)
{
    const struct sl_trainer_config *c = &t->config;
    struct sl_batch_config b = {.model = c->model,
        .adapter = t->edge,
        .first = c->min_cut,
        .max_rows = c->max_rows,
        .max_members =
            c->gang.async && c->max_members && c->max_members < t->n_slots ? c->max_members : t->n_slots,
        .codec = c->codec,
        .recompute = c->recompute,
        .modelled = c->modelled,
        .pace = c->pace,
        .leave = sl_trainer_leave,
        .app = t};
    int err = sl_batch_create(&b, &t->batch);
    b.max_rows = c->eval_rows;
    b.max_members = t->n_slots;
    b.inference = true;
    b.pace = NULL;
    b.leave = NULL;
    return err ? err : sl_batch_create(&b, &t->eval);
}

static int allocate(struct sl_trainer *t)
{
    uint32_t max_devices = t->config.gang.max_devices, events = EVENTS_MIN;
    size_t all = t->n_layers * t->block;
    while (events < 4 * (t->n_slots + max_devices))
        events *= 2;
    t->history = calloc(t->n_history, sizeof *t->history);
    t->tokens_then = calloc(t->n_history, sizeof *t->tokens_then);
    if (!t->history || !t->tokens_then)
        return -ENOMEM;
    for (unsigned i = 0; i < t->n_history; i++)
        if (!(t->history[i] = calloc(all, sizeof(float))))
            return -ENOMEM;
    t->next = malloc(all * sizeof(float));
    t->edge_weights = malloc(all * sizeof(float));
    t->sum = malloc(t->block * sizeof *t->sum);
    t->copies = calloc(max_devices + 1u, sizeof *t->copies);
    t->changed = calloc(t->n_layers, sizeof *t->changed);
    t->of = calloc(max_devices + 1u, sizeof *t->of);
    t->devices = calloc(max_devices, sizeof *t->devices);
    t->order = calloc(max_devices, sizeof *t->order);
    t->eval_queue = calloc(t->n_slots, sizeof *t->eval_queue);
    t->tokens_at = calloc(t->n_layers, sizeof *t->tokens_at);
    t->moments = calloc(t->n_layers, sizeof *t->moments);
    t->commands = sl_mailbox_create(COMMANDS, sizeof(struct sl_command));
    t->events = sl_mailbox_create(events, sizeof(struct sl_event));
    if (!t->next || !t->edge_weights || !t->sum || !t->copies || !t->changed || !t->of || !t->devices ||
        !t->order || !t->eval_queue || !t->tokens_at || !t->moments || !t->commands || !t->events)
        return -ENOMEM;
    int err = sl_trainer_create_sums(t);
    for (uint32_t l = t->owned; !err && l < t->n_layers; l++)
        err = sl_moments_create(&t->config.optim, t->block, &t->moments[l]);
    if (!err)
        err = sl_adapter_create(t->model, &t->config.lora, t->config.min_cut, t->n_layers, &t->edge);
    if (!err && t->config.optim.proximal > 0)
        err = sl_adapter_create(t->model, &t->config.lora, 0, t->n_layers, &t->whole);
    if (!err)
        err = create_batches(t);
    if (!err && t->config.server.kind != SL_SERVER_NONE)
        err = sl_server_create(&t->config.server, t->n_layers, t->block, &t->server);
    t->config.gang.n_lcores = t->config.n_lcores;
    for (uint32_t i = 0; i < t->config.n_lcores; i++)
        t->config.gang.lcore_slots[i] = sl_slots_count(t->config.lcore[i].slots);
    return err ? err : sl_gang_create(&t->config.gang, &t->gang);
}

int sl_trainer_create(
    const struct sl_trainer_config *config, struct sl_trainer **out, char *err, size_t err_cap)
{
    *out = NULL;
    struct sl_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return fail(err, err_cap, -ENOMEM, "not enough memory for the trainer");
    t->config = *config;
    t->model = sl_model_config(config->model);
    t->n_layers = t->model->n_layers;
    t->block = sl_adapter_block_size(t->model, &config->lora);
    for (uint32_t i = 0; i < config->n_lcores && i < SL_LCORES_MAX; i++)
        t->n_slots += sl_slots_count(config->lcore[i].slots);
    if (!t->config.push_timeout_ns)
        t->config.push_timeout_ns = SL_PUSH_TIMEOUT_NS;
    t->n_history = config->gang.async ? config->staleness + 1 : SL_TRAINER_HISTORY;
    t->ready_since_ns = UINT64_MAX;
    t->load = config->load ? config->load : &t->own_load;
    int status = -EINVAL;
    if (config->n_lcores >= 1 && config->n_lcores <= SL_LCORES_MAX && config->min_cut >= 1 &&
        config->min_cut < t->n_layers && config->aggregate_every && t->block)
        status = allocate(t);
    if (status) {
        sl_trainer_free(t);
        return fail(err, err_cap, status,
            status == -ENOMEM ? "not enough memory for the trainer; lower edge.slots or training.batch"
                              : "the cut, aggregate_every or LoRA targets do not fit the model");
    }
    err[0] = '\0';
    status = config->resume ? sl_trainer_restore(t, config->resume, err, err_cap) : begin_anew(t);
    if (!status && config->personal.resident)
        status = sl_personal_create(t, config->resume, err, err_cap);
    if (status) {
        sl_trainer_free(t);
        return err[0] ? status : fail(err, err_cap, status, "not enough memory for the adapter");
    }
    t->config.resume = NULL;
    t->boundary_step = t->global_step;
    sl_trainer_install_g(t);
    sl_trainer_announce(t, 0, 0, 0, 0);
    *out = t;
    return 0;
}

static void free_event(struct sl_event *e)
{
    if (e->kind == SL_EVENT_CHECKPOINT)
        free(e->checkpoint.image);
    if (e->kind == SL_EVENT_CUT)
        sl_given_moments_free(e->cut.moments, e->cut.to - e->cut.from);
    if (e->kind != SL_EVENT_VERSION)
        return;
    free(e->version.g);
    free(e->version.devices);
    free(e->version.steps);
    free(e->version.checkpoint);
}

static void empty_mailboxes(struct sl_trainer *t)
{
    struct sl_event *e;
    struct sl_command *c;
    while (t->events && (e = sl_mailbox_take(t->events))) {
        free_event(e);
        sl_mailbox_release(t->events, e);
    }
    while (t->commands && (c = sl_mailbox_take(t->commands))) {
        if (c->kind == SL_COMMAND_PUSH)
            free(c->push.weights);
        sl_mailbox_release(t->commands, c);
    }
}

void sl_trainer_free(struct sl_trainer *t)
{
    if (!t)
        return;
    empty_mailboxes(t);
    sl_batch_free(t->batch);
    sl_batch_free(t->eval);
    sl_personal_free(t);
    sl_adapter_free(t->edge);
    sl_adapter_free(t->whole);
    sl_gang_free(t->gang);
    for (uint32_t l = 0; t->moments && l < t->n_layers; l++)
        sl_moments_free(&t->moments[l]);
    for (uint32_t d = 0; t->devices && d < t->config.gang.max_devices; d++)
        free(t->devices[d].push.weights);
    for (unsigned i = 0; t->history && i < t->n_history; i++)
        free(t->history[i]);
    free(t->history);
    free(t->tokens_then);
    free(t->of);
    free(t->moments);
    free(t->tokens_at);
    sl_trainer_free_sums(t);
    free(t->next);
    free(t->edge_weights);
    free(t->sum);
    free(t->copies);
    free(t->changed);
    sl_server_free(t->server);
    free(t->devices);
    free(t->order);
    free(t->eval_queue);
    free(t->resumed);
    sl_mailbox_free(t->commands);
    sl_mailbox_free(t->events);
    free(t);
}

/* ------------------------------------------------------------------------------------------------ commands
 */

static struct sl_slot *take_waiting(struct sl_trainer *t, struct device *d)
{
    struct sl_slot *slot = d->slot;
    d->slot = NULL;
    sl_gang_set_ready(t->gang, (uint32_t)(d - t->devices), false);
    if (t->personal.store)
        sl_personal_stop_waiting(t, d);
    return slot;
}

static void leave(struct sl_trainer *t, struct device *d)
{
    if (!d->live)
        return;
    struct sl_slot *slot = take_waiting(t, d);
    if (slot)
        sl_trainer_return(t, slot, SL_RESULT_SKIPPED, 0);
    sl_trainer_no_longer_awaited(t, d);
    sl_trainer_no_more_moments(t, d);
    sl_trainer_unpark(t, d);
    sl_gang_set_live(t->gang, (uint32_t)(d - t->devices), false);
    d->live = false;
}

/* What the checkpoint knows of a device that comes for the first time in this incarnation. */
static uint64_t resumed_step(struct sl_trainer *t, const char *id)
{
    for (uint32_t i = 0; i < t->n_resumed; i++) {
        if (strcmp(t->resumed[i].id, id))
            continue;
        uint64_t step = t->resumed[i].last_step;
        t->resumed[i] = t->resumed[--t->n_resumed];
        return step;
    }
    return 0;
}

static void join(struct sl_trainer *t, const struct sl_command *c)
{
    struct device *d = &t->devices[c->device];
    leave(t, d);
    bool known = strcmp(d->id, c->id) == 0;
    if (!known) {
        memcpy(d->id, c->id, sizeof d->id);
        sl_trainer_set_applied(d, resumed_step(t, d->id));
        d->tokens_since = 0;
    } else if (d->push.weights) { /* it is back with what it pushed, and will push it again */
        d->tokens_since += d->push.tokens;
        t->n_pushes -= t->n_pushes && d->in_round;
        free(d->push.weights);
        d->push = (struct pending_push){0};
    } /* else it may go on from what it has: its tokens stay on the account */
    d->live = true;
    d->in_round = false;
    d->steps_since = 0;
    d->lcore = c->lcore;
    d->session = c->session;
    sl_trainer_join_cut(t, d, c, known);
    d->rank = c->rank == t->config.lora.rank ? 0 : c->rank;
    d->version = t->version;
    if (t->personal.store)
        sl_personal_join(t, c);
    sl_gang_set_lcore(t->gang, c->device, c->lcore);
    sl_gang_set_live(t->gang, c->device, true);
}

static void return_waiting(struct sl_trainer *t)
{
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        struct sl_slot *slot = take_waiting(t, &t->devices[i]);
        if (slot)
            sl_trainer_return(t, slot, SL_RESULT_SKIPPED, 0);
    }
    for (uint32_t i = 0; i < t->n_eval; i++)
        sl_trainer_return(t, t->eval_queue[i], SL_RESULT_SKIPPED, 0);
    t->n_eval = 0;
}

static void set_phase(struct sl_trainer *t, enum sl_trainer_phase phase, uint64_t now)
{
    if (phase == t->phase)
        return;
    return_waiting(t);
    if (t->phase == SL_TRAINER_TRAIN && t->train_from_ns) {
        t->train_ns += now - t->train_from_ns;
        t->train_from_ns = 0;
        sl_load_end(t->load, now);
    }
    t->phase = phase;
    if (phase == SL_TRAINER_TRAIN) {
        t->train_from_ns = now;
        sl_load_begin(t->load, now);
        if (t->config.steps && t->global_step >= t->config.steps)
            sl_trainer_finish(t, now);
        else
            sl_gang_open(t->gang, now);
    } else {
        sl_gang_close(t->gang);
    }
}

static void obey(struct sl_trainer *t, const struct sl_command *c, uint64_t now)
{
    switch (c->kind) {
    case SL_COMMAND_JOIN:
        join(t, c);
        break;
    case SL_COMMAND_LEAVE:
        leave(t, &t->devices[c->device]);
        break;
    case SL_COMMAND_PHASE:
        set_phase(t, c->phase, now);
        break;
    case SL_COMMAND_FINISH:
        sl_trainer_finish(t, now);
        break;
    case SL_COMMAND_SENT:
        t->devices[c->device].version = c->version;
        t->devices[c->device].steps_since = 0;
        break;
    case SL_COMMAND_PULL:
        sl_personal_pull(t, c);
        break;
    case SL_COMMAND_CHECKPOINTED:
        sl_personal_checkpointed(t, c->on_disk);
        break;
    case SL_COMMAND_PUSH:
        if (c->push.kind == SL_PUSH_MOMENTS)
            sl_trainer_take_moments(t, c);
        else
            sl_trainer_take_push(t, c);
        break;
    case SL_COMMAND_SHARE:
        sl_trainer_set_share(t, c->device, c->share);
        break;
    case SL_COMMAND_CUT:
        sl_trainer_command_cut(t, c);
        break;
    }
}

/* ------------------------------------------------------------------------------------------------ the turn
 */

static void sort_in(struct sl_trainer *t, uint32_t lcore, uint32_t handle)
{
    struct sl_slot *slot = sl_slot_get(t->config.lcore[lcore].slots, handle);
    if (!slot)
        return;
    slot->state = SL_SLOT_IN_BATCH;
    slot->lcore = (uint8_t)lcore;
    uint32_t index = (uint32_t)slot->device;
    struct device *d = slot->device < t->config.gang.max_devices ? &t->devices[index] : NULL;
    if (t->config.latency && slot->ready_ns >= slot->first_ns) {
        uint32_t latency = (uint32_t)((slot->ready_ns - slot->first_ns) / 100);
        sl_ring_spsc_push(t->config.latency, &latency, 1);
    }
    if (!d || !d->live || d->lcore != lcore || d->session != slot->session) {
        sl_trainer_return(t, slot, SL_RESULT_SKIPPED, 0);
    } else if (slot->request.cut && slot->request.cut != (uint8_t)d->cut) {
        sl_trainer_refuse_old_cut(t, slot);
    } else if (slot->request.kind == SL_REQUEST_EVAL) {
        if (t->phase == SL_TRAINER_EVAL)
            t->eval_queue[t->n_eval++] = slot;
        else
            sl_trainer_return(t, slot, SL_RESULT_SKIPPED, 0);
    } else if (t->phase != SL_TRAINER_TRAIN || t->finished || t->personal.ending || d->slot ||
               slot->request.step <= d->applied || (t->aggregating && t->config.gang.async)) {
        /* A step that was applied here already is over (rules T12). Where the push after it is waited for,
         * that is said again. */
        sl_trainer_return(t, slot, SL_RESULT_SKIPPED, d->awaited ? SL_RESULT_BOUNDARY : 0);
    } else if (!sl_trainer_refuse_stale(t, d, slot)) {
        d->slot = slot;
        d->tag = sl_share_tag(&t->share, d->served);
        if (t->personal.store)
            sl_personal_wait(t, d);
        else
            sl_gang_set_ready(t->gang, index, true);
        if (slot->ready_ns < t->ready_since_ns)
            t->ready_since_ns = slot->ready_ns;
    }
}

/* Work waits for the trainer, or for slots. */
static bool offered(const struct sl_trainer *t)
{
    return sl_gang_ready(t->gang) > 0 || t->personal.waiting > 0 ||
           (t->config.waiting && t->config.waiting(t->config.app) > 0);
}

static bool train(struct sl_trainer *t, uint64_t now)
{
    if (sl_trainer_moments_missing(t, now))
        return false;
    if (t->exchanging)
        sl_gang_open(t->gang, now);
    t->exchanging = false;
    if (t->aggregating) {
        if (sl_trainer_maybe_aggregate(t, now))
            return true;
        if (!sl_trainer_may_overlap(t) || !sl_gang_should_start(t->gang, now))
            return false;
        sl_trainer_run_gang(t, now);
        return true;
    }
    if (t->n_pushes) {
        sl_trainer_aggregate(t);
        return true;
    }
    if (sl_gang_should_start(t->gang, now)) {
        sl_trainer_run_gang(t, now);
        return true;
    }
    if (t->n_parked && sl_gang_live(t->gang) == 0) { /* everybody waits for a new G */
        sl_trainer_begin_aggregation(t, now);
        return true;
    }
    if (t->finishing && (sl_gang_live(t->gang) == 0 || now >= t->finish_deadline_ns)) {
        sl_trainer_begin_aggregation(t, now);
        return true;
    }
    return false;
}

bool sl_trainer_turn(struct sl_trainer *t)
{
    uint32_t handles[SL_LCORES_MAX][POP_BURST];
    unsigned n[SL_LCORES_MAX];
    struct sl_command *c;
    bool worked = false;
    /* A message is looked at only after the commands that were posted before it came: its device is known
     * then. */
    for (uint32_t i = 0; i < t->config.n_lcores; i++) {
        n[i] = sl_ring_spsc_pop(t->config.lcore[i].ready, handles[i], POP_BURST);
        worked = worked || n[i];
    }
    while ((c = sl_mailbox_take(t->commands))) {
        obey(t, c, t->config.now_ns());
        sl_mailbox_release(t->commands, c);
        worked = true;
    }
    for (uint32_t i = 0; i < t->config.n_lcores; i++)
        for (unsigned k = 0; k < n[i]; k++)
            sort_in(t, i, handles[i][k]);
    /* Events are never lost: nothing that makes them begins while their table is nearly full. */
    if (sl_mailbox_room(t->events) < t->n_slots + t->config.gang.max_devices + 16)
        return false;
    uint64_t now = t->config.now_ns();
    worked = sl_personal_turn(t, now) || worked;
    if (t->n_eval)
        return sl_trainer_run_eval(t) || worked;
    sl_load_idle(t->load, t->ready_since_ns, offered(t), now);
    t->ready_since_ns = UINT64_MAX;
    if (t->phase != SL_TRAINER_TRAIN || t->finished)
        return worked;
    if (!train(t, now))
        return worked;
    sl_load_busy(t->load, offered(t), t->config.now_ns());
    return true;
}

/* ------------------------------------------------------------------------------------------ control's side
 */

struct sl_command *sl_trainer_command(struct sl_trainer *t)
{
    return sl_mailbox_claim(t->commands);
}

void sl_trainer_post(struct sl_trainer *t, struct sl_command *c)
{
    sl_mailbox_post(t->commands, c);
}

struct sl_event *sl_trainer_event(struct sl_trainer *t)
{
    return sl_mailbox_take(t->events);
}

void sl_trainer_release(struct sl_trainer *t, struct sl_event *e)
{
    sl_mailbox_release(t->events, e);
}

uint64_t sl_trainer_applied(const struct sl_trainer *t, uint32_t device)
{
    return __atomic_load_n(&t->devices[device].applied, __ATOMIC_RELAXED);
}

uint64_t sl_trainer_held_ns(const struct sl_trainer *t, uint32_t device)
{
    return __atomic_load_n(&t->devices[device].held_ns, __ATOMIC_RELAXED);
}

uint64_t sl_trainer_gemms(const struct sl_trainer *t)
{
    return sl_batch_gemms(t->batch);
}

struct sl_adapter_store *sl_trainer_store(struct sl_trainer *t)
{
    return t->personal.store;
}

bool sl_trainer_asked_disk(struct sl_trainer *t)
{
    return t->personal.store && sl_adapter_store_asked(t->personal.store);
}

struct sl_adapter *sl_trainer_adapter(struct sl_trainer *t)
{
    return t->edge;
}
