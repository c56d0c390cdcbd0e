/* A phone's line to the edge: control connection, data session, back-off, and the ops of its state machine.
 */
#include "device-sim/fleet/fleet.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t ms_ns = 1000000, second_ns = 1000000000;
enum {
    BACKOFF_FIRST_MS = 200,
    BACKOFF_LAST_MS = 5000,
    GIVE_UP_S = 120,  /* rules T11 */
    COMING_MOST = 64, /* connections under way at a time: below a listener's usual backlog */
};

/* ---- the event log ---- */

/* After whatever may have changed them: when the phone is to be looked at next, and the state that it is in
 * now. */
static void tell_state(struct sl_fleet *f, uint32_t i, uint64_t now_ns)
{
    struct sl_line *l = &f->line[i];
    enum sl_phone_state now = f->phone[i].state;

    sl_timers_set(f->timers, i, l->close_wanted ? 0 : sl_line_deadline(f, i));
    if (l->told == now)
        return;
    sl_events_texts(
        f->events, now_ns, i, "state", "from", sl_phone_state_name(l->told), "to", sl_phone_state_name(now));
    l->told = now;
}

static const char *const step_keys[] = {"step", "eval"};

void sl_line_event(struct sl_fleet *f, uint32_t i, const struct sl_store_event *e, uint64_t now_ns)
{
    static const char *const result_keys[] = {"step", "status", "boundary", "global_step"};
    static const char *const lost_keys[] = {"step", "reason"};

    if (e->kind == SL_STORE_GRANTED)
        sl_events_write(f->events, now_ns, i, "granted", step_keys, e->step);
    else if (e->kind == SL_STORE_RESULT)
        sl_events_write(f->events, now_ns, i, "result", result_keys, e->step, e->result.status,
            (e->result.flags & SL_RESULT_BOUNDARY) != 0, e->result.global_step);
    else
        sl_events_write(f->events, now_ns, i, "lost", lost_keys, e->step, e->reason);
    sl_phone_event(&f->phone[i], e, now_ns);
    tell_state(f, i, now_ns);
}

void sl_line_computed(struct sl_fleet *f, uint32_t i, uint64_t now_ns, uint64_t *host_excess_ns)
{
    sl_phone_computed(&f->phone[i], now_ns, host_excess_ns);
    tell_state(f, i, now_ns);
}

static struct sl_line *line_of(struct sl_fleet *f, const struct sl_phone *p)
{
    return &f->line[p->cfg.index];
}

static void end_line(struct sl_fleet *f, uint32_t i)
{
    struct sl_line *l = &f->line[i];

    if (l->over)
        return;
    l->over = true;
    l->retry_ns = 0;
    sl_body_awake(sl_body_of(&f->bodies, f->plane, i, sl_fleet_now_ns(f)), false, sl_fleet_now_ns(f));
    f->n_over++;
    if (strcmp(f->phone[i].reason, "done") == 0)
        f->run_over = true;
    if (strcmp(f->phone[i].reason, "done") == 0 || f->interrupted || l->away)
        return;
    /* What ends many phones is said once. */
    if (strcmp(f->said, f->phone[i].reason))
        fprintf(stderr, "sluice-sim: device-%05u: %s\n", i, f->phone[i].reason);
    snprintf(f->said, sizeof(f->said), "%s", f->phone[i].reason);
    if (!f->failure[0])
        snprintf(f->failure, sizeof(f->failure), "device-%05u: %s", i, f->phone[i].reason);
}

/* ---- the session on the data lcore ---- */

static void close_session(struct sl_fleet *f, uint32_t i)
{
    struct sl_line *l = &f->line[i];

    if (l->session == SL_SESSION_OPENING) {
        l->close_wanted = true;
    } else if (l->session == SL_SESSION_OPEN) {
        l->session = SL_SESSION_CLOSING;
        l->close_wanted =
            sl_plane_close_session(f->plane, i) != 0; /* the ring is full: again at the next poll */
        if (l->close_wanted)
            l->session = SL_SESSION_OPEN;
    }
}

void sl_line_confirmed(struct sl_fleet *f, const struct sl_lcore_confirm *c, uint64_t now_ns)
{
    struct sl_line *l = &f->line[c->session];

    if (c->closed) {
        l->session = SL_SESSION_NONE;
        tell_state(f, c->session, now_ns);
        return;
    }
    l->session = c->status ? SL_SESSION_NONE : SL_SESSION_OPEN;
    if (c->status) {
        if (l->connection)
            f->access->bye(f->access_ctx, c->session, "no data session could be opened");
    } else if (l->close_wanted || l->connection != SL_CONNECTION_UP) {
        l->close_wanted = false;
        close_session(f, c->session);
    } else {
        sl_phone_installed(&f->phone[c->session], now_ns);
    }
    tell_state(f, c->session, now_ns);
}

