/* Pushes, aggregation at a boundary, and what becomes of G. */
#include "trainer/model/proximal.h"
#include "trainer/pipeline/trainer_internal.h"
#include "trainer/tensor/rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool kept(const struct sl_trainer *t, uint64_t version)
{
    return version <= t->version && version >= t->oldest;
}

void sl_trainer_no_longer_awaited(struct sl_trainer *t, struct device *d)
{
    if (d->awaited && t->n_awaited)
        t->n_awaited--;
    d->awaited = false;
}

void sl_trainer_tell(
    struct sl_trainer *t, enum sl_event_kind kind, uint32_t device, bool stale, const char *why)
{
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (!e)
        return;
    e->kind = kind;
    e->device = device;
    e->stale = stale;
    e->why = why;
    sl_mailbox_post(t->events, e);
}

/* Rules T15: finite, and no factor's RMS beyond the bound. */
const char *sl_trainer_check_weights(
    const struct sl_trainer *t, const float *weights, uint32_t n_blocks, uint32_t rank)
{
    const struct sl_lora_config *lora = &t->config.lora;
    struct sl_lora_config own = *lora;
    own.rank = rank ? rank : lora->rank;
    size_t block = sl_adapter_block_size(t->model, &own);
    for (uint32_t l = 0; l < n_blocks; l++) {
        const float *w = weights + l * block;
        for (unsigned pass = lora->freeze_a; pass < 2; pass++) {
            for (unsigned target = 0; target < SL_TARGET_COUNT; target++) {
                uint32_t in, out;
                if (!(lora->targets >> target & 1))
                    continue;
                sl_target_dims(t->model, (enum sl_target)target, &in, &out);
                size_t values = (size_t)own.rank * (pass == 0 ? in : out);
                double sum = 0;
                for (size_t i = 0; i < values; i++)
                    sum += (double)w[i] * w[i];
                if (!isfinite(sum))
                    return "the pushed adapter is not finite";
                if (sum > SL_PUSH_RMS_MAX * SL_PUSH_RMS_MAX * (double)values)
                    return "the pushed adapter is out of bounds: a factor's RMS is beyond 1000";
                w += values;
            }
        }
    }
    return NULL;
}

void sl_trainer_take_push(struct sl_trainer *t, const struct sl_command *c)
{
    if (t->personal.store) {
        sl_personal_push(t, c);
        return;
    }
    struct device *d = &t->devices[c->device];
    float *weights = c->push.weights;
    const char *why = NULL;
    if (!d->live) {
        free(weights);
        return;
    }
    bool stale = !kept(t, c->push.version);
    if (stale)
        why = "the push started from a version that is no longer kept";
    else if (c->push.first != 0 || c->push.last != d->cut || c->push.n != sl_trainer_push_size(t, d))
        why = "the pushed adapter has the wrong shape";
    else if (c->push.kind != sl_trainer_push_kind(t))
        why = "the device pushed weights where gradients are aggregated, or the other way round";
    else if (c->push.kind == SL_PUSH_GRADIENTS)
        why = sl_trainer_check_gradients(t, c);
    else
        why = sl_trainer_check_weights(t, weights, d->cut, d->rank);
    if (why) {
        free(weights);
        sl_trainer_no_longer_awaited(t, d);
        d->version = t->version;
        d->tokens_since = 0;
        d->steps_since = 0;
        if (stale)
            sl_trainer_change_cuts(t, &c->device, 1);
        sl_trainer_tell(t, SL_EVENT_PUSH_REFUSED, c->device, stale, why);
        return;
    }
    free(d->push.weights);
    d->push = (struct pending_push){.weights = weights,
        .version = c->push.version,
        .tokens = c->push.tokens < d->tokens_since ? c->push.tokens : d->tokens_since,
        .last = c->push.last};
    d->tokens_since = 0;
    d->steps_since = 0;
    if (t->config.gang.async && !t->aggregating) { /* merged before the next gang (trainer_async.c) */
        d->in_round = true;
        t->n_pushes++;
        return;
    }
    if (d->awaited) {
        sl_trainer_no_longer_awaited(t, d);
        d->in_round = true;
        return; /* it gets the new G with the others */
    }
    if (c->push.version == t->version) {
        /* There is no newer G to give it. It holds no gang up until there is. */
        d->in_round = true;
        if (!d->parked)
            t->n_parked++;
        d->parked = true;
        sl_gang_set_live(t->gang, c->device, false);
        return;
    }
    d->version = t->version;
    sl_trainer_change_cuts(t, &c->device, 1);
    sl_trainer_tell(t, SL_EVENT_INSTALL, c->device, false, NULL);
}

