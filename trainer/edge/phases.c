/* The run's phases: WAIT -> EVAL_BEFORE -> TRAIN -> EVAL_AFTER -> DONE, driven from here. A phase never hangs
 * on a dead device: who has left does not count. */
#include "trainer/edge/edge.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *phase_name(Sluice__Phase phase)
{
    static const char *const names[] = {[SLUICE__PHASE__PHASE_WAIT] = "wait",
        [SLUICE__PHASE__PHASE_EVAL_BEFORE] = "eval_before",
        [SLUICE__PHASE__PHASE_TRAIN] = "train",
        [SLUICE__PHASE__PHASE_EVAL_AFTER] = "eval_after",
        [SLUICE__PHASE__PHASE_DONE] = "done"};
    return (unsigned)phase < sizeof names / sizeof names[0] ? names[phase] : "?";
}

void edge_plan_as_fixed(struct device *d)
{
    d->planned.clock_hz = d->class->fixed.clock_hz;
    d->planned.power_w = d->class->fixed.power_w;
    d->planned.rate_up_bps = d->class->fixed.rate_up_bps;
    d->planned.share = d->class->fixed.share;
}

void edge_command_share(struct edge *e, const struct device *d)
{
    struct sl_command c = {.kind = SL_COMMAND_SHARE, .device = d->index, .share = d->planned.share};

    edge_command(e, &c);
}

static void send_plan(struct edge *e, struct device *d, uint64_t version, bool give_moments)
{
    Sluice__Plan plan = SLUICE__PLAN__INIT;
    plan.phase = e->phase;
    plan.adapter_version = version;
    plan.cut = d->cut;
    plan.give_moments = give_moments;
    plan.fragment_units = e->fragment_units;
    plan.codec = (Sluice__Codec)e->codec;
    plan.clock_hz = d->planned.clock_hz;
    plan.power_w = d->planned.power_w;
    plan.rate_up_bps = d->planned.rate_up_bps;
    Sluice__Envelope envelope = SLUICE__ENVELOPE__INIT;
    envelope.body_case = SLUICE__ENVELOPE__BODY_PLAN;
    envelope.plan = &plan;
    if (sl_control_send(d->control, &envelope) == 0)
        sl_loop_flush(e->loop, d->control);
}

void edge_send_plan(struct edge *e, struct device *d, bool give_moments)
{
    send_plan(e, d, e->personal ? 0 : e->version, give_moments); /* 0: what it has is its own */
}

/* A device that is in the middle of a round has no use for the newest version: it would throw its own steps
 * away. */
void edge_send_bounds(struct edge *e, struct device *d)
{
    send_plan(e, d, 0, false);
}

static void tell_trainer(struct edge *e, enum sl_trainer_phase phase)
{
    struct sl_command c = {.kind = SL_COMMAND_PHASE, .phase = phase};
    edge_command(e, &c);
}

static void enter(struct edge *e, Sluice__Phase phase)
{
    e->phase = phase;
    e->phase_ns = sl_loop_now_ns();
    e->alone_ns = 0;
    /* The trainer knows before any device does, so that no message of the phase comes too early. */
    if (phase == SLUICE__PHASE__PHASE_TRAIN) {
        tell_trainer(e, SL_TRAINER_TRAIN);
        e->train_from_ns = e->phase_ns;
    } else {
        bool eval = phase == SLUICE__PHASE__PHASE_EVAL_BEFORE || phase == SLUICE__PHASE__PHASE_EVAL_AFTER;
        tell_trainer(e, eval ? SL_TRAINER_EVAL : SL_TRAINER_WAIT);
    }
    for (uint32_t i = 0; i < e->max_devices; i++) {
        struct device *d = &e->devices[i];
        d->phase_done = false;
        d->n_evals = 0;
        if (d->state == DEVICE_JOINED)
            edge_send_plan(e, d, false);
    }
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "phase", phase_name(phase));
    cJSON_AddNumberToObject(o, "version", (double)e->version);
    cJSON_AddNumberToObject(o, "devices", e->n_joined);
    edge_event(e, "phase", o);
}