/* ---- control connection ---- */

static void established(void *app, uint32_t i)
{
    struct sl_fleet *f = app;
    uint32_t random = 0;

    f->n_coming -= f->line[i].connection == SL_CONNECTION_COMING;
    f->line[i].connection = SL_CONNECTION_UP;
    if (f->line[i].away)
        return;
    if (f->access->random(f->access_ctx, i, &random)) {
        f->access->bye(f->access_ctx, i, "no random numbers");
        return;
    }
    sl_phone_established(&f->phone[i], sl_session_id(0, i, random));
    tell_state(f, i, sl_fleet_now_ns(f));
}

static void message(void *app, uint32_t i, const Sluice__Envelope *e)
{
    static const char *const plan_keys[] = {"phase", "version", "cut"};
    struct sl_fleet *f = app;

    if (f->line[i].away)
        return;
    if (e->body_case == SLUICE__ENVELOPE__BODY_HEARTBEAT_ACK)
        sl_clock_offset_add(&f->clock_offset, e->heartbeat_ack->sent_ns, e->heartbeat_ack->received_ns,
            e->heartbeat_ack->answered_ns, f->access->calendar_ns(f->access_ctx));
    if (e->body_case == SLUICE__ENVELOPE__BODY_PLAN)
        sl_events_write(f->events, sl_fleet_now_ns(f), i, "plan", plan_keys, (uint64_t)e->plan->phase,
            e->plan->adapter_version, e->plan->cut);
    sl_phone_message(&f->phone[i], e, sl_fleet_now_ns(f));
    tell_state(f, i, sl_fleet_now_ns(f));
}

static const char *const adapter_keys[] = {"version", "blocks", "floats"};

static void adapter(void *app, uint32_t i, const struct sl_adapter_transfer *t)
{
    struct sl_fleet *f = app;

    if (f->line[i].away)
        return;
    sl_events_write(
        f->events, sl_fleet_now_ns(f), i, "adapter", adapter_keys, t->version, t->last, (uint64_t)t->n);
    sl_phone_adapter(&f->phone[i], t, sl_fleet_now_ns(f));
    tell_state(f, i, sl_fleet_now_ns(f));
}

static void schedule_retry(struct sl_fleet *f, uint32_t i, const char *text)
{
    struct sl_line *l = &f->line[i];
    uint64_t now = sl_fleet_now_ns(f);
    uint64_t patience_s = l->joined ? GIVE_UP_S : f->material.experiment->edge.data.peer_timeout_s;

    if (!l->lost_ns)
        l->lost_ns = now;
    if (now - l->lost_ns >= patience_s * second_ns) {
        snprintf(f->phone[i].reason, sizeof(f->phone[i].reason),
            "gave up after %llu s without the edge at %.120s; start sluice-edge with the same file and --run",
            (unsigned long long)patience_s, sl_fleet_edge(f));
        f->phone[i].state = SL_PHONE_ENDED;
        end_line(f, i);
        return;
    }
    if (!f->said_waiting && !f->interrupted)
        fprintf(stderr, "sluice-sim: waiting for the edge at %s (%s); gives up after %llu s\n",
            sl_fleet_edge(f), text, (unsigned long long)patience_s);
    f->said_waiting = true;
    l->backoff_ns = l->backoff_ns ? 2 * l->backoff_ns : BACKOFF_FIRST_MS * ms_ns;
    if (l->backoff_ns > BACKOFF_LAST_MS * ms_ns)
        l->backoff_ns = BACKOFF_LAST_MS * ms_ns;
    l->retry_ns = now + l->backoff_ns;
}

static void closed(void *app, uint32_t i, Sluice__ErrorCode code, const char *text)
{
    struct sl_fleet *f = app;
    struct sl_line *l = &f->line[i];
    bool again;

    f->n_coming -= l->connection == SL_CONNECTION_COMING;
    l->connection = SL_CONNECTION_NONE;
    close_session(f, i);
    if (l->dropped || l->away) { /* the phone was told when it went */
        l->dropped = false;
        if (f->phone[i].state == SL_PHONE_ENDED)
            end_line(f, i);
        tell_state(f, i, sl_fleet_now_ns(f));
        return;
    }
    sl_phone_closed(&f->phone[i], code, text, &again);
    sl_events_texts(f->events, sl_fleet_now_ns(f), i, "closed", "why", text, NULL, NULL);
    tell_state(f, i, sl_fleet_now_ns(f));
    if (again && !l->over && !f->stopping_ns)
        schedule_retry(f, i, text);
    else
        end_line(f, i);
    tell_state(f, i, sl_fleet_now_ns(f));
}