void sl_trainer_unpark(struct sl_trainer *t, struct device *d)
{
    if (!d->parked)
        return;
    d->parked = false;
    t->n_parked--;
    sl_gang_set_live(t->gang, (uint32_t)(d - t->devices), d->live);
}

bool sl_trainer_may_overlap(const struct sl_trainer *t)
{
    const struct sl_trainer_config *c = &t->config;
    bool last = t->finishing || (c->steps && t->global_step + 1 >= c->steps);
    return c->aggregation == SL_AGGREGATE_WEIGHTS && c->accumulate == 1 && !c->gang.deterministic &&
           !c->gang.async && !t->personal.store && !last && sl_gang_crowded(t->gang);
}

void sl_trainer_begin_aggregation(struct sl_trainer *t, uint64_t now_ns)
{
    t->aggregating = true;
    t->push_deadline_ns = now_ns + t->config.push_timeout_ns;
    if (!sl_trainer_may_overlap(t))
        sl_gang_close(t->gang);
}

void sl_trainer_install_g(struct sl_trainer *t)
{
    const float *g = sl_trainer_g(t, t->version);
    for (uint32_t l = t->config.min_cut; l < t->n_layers; l++)
        memcpy(sl_adapter_block(t->edge, l).data, g + l * t->block, t->block * sizeof *g);
}

/* ------------------------------------------------------------------------------------- announcing a version
 */

void sl_trainer_announce(struct sl_trainer *t, uint32_t n, uint32_t copies, double factor_error, uint64_t ns)
{
    size_t bytes = t->n_layers * t->block * sizeof(float);
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (!e)
        return;
    e->kind = SL_EVENT_VERSION;
    e->version.version = t->version;
    e->version.global_step = t->global_step;
    e->version.copies = copies;
    e->version.left_out = t->left_out;
    e->version.factor_error = factor_error;
    e->version.mean_error = t->mean_error;
    e->version.proximal = 0;
    for (uint32_t l = 0; t->whole && l < t->n_layers; l++)
        e->version.proximal += sl_proximal_add(
            t->whole, l, sl_trainer_g(t, t->version) + l * t->block, t->config.optim.proximal, 0, NULL);
    e->version.ns = ns;
    e->version.g = malloc(bytes);
    e->version.devices = malloc((n + 1u) * sizeof *e->version.devices);
    e->version.steps = malloc(t->config.gang.max_devices * sizeof *e->version.steps);
    if (e->version.g)
        memcpy(e->version.g, sl_trainer_g(t, t->version), bytes);
    if (e->version.devices) {
        memcpy(e->version.devices, t->order, n * sizeof *e->version.devices);
        e->version.n_devices = n;
    }
    for (uint32_t i = 0; e->version.steps && i < t->config.gang.max_devices; i++)
        e->version.steps[i] = t->devices[i].applied;
    uint64_t from = t->config.now_ns();
    e->version.checkpoint =
        sl_trainer_checkpoint_due(t, from) ? sl_trainer_checkpoint(t, &e->version.checkpoint_bytes) : NULL;
    e->version.checkpoint_ns = t->config.now_ns() - from;
    sl_mailbox_post(t->events, e);
}

/* ---------------------------------------------------------------------------------------------- aggregation
 */

/* The copies that go in: pushes in device order, then the edge's own. */
static uint32_t collect(struct sl_trainer *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        const struct pending_push *p = &t->devices[i].push;
        if (!p->weights || !p->tokens || !kept(t, p->version))
            continue;
        t->copies[n++] = (struct sl_copy){.last = p->last,
            .weights = p->weights,
            .base = p->version == t->version ? NULL : sl_trainer_g(t, p->version),
            .tokens = p->tokens,
            .rank = t->devices[i].rank};
        t->of[n - 1] = t->tokens - t->tokens_then[p->version % t->n_history];
    }
    for (uint32_t l = t->config.min_cut; l < t->n_layers; l++)
        memcpy(t->edge_weights + (l - t->config.min_cut) * t->block, sl_adapter_block(t->edge, l).data,
            t->block * sizeof(float));
    t->copies[n++] = (struct sl_copy){.first = t->config.min_cut,
        .last = t->n_layers,
        .weights = t->edge_weights,
        .tokens_at = t->tokens_at};
    t->of[n - 1] = t->tokens - t->tokens_then[t->version % t->n_history];
    return n;
}

/* Puts into order[] who gets the new G: whoever pushed for this boundary and is still there. Those that
 * pushed between two boundaries have had a G already and have gone on from it. */
uint32_t sl_trainer_close_round(struct sl_trainer *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        struct device *d = &t->devices[i];
        free(d->push.weights);
        d->push = (struct pending_push){0};
        if (d->live && d->in_round) {
            d->version = t->version;
            t->order[n++] = i;
        }
        d->in_round = d->awaited = false;
        sl_trainer_unpark(t, d);
    }
    memset(t->tokens_at, 0, t->n_layers * sizeof *t->tokens_at);
    t->gangs_since = t->n_awaited = t->n_pushes = 0;
    t->aggregating = false;
    return n;
}

