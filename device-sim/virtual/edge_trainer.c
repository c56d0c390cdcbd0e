/* When gangs start, how long they take, what their members are told, and when there is a new G: the rules of
 * trainer/pipeline (trainer_step.c, trainer_round.c, trainer_async.c), without its arithmetic. */
#include "device-sim/virtual/edge_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    HISTORY = 4,       /* versions of G that a push may have started from: SL_TRAINER_HISTORY */
    EVAL_MESSAGES = 8, /* in one batch, as trainer/edge has it */
};
static const uint64_t push_timeout_ns = 30 * SECOND_NS, finish_timeout_ns = 60 * SECOND_NS;

static bool master(const struct sl_model_edge *e)
{
    return strcmp(e->x->training.aggregation, "gradients") == 0;
}

static bool async(const struct sl_model_edge *e)
{
    return e->x->training.gang.async;
}

int sl_model_trainer_create(struct sl_model_edge *e, uint32_t slots)
{
    const struct sl_experiment *x = e->x;
    struct sl_gang_config gang = {.quorum = x->training.gang.quorum,
        .deadline_ns = x->training.gang.deadline_ms * UINT64_C(1000000),
        .deterministic = x->training.deterministic,
        .async = x->training.gang.async,
        .n_devices = x->n_devices,
        .capacity = slots < x->n_devices ? slots : x->n_devices,
        .max_devices = e->n,
        .n_lcores = 1,
        .lcore_slots = {slots}};
    struct sl_lora_config lora = {.rank = x->training.lora.rank, .freeze_a = x->training.lora.freeze_a};

    for (uint32_t i = 0; i < x->training.lora.n_targets; i++)
        lora.targets |= sl_target_bits(e->cfg.shape->family, x->training.lora.targets[i]);
    for (uint32_t c = 0; c < x->n_classes && async(e); c++)
        e->shares |= x->fleet[c].fixed.share > 0;
    e->n_history = async(e) ? x->training.gang.staleness + 1 : HISTORY;
    e->member = calloc(slots, sizeof(*e->member));
    e->eval = calloc(slots, sizeof(*e->eval));
    e->zeros = calloc(e->cfg.shape->n_layers * sl_adapter_block_size(e->cfg.shape, &lora), sizeof(float));
    if (!e->member || !e->eval || !e->zeros)
        return -ENOMEM;
    return sl_gang_create(&gang, &e->gang);
}

void sl_model_trainer_free(struct sl_model_edge *e)
{
    sl_gang_free(e->gang);
    free(e->member);
    free(e->eval);
    free(e->zeros);
}

/* ---- slots ---- */

static void give_back(struct sl_model_edge *e, uint32_t handle, uint8_t status, uint8_t flags)
{
    struct sl_slot *s = sl_slot_get(e->slots, handle);

    s->outcome = (struct sl_slot_outcome){.status = status, .flags = flags, .global_step = e->global_step};
    s->state = SL_SLOT_GRADIENT;
    sl_ring_spsc_push(e->returned, &handle, 1); /* holds as many as there are slots */
}

static void take_waiting(struct sl_model_edge *e, uint32_t i, uint8_t flags)
{
    struct model_device *d = &e->device[i];

    if (!d->waits)
        return;
    d->waits = false;
    sl_gang_set_ready(e->gang, i, false);
    give_back(e, d->slot, SL_RESULT_SKIPPED, flags);
}

static bool refuse_stale(struct sl_model_edge *e, struct model_device *d, uint32_t handle)
{
    if (!async(e) || e->version - d->version <= e->x->training.gang.staleness)
        return false;
    d->tokens_since = 0;
    d->steps_since = 0;
    give_back(e, handle, SL_OUTCOME_STALE, 0);
    return true;
}

static void sort_in(struct sl_model_edge *e, uint32_t handle)
{
    struct sl_slot *s = sl_slot_get(e->slots, handle);

    if (!s)
        return;
    s->state = SL_SLOT_IN_BATCH;
    uint32_t i = (uint32_t)s->device;
    struct model_device *d = &e->device[i];
    if (d->state != DEVICE_JOINED || d->session != s->session) {
        give_back(e, handle, SL_RESULT_SKIPPED, 0);
    } else if (s->request.kind == SL_REQUEST_EVAL) {
        if (e->phase == SLUICE__PHASE__PHASE_EVAL_BEFORE || e->phase == SLUICE__PHASE__PHASE_EVAL_AFTER)
            e->eval[e->n_eval++] = handle;
        else
            give_back(e, handle, SL_RESULT_SKIPPED, 0);
    } else if (e->phase != SLUICE__PHASE__PHASE_TRAIN || e->finished || d->waits ||
               s->request.step <= d->applied || (e->aggregating && async(e))) {
        give_back(e, handle, SL_RESULT_SKIPPED, d->awaited ? SL_RESULT_BOUNDARY : 0);
    } else if (!refuse_stale(e, d, handle)) {
        d->slot = handle;
        d->waits = true;
        d->tag = sl_share_tag(&e->share, d->served);
        sl_gang_set_ready(e->gang, i, true);
    }
}

