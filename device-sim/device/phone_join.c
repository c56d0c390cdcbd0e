/* Joining (Hello, Welcome, rolling back) and adapters (pull, install, push). */
#include "device-sim/device/phone_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)SLUICE__CODEC__CODEC_F32 == (int)SL_CODEC_F32 &&
                   (int)SLUICE__CODEC__CODEC_BF16 == (int)SL_CODEC_BF16 &&
                   (int)SLUICE__CODEC__CODEC_INT8 == (int)SL_CODEC_INT8 &&
                   (int)SLUICE__CODEC__CODEC_INT8_LZ4 == (int)SL_CODEC_INT8_LZ4,
    "control.proto and grid.h number the codecs alike");

static const uint64_t pull_again_after_ns = 5000000000u;

void sl_phone_fail(struct sl_phone *p, const char *text)
{
    snprintf(p->reason, sizeof(p->reason), "%s", text);
    p->state = SL_PHONE_ENDED;
    p->ops->leave(p->app, p, p->reason);
}

void sl_phone_established(struct sl_phone *p, uint64_t receive_id)
{
    Sluice__Hello hello = SLUICE__HELLO__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;
    Sluice__Codec codec = (Sluice__Codec)p->cfg.codec; /* the same numbers */

    p->state = SL_PHONE_JOINING;
    p->receive_id = receive_id;
    hello.protocol = SL_CONTROL_PROTOCOL;
    hello.receive_id = receive_id;
    hello.model_hash = (ProtobufCBinaryData){sizeof(p->cfg.model_hash), p->cfg.model_hash};
    hello.codecs = &codec;
    hello.n_codecs = 1;
    hello.mtu = p->cfg.mtu;
    hello.device_class = (char *)(uintptr_t)p->cfg.device_class;
    hello.last_step = p->applied_step;
    hello.run = p->run;
    hello.adapter_version = p->version;
    hello.held_out_windows = p->cfg.held_out_windows;
    hello.shard_tokens = p->cfg.train.n;
    e.body_case = SLUICE__ENVELOPE__BODY_HELLO;
    e.hello = &hello;
    p->ops->control(p->app, p, &e);
}

/* What stands in the way of working with this edge; NULL: nothing. */
static const char *welcome_error(const struct sl_phone *p, const Sluice__Welcome *w)
{
    const struct sl_model_config *shape = sl_model_config(p->cfg.model);

    if (!w->lora || !w->optimizer)
        return "the edge's welcome says nothing of adapter or optimiser; its version is another one";
    if (w->seq != p->cfg.seq || w->batch != p->cfg.batch)
        return "edge and phones read different experiment files (seq or batch differ); give both the same "
               "one";
    if (w->codec != (Sluice__Codec)p->cfg.codec)
        return "edge and phones read different experiment files (codec); give both the same one";
    if (w->cut == 0 || w->cut >= shape->n_layers)
        return "the edge wants a cut that this model does not have";
    if (w->aggregation != SLUICE__AGGREGATION__AGGREGATION_WEIGHTS &&
        w->aggregation != SLUICE__AGGREGATION__AGGREGATION_GRADIENTS)
        return "the edge aggregates in a way that this phone does not know; use programs of one release";
    if (p->front && w->lora->rank != p->rank)
        return "the edge gave a running phone another rank; start the phone anew";
    if (w->fragment_units == 0 || w->fragment_units > sl_fragment_units(p->cfg.mtu, false))
        return "the edge wants fragments that do not fit this phone's packets; check edge.data.mtu";
    return NULL;
}