void edge_end(struct edge *e, int exit_code, const char *reason)
{
    if (e->ending)
        return;
    e->ending = true;
    e->ending_ns = sl_loop_now_ns();
    e->exit_code = exit_code;
    e->end_reason = reason;
    if (e->train_from_ns)
        e->train_ns += e->ending_ns - e->train_from_ns;
    e->train_from_ns = 0;
    e->phase = SLUICE__PHASE__PHASE_DONE;
    edge_write_adapters(e);
    for (uint32_t i = 0; i < e->max_devices; i++) {
        struct device *d = &e->devices[i];
        if (!d->control)
            continue;
        if (d->state == DEVICE_JOINED && exit_code == EXIT_SUCCESS)
            edge_send_plan(
                e, d, false); /* without it a device knows that the run may go on, and tries to come back */
        sl_control_bye(d->control, reason);
        sl_loop_flush(e->loop, d->control);
    }
}

/* ------------------------------------------------------------------------------------------------ evaluation
 */

static void keep_eval(struct edge *e, const struct sl_event *event)
{
    struct device *d = &e->devices[event->device];
    if (e->x->edge.modelled)
        return; /* no loss was computed */
    for (uint32_t i = 0; i < d->n_evals; i++)
        if (d->evals[i].step == event->eval.step)
            return; /* repeated after a loss: counted once */
    if (d->n_evals >=
        e->x->data.held_out_windows) { /* a message has a window at least: no honest phone has more */
        edge_say(e, "%s: more held-out messages than the experiment has windows; not counted", d->id);
        return;
    }
    if (d->n_evals == d->evals_cap) {
        uint32_t cap = d->evals_cap ? 2 * d->evals_cap : 16;
        struct eval_message *evals = realloc(d->evals, cap * sizeof *evals);
        if (!evals) {
            edge_end(e, EXIT_FAILURE, "out of memory");
            return;
        }
        d->evals = evals;
        d->evals_cap = cap;
    }
    struct eval_message *m = &d->evals[d->n_evals++];
    m->step = event->eval.step;
    m->n = event->eval.n;
    memcpy(m->nll, event->eval.nll, sizeof m->nll);
    memcpy(m->tokens, event->eval.tokens, sizeof m->tokens);
}

static int by_step(const void *a, const void *b)
{
    uint64_t x = ((const struct eval_message *)a)->step, y = ((const struct eval_message *)b)->step;
    return x < y ? -1 : x > y;
}

