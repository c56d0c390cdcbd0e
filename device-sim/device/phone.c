/* A phone's life: creation, phases, time. Joining and adapters are in phone_join.c, steps in phone_step.c. */
#include "device-sim/device/phone.h"

#include "device-sim/device/phone_internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *sl_phone_state_name(enum sl_phone_state s)
{
    static const char *const names[] = {
        "asleep", "joining", "idle", "computing", "sending", "waiting", "updating", "merging", "ended"};

    return s < sizeof(names) / sizeof(names[0]) ? names[s] : "unknown";
}

int sl_phone_init(
    struct sl_phone *p, const struct sl_phone_config *cfg, const struct sl_phone_ops *ops, void *app)
{
    memset(p, 0, sizeof(*p));
    if (cfg->seq < 2 || cfg->batch == 0 || cfg->batch > SL_SEQS_MAX ||
        (!cfg->common && sl_windows(&cfg->train, cfg->seq) == 0))
        return -EINVAL;
    p->cfg = *cfg;
    p->ops = ops;
    p->app = app;
    p->state = SL_PHONE_ASLEEP;
    return 0;
}

void sl_phone_fini(struct sl_phone *p)
{
    sl_front_free(p->front);
    if (!p->cfg.common) {
        free(p->incoming);
        free(p->outgoing);
    }
    free(p->trained);
    memset(p, 0, sizeof(*p));
}

size_t sl_phone_workspace_floats(const struct sl_phone_config *cfg, uint32_t d_model)
{
    uint32_t windows = cfg->batch > SL_PHONE_EVAL_WINDOWS ? cfg->batch : SL_PHONE_EVAL_WINDOWS;

    return (size_t)windows * (cfg->seq - 1) * d_model;
}

static void on_plan(struct sl_phone *p, const Sluice__Plan *plan, uint64_t now_ns)
{
    bool new_phase = plan->phase != p->phase;

    p->phase = plan->phase;
    /* New bounds for the phone may come between a change of cut and its adapter. */
    bool same_change = p->planned_cut && plan->cut == p->planned_cut;
    p->planned_cut = plan->cut != p->cut ? plan->cut : 0;
    p->give_moments = plan->give_moments || (same_change && p->give_moments);
    const char *left_out = sl_phone_bounds_of(plan, &p->bounds);
    if (p->ops->bound)
        p->ops->bound(p->app, p, left_out);
    if (new_phase) {
        p->eval_cursor = 0;
        p->phase_done = SLUICE__PHASE__PHASE_WAIT;
    }
    if (plan->adapter_version && plan->adapter_version != p->version) {
        p->wants_adapter = true;
        p->wanted_version = plan->adapter_version;
        p->pull_again_ns = now_ns;
    }
    if (new_phase && p->state >= SL_PHONE_COMPUTING && p->state <= SL_PHONE_WAITING)
        sl_phone_abandon(p);
    if (new_phase && p->state == SL_PHONE_MERGING && !p->personal)
        p->state = SL_PHONE_IDLE;
    sl_phone_tick(p, now_ns);
}

void sl_phone_message(struct sl_phone *p, const Sluice__Envelope *e, uint64_t now_ns)
{
    if (p->state == SL_PHONE_ENDED)
        return;
    switch (e->body_case) {
    case SLUICE__ENVELOPE__BODY_WELCOME:
        if (sl_phone_welcomed(p, e->welcome))
            p->ops->install(p->app, p, e->welcome);
        break;
    case SLUICE__ENVELOPE__BODY_PLAN:
        on_plan(p, e->plan, now_ns);
        break;
    case SLUICE__ENVELOPE__BODY_ADAPTER_KEPT:
        sl_phone_kept(p, e->adapter_kept->version, now_ns);
        break;
    default: /* HeartbeatAck; Error and Bye come again with the connection's end */
        break;
    }
}

void sl_phone_tick(struct sl_phone *p, uint64_t now_ns)
{
    if (p->state == SL_PHONE_SENDING && p->granted && now_ns >= p->due_ns) {
        p->state = SL_PHONE_WAITING;
        p->sent_ns = p->sent_ns ? p->sent_ns : now_ns;
        p->ops->send(p->app, p);
    }
    if (p->state == SL_PHONE_UPDATING && p->job == SL_JOB_NONE && now_ns >= p->due_ns) {
        p->state = SL_PHONE_IDLE;
        if (p->boundary)
            sl_phone_push(p, now_ns);
    }
    if (p->state != SL_PHONE_IDLE && p->state != SL_PHONE_MERGING)
        return;
    if (!p->session_open)
        return;
    sl_phone_install_incoming(p, now_ns);
    if ((p->wants_adapter || p->state == SL_PHONE_MERGING) && now_ns >= p->pull_again_ns)
        sl_phone_pull(p, now_ns);
    sl_phone_proceed(p, now_ns);
}

uint64_t sl_phone_deadline(const struct sl_phone *p)
{
    if (p->state == SL_PHONE_SENDING && p->granted)
        return p->due_ns;
    if (p->state == SL_PHONE_UPDATING && p->job == SL_JOB_NONE)
        return p->due_ns;
    if (p->session_open && (p->state == SL_PHONE_MERGING || (p->state == SL_PHONE_IDLE && p->wants_adapter)))
        return p->pull_again_ns;
    return UINT64_MAX;
}

void sl_phone_heartbeat(struct sl_phone *p, Sluice__Heartbeat *h)
{
    Sluice__Envelope e = SLUICE__ENVELOPE__INIT;

    h->steps = p->totals.steps;
    h->compute_s = p->totals.last_step_s;
    h->turn_s = p->totals.turn_s;
    h->host_excess_s = p->totals.host_excess_s;
    h->seq_no = ++p->heartbeat_no;
    e.body_case = SLUICE__ENVELOPE__BODY_HEARTBEAT;
    e.heartbeat = h;
    p->ops->control(p->app, p, &e);
}