/* ---- what computing costs (plan/cost.h) ---- */

static uint64_t pass_flop(const struct sl_model_edge *e, const struct sl_slot *s, bool backward, double *flop)
{
    uint32_t len[SL_SEQS_MAX];
    uint64_t rows = 0;

    for (uint32_t i = 0; i < s->request.n_seqs; i++) {
        len[i] = s->request.len[i];
        rows += len[i];
    }
    *flop = backward ? sl_cost_block_backward(&e->cfg.cost, len, s->request.n_seqs)
                     : sl_cost_block_forward(&e->cfg.cost, len, s->request.n_seqs);
    return rows;
}

static uint64_t duration_ns(const struct sl_model_edge *e, double flop)
{
    return (uint64_t)(flop / e->cfg.compute_gflops); /* FLOP / (GFLOP/s) is ns */
}

/* A member's gradient leaves once the backward pass is through its first layer, for the rows of all (rules
 * L8: devices enter at their own layer). The head: logits, and their gradient towards the rows. */
static void time_gang(struct sl_model_edge *e, uint64_t now)
{
    uint32_t layers = e->cfg.shape->n_layers;
    double forward = 0, flop, block[64] = {0}; /* block[l]: backward of layer l, all rows present there */
    uint64_t rows = 0;

    for (uint32_t m = 0; m < e->n_members; m++) {
        const struct sl_slot *s = sl_slot_get(e->slots, e->member[m].slot);
        pass_flop(e, s, false, &flop);
        forward += flop * (layers - e->member[m].cut);
        e->member[m].rows = pass_flop(e, s, true, &flop);
        rows += e->member[m].rows;
        for (uint32_t l = e->member[m].cut; l < layers && l < 64; l++)
            block[l] += flop;
    }
    double done = forward + 2 * sl_cost_head_forward(&e->cfg.cost, rows);
    for (uint32_t l = layers < 64 ? layers : 64; l-- > 0;) {
        done += block[l];
        for (uint32_t m = 0; m < e->n_members; m++)
            if (e->member[m].cut == l)
                e->member[m].leave_ns = now + duration_ns(e, done);
    }
    e->work_until_ns = now + duration_ns(e, done);
}

/* ---- gangs ---- */

static bool ends_round(const struct sl_model_edge *e)
{
    uint32_t accumulate = e->x->training.accumulate ? e->x->training.accumulate : 1;

    if (master(e))
        return e->global_step % accumulate == 0;
    return !async(e) && e->gangs_since + 1 >= e->x->training.aggregate_every;
}

/* Takes a message into the gang, and books its work (trainer_share.c). */
static void take(struct sl_model_edge *e, uint32_t i)
{
    struct model_device *d = &e->device[i];
    const struct sl_slot *s = sl_slot_get(e->slots, d->slot);
    double share = e->shares ? e->x->fleet[d->class].fixed.share : 0;
    uint64_t price = sl_share_price(share > 0 ? share : 1.0 / e->x->n_devices);

    d->served = sl_share_serve(
        &e->share, d->tag, price * s->grid.rows * (e->shares ? e->cfg.shape->n_layers - d->cut : 1));
    e->member[e->n_members++] = (struct member){.slot = d->slot, .device = i, .cut = d->cut};
    d->waits = false;
    sl_gang_set_ready(e->gang, i, false);
}

/* All that wait; or, where an asynchronous gang takes only so many, those with the lowest tags. */
static void gather(struct sl_model_edge *e)
{
    uint32_t most = e->x->training.gang.max ? e->x->training.gang.max : UINT32_MAX;

    for (uint32_t i = 0; i < e->n && most >= sl_gang_ready(e->gang); i++)
        if (e->device[i].waits)
            take(e, i);
    while (e->n_members < most && sl_gang_ready(e->gang)) {
        uint32_t best = UINT32_MAX;
        for (uint32_t i = 0; i < e->n; i++)
            if (e->device[i].waits && (best == UINT32_MAX || e->device[i].tag < e->device[best].tag))
                best = i;
        if (best == UINT32_MAX)
            return;
        take(e, best);
    }
}

