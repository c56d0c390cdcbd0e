/* One gang, or one batch of evaluation messages. */
#include "trainer/pipeline/trainer_internal.h"

#include <errno.h>
#include <stdlib.h>

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

static int by_tag(const void *a, const void *b, void *trainer)
{
    const struct sl_trainer *t = trainer;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    uint64_t p = t->devices[x].tag, q = t->devices[y].tag;
    if (p != q)
        return p < q ? -1 : 1;
    return x < y ? -1 : 1;
}

/* Gives the batch the waiting messages that it has room for, first of those who have had least for their
 * share (share.h). One that does not fit is not passed by a smaller one: it would wait for ever. */
static void gather(struct sl_trainer *t)
{
    uint32_t n = 0;
    sl_batch_clear(t->batch);
    for (uint32_t i = 0; i < t->config.gang.max_devices; i++)
        if (t->devices[i].slot && !t->devices[i].adapter_awaited)
            t->order[n++] = i;
    qsort_r(t->order, n, sizeof *t->order, by_tag, t);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = t->order[k];
        struct device *d = &t->devices[i];
        struct sl_slot *slot = d->slot;
        const char *why;
        struct sl_adapter *own = t->personal.store ? sl_personal_adapter(t, i) : NULL;
        int err = sl_batch_add_personal(t->batch, slot, i, d->cut, own, &why);
        if (err == -ENOSPC)
            return;
        d->served = sl_share_serve(&t->share, d->tag, sl_trainer_cost(t, d, slot->grid.rows));
        d->slot = NULL;
        sl_gang_set_ready(t->gang, i, false);
        if (err)
            refuse(t, slot, i, why);
    }
}

/* A gradient is ready while the gang is still being computed: the device has it before the layers below and
 * the optimiser's step are done. A device that missed a boundary is told at its next step: it pushes then,
 * and gets the present G (staleness stays bounded). */
void sl_trainer_leave(void *trainer, const struct sl_batch_member *m, bool finite)
{
    struct sl_trainer *t = trainer;
    struct device *d = &t->devices[m->device];
    uint32_t lcore = m->slot->lcore;
    sl_trainer_set_applied(d, m->step);
    if (finite) {
        d->tokens_since += m->rows;
        d->steps_since++;
        bool push =
            t->boundary || (t->config.gang.async ? sl_trainer_push_due(t, d) : d->version < t->version);
        if (t->boundary) {
            d->awaited = true;
            t->n_awaited++;
        }
        t->n_left++;
        t->rows_left += m->rows;
        uint64_t now_ns = t->config.now_ns();
        t->left_ns += now_ns - t->gang_ns;
        sl_trainer_add_held(d, now_ns - m->slot->ready_ns);
        m->slot->outcome.nll = m->nll;
        sl_trainer_return(t, m->slot, SL_RESULT_GRADIENT, push ? SL_RESULT_BOUNDARY : 0);
    } else {
        m->slot->outcome.nll = 0;
        sl_trainer_return(t, m->slot, SL_RESULT_SKIPPED, 0);
    }
    if (t->config.wake)
        t->config.wake(t->config.app, lcore);
}

/* The gang's gradients are not all finite: the edge's copy does not step. Devices whose gradient was finite
 * have it already; who has none goes on to its next windows. */
static void skip_gang(struct sl_trainer *t, uint32_t left)
{
    for (uint32_t i = 0; i < left; i++)
        if (!sl_batch_member(t->batch, i)->left)
            sl_trainer_leave(t, sl_batch_member(t->batch, i), false);
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
    e->step.early_ns = t->config.now_ns() - t->gang_ns - t->left_ns / left;
    struct sl_load_times times;
    sl_load_read(t->load, &times);
    e->step.stall_ns = times.stall_ns - t->stall_reported_ns;
    t->stall_reported_ns = times.stall_ns;
    sl_mailbox_post(t->events, e);
}

/* What its members are told is settled before the first of them leaves. */
static void number_gang(struct sl_trainer *t)
{
    t->global_step++;
    bool last = t->finishing || (t->config.steps && t->global_step >= t->config.steps);
    t->boundary = !t->aggregating && (last || sl_trainer_ends_round(t));
    t->n_left = 0;
    t->rows_left = t->left_ns = 0;
}

void sl_trainer_run_gang(struct sl_trainer *t, uint64_t now_ns)
{
    uint64_t opened = sl_gang_opened_ns(t->gang);
    t->gang_ns = now_ns;
    gather(t);
    if (t->personal.store)
        sl_personal_begin_gang(t);
    uint32_t left = sl_batch_forward(t->batch);
    refuse_marked(t, t->batch);
    if (!left) {
        sl_personal_end_gang(t, t->batch);
        return;
    }
    number_gang(t);
    int err = sl_batch_backward(t->batch);
    uint64_t done = t->config.now_ns();
    if (t->personal.store)
        sl_personal_step(t, left);
    else if (err)
        skip_gang(t, left);
    else
        t->skips = 0;
    sl_personal_end_gang(t, t->batch);
    if (!t->n_left) { /* nobody has anything of this gang: it was no step */
        t->global_step--;
        sl_gang_done(t->gang, done);
        return;
    }
    t->tokens += t->rows_left;
    t->gangs_since++;
    if (t->config.steps && t->global_step >= t->config.steps)
        t->finishing = true;
    if (!t->personal.store)
        sl_trainer_learn(t, !err);
    report_step(t, t->n_left, t->boundary, now_ns - opened, done - now_ns);
    sl_gang_done(t->gang, done);
    if (t->finishing && t->config.gang.async)
        sl_trainer_end_async(t, done);
    else if (t->boundary)
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
        struct sl_adapter *own = t->personal.store ? sl_personal_adapter(t, (uint32_t)slot->device) : NULL;
        if (t->personal.store && !own) {
            t->eval_queue[kept++] = slot;
            continue;
        }
        int err =
            full ? -ENOSPC : sl_batch_add_personal(t->eval, slot, (uint32_t)slot->device, d->cut, own, &why);
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

bool sl_trainer_run_eval(struct sl_trainer *t)
{
    gather_eval(t);
    if (!sl_batch_members(t->eval))
        return false;
    uint32_t left = sl_batch_forward(t->eval);
    refuse_marked(t, t->eval);
    for (uint32_t i = 0; i < left; i++) {
        const struct sl_batch_member *m = sl_batch_member(t->eval, i);
        report_eval(t, m);
        m->slot->outcome.nll = m->nll;
        sl_trainer_return(t, m->slot, SL_RESULT_EVAL, 0);
    }
    sl_personal_end_gang(t, t->eval);
    return true;
}
