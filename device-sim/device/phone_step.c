/* Steps: what a message is made of, what becomes of it, and when. */
#include "device-sim/device/phone_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double ns_per_s = 1e9;

/* Shape and grid of a message of n windows; whether it fits the slot and the phone's buffer. */
static bool shape_fits(struct sl_phone *p, uint32_t n)
{
    const struct sl_model_config *shape = sl_model_config(p->cfg.model);
    size_t bytes;

    if (sl_grid_make(&p->grid, n * (p->cfg.seq - 1), shape->d_model, p->cfg.codec, 1, p->fragment_units))
        return false;
    bytes = (size_t)p->grid.n_units * SL_UNIT_BYTES;
    return (size_t)sl_grid_slot_units(&p->grid) * SL_UNIT_BYTES <= p->slot_bytes &&
           bytes <= p->cfg.message_bytes;
}

static void fill_request(struct sl_phone *p, uint32_t n, bool eval)
{
    struct sl_request *r = &p->request;

    memset(r, 0, sizeof(*r));
    r->step = ++p->step; /* one counter for both kinds: a session's steps only ever go up */
    r->kind = eval ? SL_REQUEST_EVAL : SL_REQUEST_TRAIN;
    r->cut = p->cut <= UINT8_MAX ? (uint8_t)p->cut : 0;
    r->n_seqs = (uint16_t)n;
    for (uint32_t i = 0; i < n; i++)
        r->len[i] = (uint16_t)(p->cfg.seq - 1);
    p->batch.n = n;
    p->batch.eval = eval;
}

/* The phone asks for room and starts to compute, both at once (rules T2). */
static void begin(struct sl_phone *p, uint64_t now_ns)
{
    double s = p->batch.eval ? 0 : p->ops->modelled_s(p->app, p, &p->request, false);

    p->job_start_ns = now_ns;
    p->job_modelled_ns = (uint64_t)(s * ns_per_s);
    p->request.ready_in_ms = (uint32_t)(s * 1e3);
    p->totals.modelled_s += s;
    p->forward_s = s;
    p->granted = p->computed = p->abandoned = p->boundary = false;
    p->sent_ns = 0;
    p->state = SL_PHONE_COMPUTING;
    p->job = SL_JOB_FORWARD;
    p->ops->request(p->app, p);
    p->ops->compute(p->app, p);
}

static void begin_training(struct sl_phone *p, uint64_t now_ns)
{
    size_t windows = sl_windows(&p->cfg.train, p->cfg.seq);

    if (!shape_fits(p, p->cfg.batch)) {
        sl_phone_fail(p,
            "a message of training.batch windows does not fit the edge's slots; raise edge.slot_kib or lower "
            "training.batch");
        return;
    }
    fill_request(p, p->cfg.batch, false);
    for (uint32_t i = 0; i < p->cfg.batch && !p->cfg.common; i++)
        p->batch.window[i] = sl_window(&p->cfg.train, p->cfg.seq, (p->cursor + i) % windows);
    p->train_begun++;
    p->fault = p->train_begun == p->cfg.fault_step ? p->cfg.fault : SL_FAULT_NONE;
    begin(p, now_ns);
}

static void begin_evaluation(struct sl_phone *p, uint64_t now_ns)
{
    uint64_t left = p->cfg.held_out_windows - p->eval_cursor;
    uint32_t n = left < SL_PHONE_EVAL_WINDOWS ? (uint32_t)left : SL_PHONE_EVAL_WINDOWS;

    while (n && !shape_fits(p, n))
        n--;
    if (!n) {
        sl_phone_fail(p, "one window does not fit the edge's slots; raise edge.slot_kib or lower data.seq");
        return;
    }
    fill_request(p, n, true);
    for (uint32_t i = 0; i < n; i++)
        p->batch.window[i] = sl_window(&p->cfg.held_out, p->cfg.seq, p->eval_cursor + i);
    p->fault = SL_FAULT_NONE;
    begin(p, now_ns);
}