static void run_gang(struct sl_model_edge *e, uint64_t now)
{
    e->n_members = e->n_left = 0;
    gather(e);
    e->work = TRAINER_GANG;
    e->work_from_ns = now;
    time_gang(e, now);
    e->global_step++;
    bool last = e->finishing || (e->x->run.steps && e->global_step >= e->x->run.steps);
    e->boundary = !e->aggregating && (last || ends_round(e));
    e->stats.wait_ns += now - sl_gang_opened_ns(e->gang);
    static const char *const keys[] = {"step", "members", "until", "version"};
    e->ops->event(e->app, "gang", keys,
        (const uint64_t[]){e->global_step, e->n_members, e->work_until_ns, e->version}, 4);
}

static bool push_due(const struct sl_model_edge *e, const struct model_device *d)
{
    return d->steps_since >= e->x->training.aggregate_every ||
           2 * (e->version - d->version) >= e->x->training.gang.staleness;
}

/* One member's gradient leaves. Its device may have gone meanwhile: the slot finds that out by itself. */
static void leave(struct sl_model_edge *e, struct member *m)
{
    struct model_device *d = &e->device[m->device];
    const struct sl_slot *s = sl_slot_get(e->slots, m->slot);

    d->applied = s->request.step;
    d->tokens_since += m->rows;
    d->steps_since++;
    bool push = e->boundary || (async(e) ? push_due(e, d) : d->version < e->version);
    if (e->boundary && d->state == DEVICE_JOINED && d->session == s->session) {
        d->awaited = true;
        e->n_awaited++;
    }
    e->stats.steps++;
    e->stats.tokens += m->rows;
    give_back(e, m->slot, SL_RESULT_GRADIENT, push ? SL_RESULT_BOUNDARY : 0);
    m->leave_ns = UINT64_MAX;
    e->n_left++;
}

/* Until everybody has pushed, who has nothing to push may form a gang where there are more devices than
 * slots (trainer_round.c). */
static bool may_overlap(const struct sl_model_edge *e)
{
    bool last = e->finishing || (e->x->run.steps && e->global_step + 1 >= e->x->run.steps);

    return !master(e) && e->x->training.accumulate <= 1 && !e->x->training.deterministic && !async(e) &&
           !last && sl_gang_crowded(e->gang);
}

static void begin_aggregation(struct sl_model_edge *e, uint64_t now)
{
    e->aggregating = true;
    e->push_deadline_ns = now + push_timeout_ns;
    if (!may_overlap(e))
        sl_gang_close(e->gang);
}

static void end_async(struct sl_model_edge *e, uint64_t now)
{
    begin_aggregation(e, now);
    e->n_awaited = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        struct model_device *d = &e->device[i];
        d->awaited = d->state == DEVICE_JOINED && d->tokens_since > 0;
        e->n_awaited += d->awaited;
        take_waiting(e, i, d->awaited ? SL_RESULT_BOUNDARY : 0);
    }
}

static void gang_done(struct sl_model_edge *e, uint64_t now)
{
    e->work = TRAINER_IDLE;
    e->gangs_since++;
    e->stats.gangs++;
    e->stats.compute_ns += now - e->work_from_ns;
    if (e->x->run.steps && e->global_step >= e->x->run.steps)
        e->finishing = true;
    sl_gang_done(e->gang, now);
    if (e->finishing && async(e))
        end_async(e, now);
    else if (e->boundary)
        begin_aggregation(e, now);
}

/* ---- boundaries ---- */

static bool kept(const struct sl_model_edge *e, uint64_t version)
{
    return version <= e->version && version >= e->oldest;
}

static void no_longer_awaited(struct sl_model_edge *e, struct model_device *d)
{
    if (d->awaited && e->n_awaited)
        e->n_awaited--;
    d->awaited = false;
}

static void unpark(struct sl_model_edge *e, uint32_t i)
{
    struct model_device *d = &e->device[i];

    if (!d->parked)
        return;
    d->parked = false;
    e->n_parked--;
    sl_gang_set_live(e->gang, i, d->state == DEVICE_JOINED);
}