static int by_nll(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Rules L3: the mean over all tokens, the median and the worst device. `each` [n] is sorted. */
static void sum_up(struct edge *e, double nll, uint64_t tokens, double *each, uint32_t n, const char *worst)
{
    struct held_out *h = &e->held_out[e->phase != SLUICE__PHASE__PHASE_EVAL_BEFORE];
    qsort(each, n, sizeof *each, by_nll);
    *h = (struct held_out){.nll = nll / (double)tokens,
        .median = n % 2 ? each[n / 2] : (each[n / 2 - 1] + each[n / 2]) / 2,
        .worst = each[n - 1],
        .devices = n,
        .tokens = tokens};
    snprintf(h->worst_device, sizeof h->worst_device, "%s", worst);
    const char *when = e->phase == SLUICE__PHASE__PHASE_EVAL_BEFORE ? "before" : "after";
    edge_say(e, "held-out loss %s training: %.4f nats a token over %llu tokens", when, h->nll,
        (unsigned long long)tokens);
    if (e->personal)
        edge_say(e, "held-out loss %s training, by device: median %.4f, worst %.4f (%s)", when, h->median,
            h->worst, worst);
}

/* The mean loss over all windows, and an event per device with its windows in order. */
static void report_evals(struct edge *e)
{
    double nll = 0, *each = malloc(e->max_devices * sizeof *each), highest = -INFINITY;
    uint64_t tokens = 0;
    uint32_t n = 0;
    const char *worst = "";
    for (uint32_t i = 0; i < e->max_devices; i++) {
        struct device *d = &e->devices[i];
        double own = 0;
        uint64_t own_tokens = 0;
        if (!d->n_evals)
            continue;
        qsort(d->evals, d->n_evals, sizeof *d->evals, by_step);
        for (uint32_t m = 0; m < d->n_evals; m++) {
            for (uint32_t w = 0; w < d->evals[m].n; w++) {
                nll += d->evals[m].nll[w];
                own += d->evals[m].nll[w];
                own_tokens += d->evals[m].tokens[w];
            }
        }
        tokens += own_tokens;
        own /= (double)own_tokens;
        worst = own > highest ? d->id : worst;
        highest = own > highest ? own : highest;
        if (each)
            each[n++] = own;
        edge_report_eval(e, d);
        d->n_evals = 0;
    }
    if (n)
        sum_up(e, nll, tokens, each, n, worst);
    free(each);
}

static bool all_done(const struct edge *e)
{
    for (uint32_t i = 0; i < e->max_devices; i++) {
        const struct device *d = &e->devices[i];
        if (d->state != DEVICE_ABSENT && !d->phase_done)
            return false;
    }
    return e->n_joined > 0;
}

void edge_phase_done(struct edge *e, struct device *d, Sluice__Phase phase)
{
    if (phase == e->phase)
        d->phase_done = true;
}

/* --------------------------------------------------------------------------------------------- trainer
 * events */

static void content_refused(struct edge *e, struct sl_event *event)
{
    struct device *d = &e->devices[event->device];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", d->id);
    cJSON_AddStringToObject(o, "why", event->why);
    edge_event_caused(e, EDGE_CAUSE_REFUSED, o);
    edge_say(e, "refused a message of %s: %s", d->id, event->why);
    if (++d->refusals >= EDGE_CONTENT_REFUSALS && d->state == DEVICE_JOINED)
        edge_drop_device(e, d, SLUICE__ERROR_CODE__ERROR_CONTENT, event->why);
}

static void report_stale(struct edge *e, const struct sl_event *event)
{
    const struct device *d = &e->devices[event->device];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", d->id);
    cJSON_AddStringToObject(o, "why", event->why);
    edge_event_caused(e, EDGE_CAUSE_REFUSED, o);
    edge_say(e, "refused a message of %s: %s", d->id, event->why);
}

static void push_refused(struct edge *e, struct sl_event *event)
{
    struct device *d = &e->devices[event->device];
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "device", d->id);
    cJSON_AddStringToObject(o, "why", event->why);
    edge_event_caused(e, EDGE_CAUSE_REFUSED, o);
    edge_say(e, "refused the adapter of %s: %s", d->id, event->why);
    if (d->state != DEVICE_JOINED)
        return;
    if (event->stale)
        edge_send_g(e, d);
    else
        edge_drop_device(e, d, SLUICE__ERROR_CODE__ERROR_ADAPTER, event->why);
}

/* One gang deadline: what the parking of gradients follows (rules T6). */
static void follow_gang_time(struct edge *e, const struct sl_event *event)
{
    uint64_t gang_ns = event->step.wait_ns + event->step.compute_ns;
    uint64_t ns = e->x->training.gang.deadline_ms ? e->x->training.gang.deadline_ms * UINT64_C(1000000)
                                                  : SL_GANG_DEADLINE_GANGS * gang_ns;
    for (uint32_t i = 0; i < e->n_lcores; i++)
        sl_ingest_set_park_after(e->lcores[i].ingest, ns > SECOND_NS ? ns : SECOND_NS);
}