static int make_front(struct sl_phone *p, const Sluice__Welcome *w)
{
    const struct sl_model_config *shape = sl_model_config(p->cfg.model);
    struct sl_front_config cfg = {.model = p->cfg.model,
        .lora = {.rank = w->lora->rank,
            .alpha = w->lora->alpha,
            .freeze_a = w->lora->freeze_a,
            .seed = w->lora->seed},
        .optim = {.kind = strcmp(w->optimizer->kind, "sgd") == 0 ? SL_SGD : SL_ADAMW,
            .lr = w->optimizer->lr,
            .beta1 = w->optimizer->beta1,
            .beta2 = w->optimizer->beta2,
            .eps = w->optimizer->eps,
            .weight_decay = w->optimizer->weight_decay,
            .schedule = {.steps = w->optimizer->schedule_steps,
                .warmup = w->optimizer->warmup,
                .floor = w->optimizer->floor},
            .clip = w->optimizer->clip,
            .fedprox_mu = w->optimizer->fedprox_mu,
            .proximal = w->optimizer->proximal},
        .gradients = w->aggregation == SLUICE__AGGREGATION__AGGREGATION_GRADIENTS,
        .accumulate = w->optimizer->accumulate,
        .common = p->cfg.common,
        .cut = w->cut,
        .seq = p->cfg.seq,
        .train_windows = p->cfg.batch,
        .eval_windows = SL_PHONE_EVAL_WINDOWS};
    const char *schedule = w->optimizer->schedule;
    size_t most = shape->n_layers - 1; /* blocks that a cut can bring */

    if (schedule[0] && sl_schedule_parse(schedule, &cfg.optim.schedule.kind))
        return -EINVAL;
    for (size_t i = 0; i < w->lora->n_targets; i++)
        cfg.lora.targets |= sl_target_bits(shape->family, w->lora->targets[i]);
    if (sl_front_create(&cfg, &p->front))
        return -EINVAL;
    p->cut = w->cut;
    if (p->cfg.common) {
        p->incoming = p->outgoing = p->cfg.common->g;
        return most * sl_front_block_floats(p->front) <= p->cfg.common->floats ? 0 : -EINVAL;
    }
    most = most < 2 ? 2 : most; /* moments of a block are two of them */
    p->incoming = malloc(most * sl_front_block_floats(p->front) * sizeof(float));
    p->outgoing = malloc(most * sl_front_block_floats(p->front) * sizeof(float));
    return p->incoming && p->outgoing ? 0 : -ENOMEM;
}

/* Forgets steps after `last_step`; returns whether there were any, and the cursor to begin again at. */
static bool forget_steps(struct sl_phone *p, uint64_t last_step, uint64_t *cursor)
{
    bool any = false;

    while (p->n_trained && p->trained[p->n_trained - 1].step > last_step) {
        *cursor = p->trained[--p->n_trained].cursor;
        any = true;
    }
    return any;
}

static void start_anew(struct sl_phone *p)
{
    p->n_trained = 0;
    p->applied_step = p->step = p->cursor = p->version = p->tokens_since = 0;
    p->have_adapter = false;
    sl_front_fresh_moments(p->front);
    sl_front_forget_gradients(p->front);
}

/* Back to what the edge's checkpoint knows (rules T12): its version's snapshot, or G with fresh moments. */
static void roll_back(struct sl_phone *p, const Sluice__Welcome *w)
{
    struct sl_front_mark mark = {0};

    p->totals.rollbacks++;
    sl_front_forget_gradients(p->front);
    forget_steps(p, w->last_step, &p->cursor);
    if (sl_front_restore(p->front, w->adapter_version, &mark)) {
        p->cursor = mark.cursor;
    } else {
        sl_front_fresh_moments(p->front);
        p->have_adapter = false;
    }
    p->version = w->adapter_version;
    p->applied_step = p->step = w->last_step;
    p->tokens_since = 0;
}

void sl_phone_forget(struct sl_phone *p)
{
    struct sl_front_mark mark = {0};

    if (!p->front)
        return;
    p->have_adapter = sl_front_restore_last(p->front, &mark);
    if (p->have_adapter)
        p->cursor = mark.cursor;
    else
        sl_front_fresh_moments(p->front);
    p->version = mark.version;
    p->applied_step = p->step = mark.step;
    p->batch.n = 0; /* no step of it is under way */
    p->tokens_since = 0;
    sl_front_forget_gradients(p->front);
}

static void resume(struct sl_phone *p, const Sluice__Welcome *w)
{
    if (p->run != w->run) {
        start_anew(p);
        p->applied_step = p->step = w->last_step;
    } else if (w->last_step < p->applied_step || w->adapter_version < p->version) {
        roll_back(p, w);
    } else {
        /* Nothing of ours is undone. A step that the edge applied, and whose gradient never came, is not done
         * again. */
        if (w->last_step > p->applied_step) {
            p->cursor += p->batch.n;
            p->applied_step = w->last_step;
        }
        if (p->step < w->last_step)
            p->step = w->last_step;
        if (w->adapter_version != p->version) {
            p->have_adapter = false;
            p->tokens_since = 0;
            sl_front_forget_gradients(p->front);
        }
    }
    p->pushed = p->has_incoming = false;
    p->run = w->run;
    p->incarnation = w->incarnation;
}