void sl_model_trainer_push(
    struct sl_model_edge *e, uint32_t i, const struct sl_adapter_transfer *t, uint64_t now)
{
    struct model_device *d = &e->device[i];

    d->tokens_since = 0;
    d->steps_since = 0;
    if (!kept(e, t->version)) {
        no_longer_awaited(e, d);
        d->version = e->version;
        sl_model_edge_give(e, i);
        return;
    }
    d->has_push = true;
    d->push_version = t->version;
    if (async(e) && !e->aggregating) { /* merged before the next gang */
        d->in_round = true;
        e->n_pushes++;
    } else if (d->awaited) {
        no_longer_awaited(e, d);
        d->in_round = true;                /* it gets the new G with the others */
    } else if (t->version == e->version) { /* there is no newer one: it holds no gang up until there is */
        d->in_round = true;
        if (!d->parked)
            e->n_parked++;
        d->parked = true;
        sl_gang_set_live(e->gang, i, false);
    } else {
        d->version = e->version;
        sl_model_edge_give(e, i);
    }
}

static void end_training(struct sl_model_edge *e, uint64_t now)
{
    e->finished = true;
    sl_gang_close(e->gang);
    sl_model_edge_trained(e, now);
}

static void aggregate(struct sl_model_edge *e, uint64_t now)
{
    uint32_t left_out = e->n_awaited, n = 0;

    e->version++;
    e->stats.versions++;
    if (e->version - e->oldest >= e->n_history)
        e->oldest = e->version - e->n_history + 1;
    e->gangs_since = e->n_awaited = e->n_pushes = 0;
    e->aggregating = false;
    for (uint32_t i = 0; i < e->n; i++) {
        struct model_device *d = &e->device[i];
        bool gets = d->state == DEVICE_JOINED && d->in_round;
        d->has_push = d->in_round = d->awaited = false;
        unpark(e, i);
        if (!gets)
            continue;
        n++;
        d->version = e->version;
        sl_model_edge_give(e, i);
    }
    for (uint32_t i = 0; i < e->n; i++)
        e->device[i].last_step = e->device[i].applied;
    static const char *const keys[] = {"version", "step", "devices", "left_out"};
    e->ops->event(e->app, "version", keys, (const uint64_t[]){e->version, e->global_step, n, left_out}, 4);
    if (e->finishing)
        end_training(e, now);
    else
        sl_gang_open(e->gang, now);
}

void sl_model_trainer_finish(struct sl_model_edge *e, uint64_t now)
{
    if (e->finished || e->finishing || e->phase != SLUICE__PHASE__PHASE_TRAIN)
        return;
    e->finishing = true;
    e->finish_deadline_ns = now + finish_timeout_ns;
    if (async(e)) {
        if (e->work != TRAINER_GANG) /* else when that is done */
            end_async(e, now);
        return;
    }
    if (e->aggregating || e->gangs_since || e->work == TRAINER_GANG)
        return;
    for (uint32_t i = 0; i < e->n; i++) {
        if (e->device[i].has_push) {
            begin_aggregation(e, now);
            return;
        }
    }
    end_training(e, now);
}

void sl_model_trainer_sent(struct sl_model_edge *e, uint32_t i)
{
    e->device[i].version = e->version;
    e->device[i].steps_since = 0;
}

/* ---- devices and phases ---- */

void sl_model_trainer_join(struct sl_model_edge *e, uint32_t i)
{
    struct model_device *d = &e->device[i];

    if (d->has_push) { /* it is back with what it pushed, and will push it again */
        e->n_pushes -= e->n_pushes && d->in_round;
        d->has_push = false;
    }
    d->in_round = false;
    d->steps_since = 0;
    d->version = e->version;
    sl_gang_set_live(e->gang, i, true);
}

void sl_model_trainer_leave(struct sl_model_edge *e, uint32_t i)
{
    struct model_device *d = &e->device[i];

    take_waiting(e, i, 0);
    no_longer_awaited(e, d);
    if (d->parked) {
        d->parked = false;
        e->n_parked--;
    }
    sl_gang_set_live(e->gang, i, false);
}

void sl_model_trainer_phase(struct sl_model_edge *e, Sluice__Phase phase, uint64_t now)
{
    for (uint32_t i = 0; i < e->n; i++)
        take_waiting(e, i, 0);
    for (uint32_t k = 0; k < e->n_eval; k++)
        give_back(e, e->eval[k], SL_RESULT_SKIPPED, 0);
    e->n_eval = 0;
    if (phase == SLUICE__PHASE__PHASE_TRAIN)
        sl_gang_open(e->gang, now);
    else
        sl_gang_close(e->gang);
}