const struct sl_access_events sl_line_events = {
    .established = established, .message = message, .adapter = adapter, .closed = closed};

static void connect_phone(struct sl_fleet *f, uint32_t i)
{
    struct sl_line *l = &f->line[i];
    int rc = f->access->connect(f->access_ctx, i);

    l->retry_ns = 0;
    if (rc) {
        schedule_retry(f, i, strerror(-rc));
        return;
    }
    l->connection = SL_CONNECTION_COMING;
    f->n_coming++;
}

void sl_line_bye(struct sl_fleet *f, uint32_t i, const char *text)
{
    struct sl_line *l = &f->line[i];

    if (f->phone[i].state != SL_PHONE_ENDED) {
        snprintf(f->phone[i].reason, sizeof(f->phone[i].reason), "%s", text);
        f->phone[i].state = SL_PHONE_ENDED;
    }
    sl_events_texts(f->events, sl_fleet_now_ns(f), i, "leave", "why", text, NULL, NULL);
    tell_state(f, i, sl_fleet_now_ns(f));
    if (l->connection == SL_CONNECTION_NONE) {
        end_line(f, i);
        return;
    }
    f->access->bye(f->access_ctx, i, text);
}

/* ---- away and back ---- */

void sl_line_go(struct sl_fleet *f, uint32_t i, enum sl_line_go how, const char *text, uint64_t now_ns)
{
    struct sl_line *l = &f->line[i];
    bool again;

    if (l->over || l->away || f->phone[i].state == SL_PHONE_ENDED)
        return;
    l->away = true;
    l->forgets |= how != SL_GO_SAYING_BYE;
    l->retry_ns = 0;
    close_session(f, i);
    sl_phone_closed(&f->phone[i], SLUICE__ERROR_CODE__ERROR_TIMEOUT, "away", &again);
    tell_state(f, i, now_ns);
    sl_body_awake(sl_body_of(&f->bodies, f->plane, i, now_ns), false, now_ns);
    if (l->connection == SL_CONNECTION_NONE)
        return;
    if (how == SL_GO_DROPPED || l->connection == SL_CONNECTION_COMING)
        f->access->drop(f->access_ctx, i);
    else if (how == SL_GO_SAYING_BYE)
        f->access->bye(f->access_ctx, i, text);
}

/* What still stands of the old connection goes first; sl_line_poll connects when it is gone. */
void sl_line_come(struct sl_fleet *f, uint32_t i, uint64_t now_ns)
{
    struct sl_line *l = &f->line[i];

    if (l->over)
        return;
    l->away = false;
    l->backoff_ns = 0;
    l->retry_ns = now_ns;
    if (l->joined)
        sl_body_awake(sl_body_of(&f->bodies, f->plane, i, now_ns), true, now_ns);
    l->dropped = l->connection != SL_CONNECTION_NONE;
    if (l->dropped)
        f->access->drop(f->access_ctx, i);
    tell_state(f, i, now_ns);
}

void sl_line_end_away(struct sl_fleet *f, uint32_t i)
{
    snprintf(f->phone[i].reason, sizeof(f->phone[i].reason), "away when the run ended");
    f->phone[i].state = SL_PHONE_ENDED;
    if (f->line[i].connection != SL_CONNECTION_NONE)
        f->access->drop(f->access_ctx, i);
    end_line(f, i);
    tell_state(f, i, sl_fleet_now_ns(f));
}

/* ---- time ---- */

static void heartbeat(struct sl_fleet *f, uint32_t i, uint64_t now_ns)
{
    Sluice__Heartbeat h = SLUICE__HEARTBEAT__INIT;
    struct sl_plane_phone data;
    const struct sl_body *body = sl_body_of(&f->bodies, f->plane, i, now_ns);

    sl_plane_phone(f->plane, i, &data);
    h.sent_ns = f->access->calendar_ns(f->access_ctx);
    sl_line_tell_body(&h, body, &data);
    h.bytes_up = data.bytes_up;
    h.bytes_down = data.bytes_down;
    h.retransmits = data.retransmits;
    h.rtt_ms = (double)data.rtt_ns * 1e-6;
    h.rate_up_bps = data.rate_up_bps;
    h.rate_down_bps = data.rate_down_bps;
    sl_phone_heartbeat(&f->phone[i], &h);
    f->line[i].heartbeat_ns = now_ns + f->phone[i].heartbeat_ms * ms_ns;
    sl_line_watch_battery(f, i, body, now_ns);
}