bool sl_phone_welcomed(struct sl_phone *p, const Sluice__Welcome *w)
{
    const char *wrong = welcome_error(p, w);

    if (!wrong && !p->front && make_front(p, w))
        wrong =
            "cannot set up the front half: adapter targets that the model does not have, or out of memory";
    if (wrong) {
        sl_phone_fail(p, wrong);
        return false;
    }
    if (p->run != w->run || p->incarnation != w->incarnation || p->phase != w->phase)
        p->eval_cursor = 0; /* otherwise the edge has what was scored before the connection was lost */
    if (w->cut != p->cut) { /* it changed while the phone was away */
        if (sl_front_recut(p->front, w->cut)) {
            sl_phone_fail(p, "cannot set up the front half with its new cut: out of memory");
            return false;
        }
        p->cut = w->cut;
        p->have_adapter = false;
        p->tokens_since = 0;
    }
    p->planned_cut = 0;
    resume(p, w);
    p->personal = w->personal;
    p->device_index = (uint32_t)w->device_index;
    p->rank = w->lora->rank;
    p->fresh_moments = w->lora->fresh_moments;
    p->aggregate_every = w->aggregate_every;
    p->heartbeat_ms = w->heartbeat_ms;
    p->fragment_units = (uint16_t)w->fragment_units;
    p->slot_bytes = w->slot_bytes;
    p->phase = w->phase;
    p->phase_done = SLUICE__PHASE__PHASE_WAIT;
    p->global_step = w->global_step;
    return true;
}

void sl_phone_installed(struct sl_phone *p, uint64_t now_ns)
{
    if (p->state != SL_PHONE_JOINING)
        return;
    p->session_open = true;
    p->state = SL_PHONE_IDLE;
    p->wants_adapter = true;
    p->wanted_version = 0;
    p->pull_again_ns = now_ns;
    sl_phone_tick(p, now_ns);
}

void sl_phone_pull(struct sl_phone *p, uint64_t now_ns)
{
    Sluice__AdapterPull pull = SLUICE__ADAPTER_PULL__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;

    e.body_case = SLUICE__ENVELOPE__BODY_ADAPTER_PULL;
    e.adapter_pull = &pull; /* version 0: the newest */
    p->ops->control(p->app, p, &e);
    p->pull_again_ns = now_ns + pull_again_after_ns;
}

void sl_phone_push(struct sl_phone *p, uint64_t now_ns)
{
    bool gradients = sl_front_pushes_gradients(p->front);
    struct sl_adapter_transfer t = {
        .kind = gradients ? SLUICE__ADAPTER_KIND__ADAPTER_GRADIENTS : SLUICE__ADAPTER_KIND__ADAPTER_WEIGHTS,
        .version = p->version,
        .tokens = p->tokens_since,
        .step = p->applied_step,
        .first = 0,
        .last = p->cut,
        .data = p->outgoing,
        .n = sl_front_floats(p->front)};

    if (gradients)
        sl_front_get_gradients(p->front, p->outgoing);
    else
        sl_front_get(p->front, p->outgoing);
    p->ops->push(p->app, p, &t);
    p->boundary = false;
    p->pushed = true;
    p->state = SL_PHONE_MERGING;
    p->pull_again_ns = now_ns + pull_again_after_ns; /* G comes unasked; that is for when it does not */
}

/* Whether G may take the place of what the phone has: nothing in flight (rules L8), and no training lost that
 * the edge still waits for. */
static bool may_install(const struct sl_phone *p)
{
    if (p->job != SL_JOB_NONE || !p->has_incoming)
        return false;
    if (p->state == SL_PHONE_MERGING)
        return p->incoming_version != p->version;
    return p->state == SL_PHONE_IDLE && (!p->have_adapter || p->tokens_since == 0 ||
                                            (p->phase != SLUICE__PHASE__PHASE_TRAIN && !p->personal));
}

/* To the edge, before they are gone. */
static void give_moments(struct sl_phone *p, uint32_t first)
{
    for (uint32_t l = first; l < p->cut; l++) {
        struct sl_adapter_transfer t = {.kind = SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS,
            .version = p->incoming_version,
            .first = l,
            .last = l + 1,
            .data = p->outgoing,
            .n = 2 * sl_front_block_floats(p->front)};
        if (sl_front_moments(p->front, l, &t.step, p->outgoing))
            p->ops->push(p->app, p, &t);
    }
}