/* ---- the turn ---- */

static void run_eval(struct sl_model_edge *e, uint64_t now)
{
    double flop, sum = 0;
    uint64_t rows = 0;
    uint32_t n = e->n_eval < EVAL_MESSAGES ? e->n_eval : EVAL_MESSAGES;

    if (e->x->training.deterministic)
        n = 1; /* trainer_step.c */
    e->n_members = 0;
    for (uint32_t k = 0; k < n; k++) {
        const struct sl_slot *s = sl_slot_get(e->slots, e->eval[k]);
        uint32_t cut = e->device[s->device].cut;
        rows += pass_flop(e, s, false, &flop);
        sum += flop * (e->cfg.shape->n_layers - cut);
        e->member[e->n_members++] = (struct member){.slot = e->eval[k]};
    }
    e->n_eval -= n;
    memmove(e->eval, e->eval + n, e->n_eval * sizeof(*e->eval));
    e->work = TRAINER_EVAL;
    e->work_until_ns = now + duration_ns(e, sum + sl_cost_head_forward(&e->cfg.cost, rows));
}

static bool go_on(struct sl_model_edge *e, uint64_t now)
{
    if (e->work == TRAINER_EVAL && now >= e->work_until_ns) {
        for (uint32_t k = 0; k < e->n_members; k++)
            give_back(e, e->member[k].slot, SL_RESULT_EVAL, 0);
        e->work = TRAINER_IDLE;
        return true;
    }
    if (e->work != TRAINER_GANG)
        return false;
    bool any = false;
    for (uint32_t m = 0; m < e->n_members; m++) {
        if (now >= e->member[m].leave_ns) {
            leave(e, &e->member[m]);
            any = true;
        }
    }
    if (now < e->work_until_ns)
        return any;
    gang_done(e, now);
    return true;
}

static bool train(struct sl_model_edge *e, uint64_t now)
{
    if (e->aggregating) {
        if (e->n_awaited == 0 || (!e->x->training.deterministic && now >= e->push_deadline_ns)) {
            aggregate(e, now);
            return true;
        }
        if (!may_overlap(e) || !sl_gang_should_start(e->gang, now))
            return false;
        run_gang(e, now);
        return true;
    }
    if (e->n_pushes) {
        aggregate(e, now);
        return true;
    }
    if (sl_gang_should_start(e->gang, now)) {
        run_gang(e, now);
        return true;
    }
    bool nobody = sl_gang_live(e->gang) == 0;
    if ((e->n_parked && nobody) || (e->finishing && (nobody || now >= e->finish_deadline_ns))) {
        begin_aggregation(e, now);
        return true;
    }
    return false;
}

bool sl_model_trainer_turn(struct sl_model_edge *e, uint64_t now)
{
    uint32_t handle;
    bool worked = go_on(e, now);

    while (sl_ring_spsc_pop(e->ready, &handle, 1)) {
        sort_in(e, handle);
        worked = true;
    }
    if (e->work != TRAINER_IDLE)
        return worked;
    if (e->n_eval) {
        run_eval(e, now);
        return true;
    }
    if (e->phase == SLUICE__PHASE__PHASE_TRAIN && !e->finished)
        worked |= train(e, now);
    return worked;
}

uint64_t sl_model_trainer_deadline(const struct sl_model_edge *e, uint64_t now)
{
    uint64_t at = UINT64_MAX, deadline;

    if (e->work == TRAINER_GANG)
        for (uint32_t m = 0; m < e->n_members; m++)
            at = sl_model_sooner(at, e->member[m].leave_ns, now);
    if (e->work != TRAINER_IDLE)
        return sl_model_sooner(at, e->work_until_ns, now);
    if (e->phase != SLUICE__PHASE__PHASE_TRAIN || e->finished)
        return at;
    if (e->aggregating)
        at = sl_model_sooner(at, e->push_deadline_ns, now);
    if (e->finishing)
        at = sl_model_sooner(at, e->finish_deadline_ns, now);
    deadline = sl_gang_deadline_ns(e->gang);
    if (deadline != UINT64_MAX && sl_gang_ready(e->gang))
        at = sl_model_sooner(at, sl_gang_opened_ns(e->gang) + deadline, now);
    return at;
}
