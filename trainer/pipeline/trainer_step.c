/* One gang, or one batch of evaluation messages. */
#include "trainer/pipeline/trainer_internal.h"

#include <errno.h>

void sl_trainer_return(struct sl_trainer *t, struct sl_slot *slot, uint8_t status, uint8_t flags)
{
    uint32_t handle = slot->handle;
    slot->outcome = (struct sl_slot_outcome){
        .status = status, .flags = flags, .global_step = t->global_step, .nll = slot->outcome.nll};
    slot->state = SL_SLOT_GRADIENT;
    /* Holds as many as its lcore has slots: never full. */
    sl_ring_spsc_push(t->config.lcore[slot->lcore].returned, &handle, 1);
}

static void refuse(struct sl_trainer *t, struct sl_slot *slot, uint32_t device, const char *why)
{
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (e) {
        e->kind = SL_EVENT_REFUSED;
        e->device = device;
        e->why = why;
        sl_mailbox_post(t->events, e);
    }
    slot->outcome.nll = 0;
    sl_trainer_return(t, slot, SL_RESULT_REFUSED, 0);
}

static void refuse_marked(struct sl_trainer *t, const struct sl_batch *b)
{
    for (uint32_t i = 0; i < sl_batch_members(b); i++) {
        const struct sl_batch_member *m = sl_batch_member(b, i);
        if (m->refused)
            refuse(t, m->slot, m->device, m->refused);
    }
}

/* Gives the batch every waiting message that it has room for, in device order. */
static void gather(struct sl_trainer *t)
{
    sl_batch_clear(t->batch);
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++) {
        struct device *d = &t->devices[i];
        const char *why;
        struct sl_slot *slot = d->slot;
        if (!slot)
            continue;
        int err = sl_batch_add(t->batch, slot, i, d->cut, &why);
        if (err == -ENOSPC)
            return;
        d->slot = NULL;
        sl_gang_set_ready(t->gang, i, false);
        if (err)
            refuse(t, slot, i, why);
    }
}

static void step_edge_copy(struct sl_trainer *t)
{
    for (uint32_t l = t->config.min_cut; l < t->n_layers; l++) {
        uint64_t tokens = sl_batch_tokens_at(t->batch, l);
        if (!tokens)
            continue;
        struct sl_block block = sl_adapter_block(t->edge, l);
        sl_optim_step(&t->config.optim, &t->moments[l], block.data, block.grad, block.n, (double)tokens,
            t->config.optim.lr);
        t->tokens_at[l] += tokens;
    }
}

static void set_applied(struct device *d, uint64_t step)
{
    __atomic_store_n(&d->applied, step, __ATOMIC_RELAXED); /* sl_trainer_applied reads it */
}

/* Nothing of a gang without a finite gradient is used; its devices go on to their next windows. */
static void skip_gang(struct sl_trainer *t, uint32_t left)
{
    for (uint32_t i = 0; i < left; i++) {
        const struct sl_batch_member *m = sl_batch_member(t->batch, i);
        m->slot->outcome.nll = 0;
        set_applied(&t->devices[m->device], m->slot->request.step);
        sl_trainer_return(t, m->slot, SL_RESULT_SKIPPED, 0);
    }
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (!e)
        return;
    bool diverged = ++t->skips >= SL_TRAINER_SKIPS_MAX;
    e->kind = diverged ? SL_EVENT_DIVERGED : SL_EVENT_SKIPPED;
    e->why = diverged
                 ? "the training has diverged: no finite gradient in 10 steps; lower training.optimizer.lr"
                 : "the gradient of the step is not finite";
    sl_mailbox_post(t->events, e);
}

/* A device that missed a boundary is told at its next step: it pushes then, and gets the present G (staleness
 * stays bounded). */
static void return_gradients(struct sl_trainer *t, uint32_t left, bool boundary)
{
    for (uint32_t i = 0; i < left; i++) {
        const struct sl_batch_member *m = sl_batch_member(t->batch, i);
        struct device *d = &t->devices[m->device];
        bool push = boundary || d->version < t->version;
        set_applied(d, m->slot->request.step);
        d->tokens_since += m->rows;
        d->awaited = boundary;
        m->slot->outcome.nll = m->nll;
        sl_trainer_return(t, m->slot, SL_RESULT_GRADIENT, push ? SL_RESULT_BOUNDARY : 0);
    }
    t->n_awaited = boundary ? left : 0;
}