static bool online(const struct sl_fleet *f, uint32_t i)
{
    return f->line[i].connection == SL_CONNECTION_UP && f->phone[i].session_open && f->phone[i].heartbeat_ms;
}

void sl_line_poll(struct sl_fleet *f, uint32_t i, uint64_t now_ns)
{
    struct sl_line *l = &f->line[i];

    if (l->close_wanted && l->session == SL_SESSION_OPEN) {
        l->close_wanted = false;
        close_session(f, i);
    }
    if (l->die_ns && now_ns >= l->die_ns) {
        l->die_ns = 0;
        close_session(f, i);
        sl_line_bye(f, i, "died (fault injection)");
    }
    sl_visits_poll(f, i, now_ns);
    if (l->retry_ns && now_ns >= l->retry_ns && l->session == SL_SESSION_NONE &&
        l->connection == SL_CONNECTION_NONE && f->phone[i].job == SL_JOB_NONE) {
        if (l->forgets)
            sl_phone_forget(&f->phone[i]);
        l->forgets = false;
        connect_phone(f, i);
    }
    if (online(f, i) && now_ns >= l->heartbeat_ns)
        heartbeat(f, i, now_ns);
    if (now_ns >= sl_phone_deadline(&f->phone[i]))
        sl_phone_tick(&f->phone[i], now_ns);
    tell_state(f, i, now_ns);
}

uint64_t sl_line_deadline(const struct sl_fleet *f, uint32_t i)
{
    const struct sl_line *l = &f->line[i];
    uint64_t d = sl_phone_deadline(&f->phone[i]), visit = sl_visits_deadline(&f->visits, i);

    if (!l->over && visit < d)
        d = visit;
    if (l->die_ns && l->die_ns < d)
        d = l->die_ns;
    if (l->retry_ns && l->retry_ns < d)
        d = l->retry_ns;
    if (online(f, i) && l->heartbeat_ns < d)
        d = l->heartbeat_ns;
    return d;
}

/* ---- what the state machine asks for ---- */

static int op_control(void *app, struct sl_phone *p, const Sluice__Envelope *e)
{
    struct sl_fleet *f = app;

    return f->access->send(f->access_ctx, p->cfg.index, e);
}

static int op_push(void *app, struct sl_phone *p, const struct sl_adapter_transfer *t)
{
    struct sl_fleet *f = app;

    static const char *const keys[] = {"version", "step", "tokens", "floats"};

    sl_events_write(f->events, sl_fleet_now_ns(f), p->cfg.index, "push", keys, t->version, t->step, t->tokens,
        (uint64_t)t->n);
    return f->access->push(f->access_ctx, p->cfg.index, t);
}

static void op_install(void *app, struct sl_phone *p, const Sluice__Welcome *w)
{
    struct sl_fleet *f = app;
    struct sl_line *l = line_of(f, p);
    struct sl_session_config c = {.local_id = p->receive_id,
        .peer_id = w->session,
        .fragment_units = p->fragment_units,
        .mtu = p->cfg.mtu,
        .local = sl_plane_phone_address(f->plane, p->cfg.index),
        .remote = {.port = (uint16_t)w->data_port}};

    if (w->data_ip.len == sizeof(c.remote.ip))
        memcpy(c.remote.ip, w->data_ip.data, sizeof(c.remote.ip));
    int rc = f->access->secret(f->access_ctx, p->cfg.index, w, c.secret);
    if (!rc)
        rc = sl_plane_open_session(f->plane, p->cfg.index, &c);
    explicit_bzero(&c, sizeof(c));
    if (rc) {
        f->access->bye(f->access_ctx, p->cfg.index, "no data session could be opened");
        return;
    }
    l->session = SL_SESSION_OPENING;
    l->close_wanted = false;
    l->lost_ns = l->backoff_ns = 0;
    l->heartbeat_ns = sl_fleet_now_ns(f);
    if (!l->joined)
        sl_body_awake(&f->bodies.body[p->cfg.index], true, sl_fleet_now_ns(f));
    l->joined = true;
}