void edge_trainer_event(struct edge *e, struct sl_event *event)
{
    switch (event->kind) {
    case SL_EVENT_STEP:
        e->global_step = event->step.global_step;
        e->tokens += event->step.tokens;
        e->steps++;
        edge_report_step(e, event);
        edge_profile_gang(e, event);
        follow_gang_time(e, event);
        break;
    case SL_EVENT_EVAL:
        keep_eval(e, event);
        break;
    case SL_EVENT_VERSION:
        edge_new_version(e, event);
        break;
    case SL_EVENT_INSTALL:
        edge_send_g(e, &e->devices[event->device]);
        break;
    case SL_EVENT_STALE:
        report_stale(e, event);
        break;
    case SL_EVENT_CUT:
        edge_cut_changed(e, event);
        break;
    case SL_EVENT_OLD_CUT:
        edge_old_cut(e, event);
        break;
    case SL_EVENT_KEPT:
        edge_kept(e, event);
        break;
    case SL_EVENT_CHECKPOINT:
        edge_take_checkpoint(e, event);
        break;
    case SL_EVENT_REFUSED:
        content_refused(e, event);
        break;
    case SL_EVENT_PUSH_REFUSED:
        push_refused(e, event);
        break;
    case SL_EVENT_SKIPPED:
        edge_say(e, "step skipped: %s", event->why);
        break;
    case SL_EVENT_DIVERGED:
        edge_end(e, EXIT_FAILURE, event->why);
        break;
    case SL_EVENT_FINISHED:
        if (e->phase != SLUICE__PHASE__PHASE_TRAIN)
            break;
        e->train_ns += e->train_from_ns ? sl_loop_now_ns() - e->train_from_ns : 0;
        e->train_from_ns = 0;
        enter(e, SLUICE__PHASE__PHASE_EVAL_AFTER);
        break;
    }
}

/* ------------------------------------------------------------------------------------------------- the clock
 */

static void say_waiting(struct edge *e, uint64_t now, const char *text)
{
    if (e->waiting_said_ns && now - e->waiting_said_ns < 10 * SECOND_NS)
        return;
    e->waiting_said_ns = now;
    edge_say(e, "%s", text);
}

/* The other end of the port: waited for, said, and given up (edge.data.peer_timeout_s). */
static bool port_is_up(struct edge *e, uint64_t now)
{
    static char text[256];
    int status = sl_port_wait(e->port, text, sizeof text);
    if (status == 0) {
        if (e->port_up_ns && e->port_down_ns)
            edge_report_link(e, true, (double)(now - e->port_down_ns) * 1e-9);
        if (!e->port_up_ns)
            e->port_up_ns = now;
        e->port_down_ns = 0;
        return true;
    }
    if (!e->port_down_ns) {
        if (e->port_up_ns)
            edge_report_link(e, false, 0);
        e->port_down_ns = now;
        e->waiting_said_ns = 0; /* this is news */
    }
    if (status < 0)
        edge_end(e, EXIT_FAILURE, text);
    else
        say_waiting(e, now, text);
    return false;
}

static void begin(struct edge *e)
{
    enter(e, e->trained_before ? SLUICE__PHASE__PHASE_TRAIN : SLUICE__PHASE__PHASE_EVAL_BEFORE);
}

static void wait_for_devices(struct edge *e, uint64_t now)
{
    char text[160];
    uint32_t quorum = (uint32_t)ceil(e->x->training.gang.quorum * e->x->n_devices - 1e-9);
    uint64_t gather_ns = EDGE_QUORUM_WAIT_NS;
    uint64_t alone_ns = e->x->edge.limits.alone_s * SECOND_NS;
    if (sl_experiment_comes_and_goes(e->x)) { /* nobody knows how many will be there at a time */
        quorum = 1;
        gather_ns = EDGE_GATHER_NS;
    }
    if (e->n_joined >= e->x->n_devices) {
        begin(e);
        return;
    }
    if (!e->first_join_ns) {
        snprintf(text, sizeof text, "waiting for %u devices on %.100s", e->x->n_devices, e->x->edge.control);
        say_waiting(e, now, text);
        uint64_t first_ns = e->x->edge.data.peer_timeout_s * SECOND_NS;
        if (sl_experiment_comes_and_goes(e->x) && first_ns < alone_ns)
            first_ns = alone_ns;
        if (now - e->port_up_ns > first_ns)
            edge_end(e, EXIT_FAILURE,
                "gave up: no device has joined; start sluice-sim with the same --run directory");
        return;
    }
    if (!e->x->training.deterministic && e->n_joined >= quorum && now - e->first_join_ns >= gather_ns) {
        edge_say(e, "beginning with %u of %u devices", e->n_joined, e->x->n_devices);
        begin(e);
    } else if (now - e->first_join_ns > alone_ns) {
        edge_end(e, EXIT_FAILURE,
            "gave up: too few devices have joined; see their messages in the simulator's log");
    } else {
        snprintf(text, sizeof text, "%u of %u devices have joined", e->n_joined, e->x->n_devices);
        say_waiting(e, now, text);
    }
}