static void phase_done(struct sl_phone *p)
{
    Sluice__PhaseDone done = SLUICE__PHASE_DONE__INIT;
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;

    p->phase_done = p->phase;
    done.phase = p->phase;
    done.adapter_version = p->version;
    e.body_case = SLUICE__ENVELOPE__BODY_PHASE_DONE;
    e.phase_done = &done;
    p->ops->control(p->app, p, &e);
}

void sl_phone_proceed(struct sl_phone *p, uint64_t now_ns)
{
    if (p->state != SL_PHONE_IDLE || p->job != SL_JOB_NONE || !p->session_open)
        return;
    if (p->phase == SLUICE__PHASE__PHASE_DONE) {
        sl_phone_fail(p, "done");
        return;
    }
    if (!p->have_adapter || p->wants_adapter || p->leaving)
        return;
    switch (p->phase) {
    case SLUICE__PHASE__PHASE_TRAIN:
        begin_training(p, now_ns);
        break;
    case SLUICE__PHASE__PHASE_EVAL_BEFORE:
    case SLUICE__PHASE__PHASE_EVAL_AFTER:
        if (p->phase_done == p->phase)
            break;
        if (p->personal && p->tokens_since) { /* what is scored is what the edge keeps (rules L3) */
            sl_phone_push(p, now_ns);
            break;
        }
        if (p->eval_cursor < p->cfg.held_out_windows)
            begin_evaluation(p, now_ns);
        else
            phase_done(p);
        break;
    default:
        break;
    }
}

void sl_phone_abandon(struct sl_phone *p)
{
    p->ops->drop(p->app, p);
    p->abandoned = true;
    if (p->job == SL_JOB_NONE)
        p->state = SL_PHONE_IDLE;
}

/* The windows are used up, whether or not they were learnt from. */
static void step_over(struct sl_phone *p)
{
    if (p->batch.eval) {
        p->eval_cursor += p->batch.n;
        p->totals.messages_eval++;
    } else {
        p->cursor += p->batch.n;
    }
}

static void on_result(struct sl_phone *p, const struct sl_result *r, uint64_t now_ns)
{
    double s;

    p->boundary = r->flags & SL_RESULT_BOUNDARY;
    p->global_step = r->global_step;
    if (r->status == SL_RESULT_GRADIENT && !p->batch.eval) {
        s = p->ops->modelled_s(p->app, p, &p->request, true);
        p->totals.modelled_s += s;
        p->backward_s = s;
        p->totals.turn_s += (double)(now_ns - p->sent_ns) / ns_per_s;
        p->job_start_ns = now_ns;
        p->job_modelled_ns = (uint64_t)(s * ns_per_s);
        p->state = SL_PHONE_UPDATING;
        p->job = SL_JOB_BACKWARD;
        p->ops->compute(p->app, p);
        return;
    }
    if (r->status != SL_RESULT_EVAL)
        p->totals.steps_refused++;
    step_over(p);
    p->state = SL_PHONE_IDLE;
    if (p->boundary)
        sl_phone_push(p, now_ns);
}

/* The edge takes neither this step nor a push of what the phone has trained (rules L8): it gives that up and
 * goes on from the present G. */
static void fall_back(struct sl_phone *p, uint64_t now_ns)
{
    p->totals.steps_refused++;
    step_over(p);
    p->abandoned = p->job != SL_JOB_NONE;
    if (p->job == SL_JOB_NONE)
        p->state = SL_PHONE_IDLE;
    p->have_adapter = false;
    p->tokens_since = 0;
    p->wants_adapter = true;
    p->wanted_version = p->version + 1;
    sl_phone_pull(p, now_ns);
}