/* Rules L9: the cut changes with G, and with nothing in flight. */
static bool change_cut(struct sl_phone *p)
{
    if (p->give_moments)
        give_moments(p, p->incoming_cut);
    if (sl_front_recut(p->front, p->incoming_cut)) {
        sl_phone_fail(p, "cannot set up the front half with its new cut: out of memory");
        return false;
    }
    p->cut = p->incoming_cut;
    p->planned_cut = 0;
    return true;
}

bool sl_phone_install_incoming(struct sl_phone *p, uint64_t now_ns)
{
    struct sl_front_mark mark;

    if (!may_install(p))
        return false;
    p->has_incoming = false;
    if (p->incoming_cut != p->cut && !change_cut(p))
        return false;
    if (p->fresh_moments)
        sl_front_set_fresh(p->front, p->incoming);
    else
        sl_front_set(p->front, p->incoming);
    sl_front_forget_gradients(p->front);
    p->version = p->incoming_version;
    p->tokens_since = 0;
    p->have_adapter = true;
    p->pushed = false;
    mark = (struct sl_front_mark){.version = p->version, .step = p->applied_step, .cursor = p->cursor};
    sl_front_snapshot(p->front, &mark);
    if (p->version >= p->wanted_version)
        p->wants_adapter = false;
    p->state = SL_PHONE_IDLE;
    return true;
}

void sl_phone_adapter(struct sl_phone *p, const struct sl_adapter_transfer *t, uint64_t now_ns)
{
    if (p->state == SL_PHONE_ENDED || !p->front)
        return;
    if (t->kind == SLUICE__ADAPTER_KIND__ADAPTER_MOMENTS) {
        sl_front_offer_moments(p->front, t->first, t->step, t->data, t->n); /* else: fresh ones */
        return;
    }
    uint32_t cut = p->planned_cut && t->last == p->planned_cut ? p->planned_cut : p->cut;
    size_t n = cut * sl_front_block_floats(p->front);
    if (t->first != 0 || t->last < cut || t->n != t->last * sl_front_block_floats(p->front)) {
        sl_phone_fail(p, "the edge sent an adapter of another shape or rank; its version is another one");
        return;
    }
    /* The answer to a pull may be what the phone has trained on since: that training is not thrown away. */
    if (t->version == p->version && p->have_adapter && p->tokens_since && !p->pushed &&
        (p->phase == SLUICE__PHASE__PHASE_TRAIN || p->personal)) {
        p->wants_adapter = false;
    } else if (t->version != p->version || !p->pushed) {
        memcpy(p->incoming, t->data, n * sizeof(float));
        p->incoming_version = t->version;
        p->incoming_cut = cut;
        p->has_incoming = true;
    }
    sl_phone_tick(p, now_ns);
}

void sl_phone_kept(struct sl_phone *p, uint64_t version, uint64_t now_ns)
{
    if (!p->front || !p->pushed || p->state != SL_PHONE_MERGING)
        return;
    struct sl_front_mark mark = {.version = version, .step = p->applied_step, .cursor = p->cursor};
    sl_front_snapshot(p->front, &mark);
    p->version = version;
    p->tokens_since = 0;
    p->pushed = false;
    p->state = SL_PHONE_IDLE;
    sl_phone_tick(p, now_ns);
}

static bool is_final(const struct sl_phone *p, Sluice__ErrorCode code)
{
    switch (code) {
    case SLUICE__ERROR_CODE__ERROR_NONE:
        return p->phase == SLUICE__PHASE__PHASE_DONE;
    case SLUICE__ERROR_CODE__ERROR_FULL: /* who was in has a place again once its old session is drained */
        return p->run == 0;
    case SLUICE__ERROR_CODE__ERROR_STALE:
    case SLUICE__ERROR_CODE__ERROR_TIMEOUT:
        return false;
    default:
        return true;
    }
}

void sl_phone_closed(struct sl_phone *p, Sluice__ErrorCode code, const char *text, bool *again)
{
    bool in_step = p->state >= SL_PHONE_COMPUTING && p->state <= SL_PHONE_WAITING;

    /* Windows that the edge may have scored already are sent again under their own number, and count once. */
    if (in_step && p->batch.eval && !p->abandoned)
        p->step = p->request.step - 1;
    if (p->job != SL_JOB_NONE)
        p->abandoned = true;
    p->session_open = p->pushed = p->has_incoming = p->wants_adapter = false;
    if (p->state != SL_PHONE_ENDED) {
        snprintf(p->reason, sizeof(p->reason), "%s", text);
        p->state = is_final(p, code) ? SL_PHONE_ENDED : SL_PHONE_ASLEEP;
    }
    *again = p->state != SL_PHONE_ENDED;
}