void sl_trainer_end_training(struct sl_trainer *t, uint64_t now_ns)
{
    t->finished = true;
    sl_load_end(t->load, now_ns);
    t->train_ns += t->train_from_ns ? now_ns - t->train_from_ns : 0;
    t->train_from_ns = 0;
    sl_gang_close(t->gang);
    sl_trainer_tell(t, SL_EVENT_FINISHED, 0, false, NULL);
}

/* Pushes are checked as they come; the edge's own copy can only overflow by its optimiser. G and the
 * checkpoint stay as they are. */
static void diverge(struct sl_trainer *t, const char *why)
{
    t->finished = true;
    t->aggregating = false;
    sl_gang_close(t->gang);
    sl_trainer_tell(t, SL_EVENT_DIVERGED, 0, false, why);
}

/* `next` := what the copies make of G. -EDOM: not finite; -ENOMEM. */
static int make_next(struct sl_trainer *t, uint32_t *copies, double *error)
{
    const float *g = sl_trainer_g(t, t->version);
    bool gradients = t->config.aggregation == SL_AGGREGATE_GRADIENTS;
    size_t n = t->n_layers * t->block;
    int status = 0;
    *error = 0;
    *copies = gradients ? 0 : collect(t);
    memcpy(t->next, g, n * sizeof *g);
    if (gradients) {
        *copies = sl_trainer_step_master(t);
    } else if (t->config.svd) {
        status = sl_trainer_refactor(t, *copies, error);
    } else if (t->config.gang.async) {
        sl_trainer_merge(t, *copies);
    } else {
        sl_aggregate(t->next, t->n_layers, t->block, t->copies, *copies, t->sum);
        *error = sl_aggregate_factor_error(t->model, &t->config.lora, g, t->next, t->copies, *copies);
        sl_trainer_step_server(t, *copies);
    }
    return status || sl_all_finite(t->next, n) ? status : -EDOM;
}

void sl_trainer_aggregate(struct sl_trainer *t)
{
    uint64_t from = t->config.now_ns();
    size_t bytes = t->n_layers * t->block * sizeof(float);
    t->left_out = t->n_awaited;
    uint32_t n;
    double error;
    int status = make_next(t, &n, &error);
    if (status) {
        diverge(t, status == -ENOMEM ? "not enough memory to re-factor the adapter"
                                     : "the training has diverged: the adapter is no longer finite; lower "
                                       "training.optimizer.lr");
        return;
    }
    t->version++; /* its place in the history is that of the oldest version, which a copy may have started
                     from */
    memcpy(sl_trainer_g(t, t->version), t->next, bytes);
    t->tokens_then[t->version % t->n_history] = t->tokens;
    if (t->version - t->oldest >= t->n_history)
        t->oldest = t->version - t->n_history + 1;
    sl_trainer_install_g(t);
    sl_trainer_reset_changed(t);
    uint32_t devices = sl_trainer_close_round(t);
    uint64_t now = t->config.now_ns();
    sl_trainer_plan_cuts(t);
    if (!t->finishing) {
        sl_trainer_change_cuts(t, t->order, devices);
        sl_trainer_change_absent(t);
    }
    sl_trainer_announce(t, devices, n, error, now - from);
    t->push_deadline_ns = now + t->config.push_timeout_ns;
    t->exchanging = t->n_givers > 0;
    if (t->finishing)
        sl_trainer_end_training(t, now);
    else if (!t->exchanging)
        sl_gang_open(t->gang, now);
}

bool sl_trainer_maybe_aggregate(struct sl_trainer *t, uint64_t now_ns)
{
    bool late = !t->config.gang.deterministic && now_ns >= t->push_deadline_ns;
    if (t->n_awaited && !late)
        return false;
    if (t->personal.store)
        return sl_personal_close_round(t, now_ns);
    sl_trainer_aggregate(t);
    return true;
}

void sl_trainer_finish(struct sl_trainer *t, uint64_t now_ns)
{
    if (t->finished || t->finishing || t->phase != SL_TRAINER_TRAIN)
        return;
    t->finishing = true;
    t->finish_deadline_ns = now_ns + SL_FINISH_TIMEOUT_NS;
    if (t->config.gang.async) {
        sl_trainer_end_async(t, now_ns);
        return;
    }
    if (t->aggregating || t->gangs_since)
        return;
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        if (t->devices[i].push.weights) {
            sl_trainer_begin_aggregation(t, now_ns);
            return;
        }
    }
    sl_trainer_end_training(t, now_ns);
}