static void report_step(
    struct sl_trainer *t, uint32_t left, bool boundary, uint64_t wait_ns, uint64_t compute_ns)
{
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (!e)
        return;
    e->kind = SL_EVENT_STEP;
    e->step.global_step = t->global_step;
    e->step.tokens = sl_batch_tokens(t->batch);
    e->step.nll = sl_batch_nll(t->batch);
    e->step.version = t->version;
    e->step.devices = left;
    e->step.boundary = boundary;
    e->step.wait_ns = wait_ns;
    e->step.compute_ns = compute_ns;
    sl_mailbox_post(t->events, e);
}

void sl_trainer_run_gang(struct sl_trainer *t, uint64_t now_ns)
{
    uint64_t opened = sl_gang_opened_ns(t->gang);
    gather(t);
    uint32_t left = sl_batch_forward(t->batch);
    refuse_marked(t, t->batch);
    if (!left)
        return;
    if (sl_batch_backward(t->batch)) {
        skip_gang(t, left);
        sl_gang_done(t->gang, t->config.now_ns());
        return;
    }
    t->skips = 0;
    t->global_step++;
    t->tokens += sl_batch_tokens(t->batch);
    if (t->config.steps && t->global_step >= t->config.steps)
        t->finishing = true;
    bool boundary = ++t->gangs_since >= t->config.aggregate_every || t->finishing;
    return_gradients(t, left, boundary);
    uint64_t done = t->config.now_ns();
    step_edge_copy(t);
    report_step(t, left, boundary, now_ns - opened, done - now_ns);
    sl_gang_done(t->gang, done);
    if (boundary)
        sl_trainer_begin_aggregation(t, done);
}

/* ---------------------------------------------------------------------------------------------- evaluation
 */

static void gather_eval(struct sl_trainer *t)
{
    uint32_t kept = 0;
    bool full = false;
    sl_batch_clear(t->eval);
    for (uint32_t i = 0; i < t->n_eval; i++) {
        struct sl_slot *slot = t->eval_queue[i];
        const char *why;
        struct device *d = &t->devices[slot->device];
        if (!d->live || d->lcore != slot->lcore ||
            d->session != slot->session) { /* it left while its message waited, and says it again */
            sl_trainer_return(t, slot, SL_RESULT_SKIPPED, 0);
            continue;
        }
        int err = full ? -ENOSPC : sl_batch_add(t->eval, slot, (uint32_t)slot->device, d->cut, &why);
        if (err == -ENOSPC) {
            full = true;
            t->eval_queue[kept++] = slot;
        } else if (err) {
            refuse(t, slot, (uint32_t)slot->device, why);
        }
        /* Which messages meet in a batch is chance, and can show in the last bit (rules L7). */
        full = full || (t->config.gang.deterministic && sl_batch_members(t->eval));
    }
    t->n_eval = kept;
}

static void report_eval(struct sl_trainer *t, const struct sl_batch_member *m)
{
    struct sl_event *e = sl_mailbox_claim(t->events);
    if (!e)
        return;
    const struct sl_seq *seqs = sl_batch_seqs(t->eval) + m->seq0;
    e->kind = SL_EVENT_EVAL;
    e->device = m->device;
    e->eval.step = m->slot->request.step;
    e->eval.n = m->n_seqs;
    for (uint32_t i = 0; i < m->n_seqs; i++) {
        e->eval.nll[i] = seqs[i].nll;
        e->eval.tokens[i] = (uint16_t)seqs[i].len;
    }
    sl_mailbox_post(t->events, e);
}

void sl_trainer_run_eval(struct sl_trainer *t)
{
    gather_eval(t);
    uint32_t left = sl_batch_forward(t->eval);
    refuse_marked(t, t->eval);
    for (uint32_t i = 0; i < left; i++) {
        const struct sl_batch_member *m = sl_batch_member(t->eval, i);
        report_eval(t, m);
        m->slot->outcome.nll = m->nll;
        sl_trainer_return(t, m->slot, SL_RESULT_EVAL, 0);
    }
}