static void evaluate(struct edge *e, uint64_t now)
{
    bool before = e->phase == SLUICE__PHASE__PHASE_EVAL_BEFORE;
    if (!all_done(e) && (e->n_joined == 0 || now - e->phase_ns < EDGE_EVAL_NS))
        return; /* without anybody it is mind_the_fleet that gives up */
    report_evals(e);
    if (before)
        enter(e, SLUICE__PHASE__PHASE_TRAIN);
    else
        edge_end(e, e->checkpoint_failed ? EXIT_FAILURE : EXIT_SUCCESS,
            e->checkpoint_failed ? "done, but a file of the run could not be written" : "done");
}

static void train(struct edge *e, uint64_t now)
{
    double limit = e->x->run.seconds;
    double spent = (double)(e->train_ns_before + e->train_ns + (now - e->train_from_ns)) * 1e-9;
    if (limit > 0 && spent >= limit && !e->finish_sent) {
        struct sl_command c = {.kind = SL_COMMAND_FINISH};
        edge_command(e, &c);
        e->finish_sent = true;
    }
}

/* Without enough devices to go on: they may come back (rules T11), but not for ever. */
static void mind_the_fleet(struct edge *e, uint64_t now)
{
    uint32_t needed = e->x->training.deterministic ? e->x->n_devices : 1;
    if (e->n_joined >= needed) {
        if (e->alone_ns && e->phase != SLUICE__PHASE__PHASE_TRAIN)
            e->phase_ns = now; /* whoever has come now has all of its time to evaluate */
        e->alone_ns = 0;
        return;
    }
    if (!e->alone_ns)
        e->alone_ns = now;
    if (now - e->alone_ns > e->x->edge.limits.alone_s * SECOND_NS)
        edge_end(e, EXIT_FAILURE,
            "gave up: its devices have left and did not come back within edge.limits.alone_s");
}

static bool sessions_are_closed(const struct edge *e)
{
    for (uint32_t i = 0; i < e->n_lcores; i++)
        for (uint32_t s = 0; s < e->lcores[i].max_sessions; s++)
            if (e->lcores[i].sessions[s].state != SESSION_FREE)
                return false;
    return true;
}

static void wind_down(struct edge *e, uint64_t now)
{
    bool closed = sl_loop_connections(e->loop) == 0 && sessions_are_closed(e);
    bool quiet = closed || now - e->ending_ns > EDGE_BYE_NS;
    if (quiet && !edge_exporting(e) && sl_loop_writes(e->loop) == 0 && !e->checkpoint_busy)
        sl_loop_stop(e->loop);
}

void edge_poll_phases(struct edge *e, uint64_t now)
{
    if (edge_interrupted && !e->ending)
        edge_end(e, EDGE_EXIT_INTERRUPTED, "interrupted");
    if (e->ending) {
        wind_down(e, now);
        return;
    }
    if (!port_is_up(e, now) || e->ending)
        return;
    if (e->phase == SLUICE__PHASE__PHASE_WAIT) {
        if (e->g) /* the trainer has said what it begins with */
            wait_for_devices(e, now);
        return;
    }
    mind_the_fleet(e, now);
    if (e->ending)
        return;
    if (e->phase == SLUICE__PHASE__PHASE_TRAIN)
        train(e, now);
    else
        evaluate(e, now);
}