/* The message is still there: the step is asked for again, unless it was refused for what it is. */
static void on_lost(struct sl_phone *p, uint8_t reason, uint64_t now_ns)
{
    p->granted = false;
    if (reason == SL_LOST_STALE) {
        fall_back(p, now_ns);
        return;
    }
    if (reason == SL_LOST_REFUSED_SHAPE || reason == SL_LOST_CONTENT) {
        p->totals.steps_refused++;
        step_over(p);
        p->abandoned = p->job != SL_JOB_NONE;
        if (p->job == SL_JOB_NONE)
            p->state = SL_PHONE_IDLE;
        return;
    }
    p->totals.steps_lost++;
    if (p->state == SL_PHONE_WAITING)
        p->state = SL_PHONE_SENDING;
    p->ops->request(p->app, p);
}

void sl_phone_event(struct sl_phone *p, const struct sl_store_event *e, uint64_t now_ns)
{
    bool in_step = p->state >= SL_PHONE_COMPUTING && p->state <= SL_PHONE_WAITING;

    if (!in_step || p->abandoned || e->step != p->request.step)
        return;
    if (e->kind == SL_STORE_GRANTED)
        p->granted = true;
    else if (e->kind == SL_STORE_RESULT)
        on_result(p, &e->result, now_ns);
    else
        on_lost(p, e->reason, now_ns);
    sl_phone_tick(p, now_ns);
}

void sl_phone_compute(struct sl_phone *p, float *workspace)
{
    if (p->job == SL_JOB_FORWARD)
        p->job_status = sl_front_forward(p->front, &p->batch, p->cfg.codec, &p->grid, p->fault, workspace,
            p->cfg.messages + p->request.step % 2 * p->cfg.message_bytes);
    else
        p->job_status = sl_front_backward(p->front, p->cfg.codec, p->cfg.gradient,
            &(struct sl_front_step){.global_step = p->global_step, .boundary = p->boundary}, workspace);
}

static int remember(struct sl_phone *p)
{
    if (p->n_trained == p->cap_trained) {
        size_t cap = p->cap_trained ? 2 * p->cap_trained : 64;
        struct sl_trained *t = realloc(p->trained, cap * sizeof(*t));
        if (!t)
            return -ENOMEM;
        p->trained = t;
        p->cap_trained = cap;
    }
    p->trained[p->n_trained++] = (struct sl_trained){p->global_step, p->request.step, p->cursor, p->batch.n};
    return 0;
}

/* The gradient is in the adapter (or was refused as not finite: -EDOM). */
static void applied(struct sl_phone *p)
{
    if (p->job_status == -EDOM) {
        p->totals.steps_refused++;
        step_over(p);
        return;
    }
    if (remember(p)) {
        sl_phone_fail(p, "out of memory");
        return;
    }
    p->applied_step = p->request.step;
    p->tokens_since += p->grid.rows;
    p->totals.steps++;
    p->totals.last_step_s = p->forward_s + p->backward_s;
    step_over(p);
}

void sl_phone_computed(struct sl_phone *p, uint64_t now_ns, uint64_t *host_excess_ns)
{
    enum sl_phone_job job = p->job;

    p->job = SL_JOB_NONE;
    p->due_ns = p->job_start_ns + p->job_modelled_ns;
    *host_excess_ns = !p->batch.eval && now_ns > p->due_ns ? now_ns - p->due_ns : 0;
    p->totals.host_excess_s += (double)*host_excess_ns / ns_per_s;
    if (p->job_status < 0 && p->job_status != -EDOM) {
        char text[120];
        snprintf(text, sizeof(text), "the front half cannot be computed: %s", strerror(-p->job_status));
        sl_phone_fail(p, text);
        return;
    }
    if (job == SL_JOB_BACKWARD)
        applied(p); /* also where the connection went meanwhile: it is in the adapter */
    else if (p->abandoned && p->state == SL_PHONE_COMPUTING)
        p->state = SL_PHONE_IDLE;
    else if (p->state == SL_PHONE_COMPUTING)
        p->state = SL_PHONE_SENDING;
    sl_phone_tick(p, now_ns);
}