static void op_request(void *app, struct sl_phone *p)
{
    struct sl_fleet *f = app;

    static const char *const keys[] = {"step", "eval", "units", "ready_in_ms"};

    sl_events_write(f->events, sl_fleet_now_ns(f), p->cfg.index, "request", keys, p->request.step,
        p->batch.eval, p->grid.n_units, p->request.ready_in_ms);
    sl_plane_request(f->plane, p->cfg.index, &p->request, &p->grid);
}

static void op_send(void *app, struct sl_phone *p)
{
    struct sl_fleet *f = app;
    struct sl_line *l = line_of(f, p);
    struct sl_plane_phone data;

    sl_plane_phone(f->plane, p->cfg.index, &data);
    sl_events_write(
        f->events, sl_fleet_now_ns(f), p->cfg.index, "send", step_keys, p->request.step, p->batch.eval);
    sl_plane_send(f->plane, p->cfg.index);
    /* Half of the message's time on the air, with its lower bound: the unit bytes alone. */
    if (l->dies && !p->batch.eval && p->train_begun == l->die_step)
        l->die_ns =
            sl_fleet_now_ns(f) + (uint64_t)((double)p->grid.n_units * SL_UNIT_BYTES * 8 /
                                            (data.rate_up_bps > 0 ? data.rate_up_bps : 1e6) / 2 * 1e9);
}

static void op_drop(void *app, struct sl_phone *p)
{
    struct sl_fleet *f = app;

    sl_events_write(f->events, sl_fleet_now_ns(f), p->cfg.index, "drop", step_keys, p->request.step);
    sl_plane_drop(f->plane, p->cfg.index);
}

static void op_compute(void *app, struct sl_phone *p)
{
    struct sl_fleet *f = app;

    static const char *const keys[] = {"step", "backward", "modelled_ns"};

    sl_events_write(f->events, sl_fleet_now_ns(f), p->cfg.index, "compute", keys, p->request.step,
        p->job == SL_JOB_BACKWARD, p->job_modelled_ns);
    sl_compute_post(f->compute, p->cfg.index);
}

/* The modelled phone begins that pass now, at the clock that its heat allows. */
static double op_modelled_s(void *app, struct sl_phone *p, const struct sl_request *r, bool backward)
{
    struct sl_fleet *f = app;
    double flop = sl_material_pass_flop(&f->material, r->len, r->n_seqs, p->cut, backward);

    return (double)sl_body_compute(&f->bodies.body[p->cfg.index], flop, sl_fleet_now_ns(f)) * 1e-9;
}

/* What a Plan bounds, where each is enforced. */
static void op_bound(void *app, struct sl_phone *p, const char *left_out)
{
    struct sl_fleet *f = app;
    uint32_t i = p->cfg.index;
    uint64_t now = sl_fleet_now_ns(f);
    struct sl_body *body = sl_body_of(&f->bodies, f->plane, i, now);

    if (left_out)
        sl_events_texts(f->events, now, i, "bound_ignored", "of", left_out, NULL, NULL);
    sl_body_bound_clock(body, p->bounds.clock_hz, now);
    sl_body_bound_power(body, p->bounds.power_w, now);
    sl_plane_bound(f->plane, i, p->bounds.rate_up_bps, sl_body_power_share(body->cfg, p->bounds.power_w));
}

static void op_leave(void *app, struct sl_phone *p, const char *text)
{
    sl_line_bye(app, p->cfg.index, text);
}

const struct sl_phone_ops sl_fleet_phone_ops = {.control = op_control,
    .push = op_push,
    .install = op_install,
    .request = op_request,
    .send = op_send,
    .drop = op_drop,
    .compute = op_compute,
    .modelled_s = op_modelled_s,
    .bound = op_bound,
    .leave = op_leave};

/* ---- all of them ---- */

void sl_lines_open(struct sl_fleet *f)
{
    for (uint32_t i = 0; i < f->n; i++) {
        f->line[i].away = sl_visits_on(&f->visits); /* until its schedule says that it comes */
        sl_timers_set(f->timers, i, sl_line_deadline(f, i));
    }
}

/* In real time a few at a time, whom the edge can take; more would only time out in its backlog. */
void sl_lines_begin(struct sl_fleet *f, uint64_t now_ns)
{
    while (f->n_begun < f->n && (f->world || f->n_coming < COMING_MOST)) {
        uint32_t i = f->n_begun++;
        if (f->line[i].away || f->line[i].over)
            continue;
        f->line[i].retry_ns = now_ns;
        sl_line_poll(f, i, now_ns);
    }
}
