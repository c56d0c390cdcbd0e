/* Live planning. The control thread fills in a scenario and looks for the answer now and then; the solver has
 * a thread of its own. One question is under way at a time, in memory of its own:
 *
 *   control: IDLE -> fill in -> ASKED ----> planner: solve ----> DONE -> control: tell, note -> IDLE
 */
#include "trainer/edge/planner.h"
#include "trainer/edge/edge.h"
#include "trainer/plan/replan.h"

#include <errno.h>
#include <math.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_NS (SECOND_NS / 10)
#define PATIENCE_NS (10 * SECOND_NS) /* for the last devices to be known, before the first plan */
#define AS_IT_LIKES 0.95             /* a bound at or above that share of what a device has is none */
#define ROOM 1.001                   /* of all uplinks together, where nothing bounds them */
enum { DEVICES_LISTED = 64 };        /* in an event; of larger fleets it tells by class */

enum job_state { JOB_IDLE, JOB_ASKED, JOB_DONE };

struct job {
    struct sl_plan_scenario scenario;
    struct sl_plan_server server;
    enum sl_plan_objective objective;
    double hysteresis;
    uint64_t seed;
    struct sl_plan plan;
    struct sl_plan_cost *cost;
    uint32_t *device, *was, *cuts; /* [n_users]: index; cut in force, decided */
    struct sl_replan_result result;
    enum sl_replan_reason reason;
    int status;
    double seconds;
};

struct edge_planner {
    struct sl_replan when;
    struct sl_replan_watch *watch; /* [max_devices] */
    uint32_t *target;              /* [max_devices]: cut that the trainer was told and has not changed to */
    bool *known;                   /* [max_devices]: was in the last plan */
    uint32_t class_cut[SL_CLASSES_MAX];
    uint64_t looked_ns;
    struct job job;
    uint32_t state; /* atomic: enum job_state */
    bool stop;      /* atomic */
    sem_t asked;
    pthread_t thread;
    bool started;
    struct edge_plan_view view; /* written here, word by word; telemetry reads */
};

/* ------------------------------------------------------------------------------------ the planner's thread
 */

static double seconds_now(void)
{
    return (double)sl_loop_now_ns() * 1e-9;
}

static void *run(void *arg)
{
    struct edge_planner *p = arg;

    for (;;) {
        while (sem_wait(&p->asked) && errno == EINTR)
            ;
        if (__atomic_load_n(&p->stop, __ATOMIC_ACQUIRE))
            return NULL;
        struct job *j = &p->job;
        double from = seconds_now();
        j->status = sl_replan_decide(&j->scenario, j->objective, j->hysteresis, j->seed, &p->stop, j->cuts,
            &j->plan, j->cost, &j->result);
        j->seconds = seconds_now() - from;
        __atomic_store_n(&p->state, JOB_DONE, __ATOMIC_RELEASE);
    }
}

/* ------------------------------------------------------------------------------------------------- its life
 */

static bool reserve(struct edge_planner *p, uint32_t n)
{
    struct job *j = &p->job;

    p->watch = calloc(n, sizeof *p->watch);
    p->target = calloc(n, sizeof *p->target);
    p->known = calloc(n, sizeof *p->known);
    j->scenario.user = calloc(n, sizeof *j->scenario.user);
    j->scenario.gain = calloc(n, sizeof *j->scenario.gain);
    j->plan.user = calloc(n, sizeof *j->plan.user);
    j->cost = calloc(n, sizeof *j->cost);
    j->device = calloc(n, sizeof *j->device);
    j->was = calloc(n, sizeof *j->was);
    j->cuts = calloc(n, sizeof *j->cuts);
    return p->watch && p->target && p->known && j->scenario.user && j->scenario.gain && j->plan.user &&
           j->cost && j->device && j->was && j->cuts;
}

int edge_open_planner(struct edge *e)
{
    struct edge_planner *p;

    if (!e->x->plan.live)
        return 0;
    p = e->planner = calloc(1, sizeof *p);
    if (!p || !reserve(p, e->max_devices)) {
        snprintf(e->err, sizeof e->err, "not enough memory to plan for %u devices; lower edge.max_devices",
            e->max_devices);
        return -ENOMEM;
    }
    sl_replan_begin(&p->when, e->x->plan.replan_s);
    sem_init(&p->asked, 0, 0);
    int status = -pthread_create(&p->thread, NULL, run, p);
    if (status) {
        snprintf(e->err, sizeof e->err, "cannot start the planner's thread: %s", strerror(-status));
        return status;
    }
    pthread_setname_np(p->thread, "sl-planner");
    p->started = true;
    return 0;
}

void edge_close_planner(struct edge *e)
{
    struct edge_planner *p = e->planner;

    if (!p)
        return;
    if (p->started) {
        __atomic_store_n(&p->stop, true, __ATOMIC_RELEASE);
        sem_post(&p->asked);
        pthread_join(p->thread, NULL); /* at most a group's plan away */
        sem_destroy(&p->asked);
    }
    free(p->watch);
    free(p->target);
    free(p->known);
    free(p->job.scenario.user);
    free(p->job.scenario.gain);
    free(p->job.plan.user);
    free(p->job.cost);
    free(p->job.device);
    free(p->job.was);
    free(p->job.cuts);
    free(p);
    e->planner = NULL;
}

const struct edge_plan_view *edge_plan_view(const struct edge *e)
{
    return e->planner ? &e->planner->view : NULL;
}

/* --------------------------------------------------------------------------------------------- what it hears
 */

void edge_plan_beat(struct edge *e, struct device *d, const Sluice__Heartbeat *h)
{
    struct edge_planner *p = e->planner;

    if (!p || e->phase != SLUICE__PHASE__PHASE_TRAIN)
        return;
    double held_s = (double)sl_trainer_held_ns(e->trainer, d->index) * 1e-9;
    sl_replan_beat(&p->when, &p->watch[d->index], p->target[d->index] ? 0 : d->cut, h->steps,
        h->computed_s + h->turn_s - held_s, h->battery, h->battery_floor);
    if (p->when.last_s >= 0 && !p->known[d->index] && sl_profile_ready(edge_profile(e, d))) {
        p->known[d->index] = true;
        sl_replan_members(&p->when);
    }
}

void edge_plan_members(struct edge *e, struct device *d)
{
    struct edge_planner *p = e->planner;

    if (!p)
        return;
    sl_replan_predict(&p->watch[d->index], 0, 0);
    if (p->when.last_s >= 0 && sl_profile_ready(edge_profile(e, d)))
        sl_replan_members(&p->when);
}

void edge_plan_cut_changed(struct edge *e, struct device *d)
{
    if (e->planner && e->planner->target[d->index] == d->cut)
        e->planner->target[d->index] = 0;
}

uint32_t edge_plan_first_cut(const struct edge *e, uint32_t class)
{
    uint32_t cut = e->planner ? e->planner->class_cut[class] : 0;

    return cut ? cut : e->x->fleet[class].cut;
}

/* ------------------------------------------------------------------------------------------------- asking */

static bool can_be_planned(const struct edge *e, const struct device *d)
{
    return d->state == DEVICE_JOINED && d->cut && sl_profile_ready(edge_profile(e, d));
}

/* The first plan waits until everybody who is here is known, but not for ever. */
static bool all_known(const struct edge *e, uint64_t now)
{
    uint32_t known = 0;

    for (uint32_t i = 0; i < e->max_devices; i++)
        known += can_be_planned(e, &e->devices[i]);
    return known && (known >= e->n_joined || now - e->phase_ns > PATIENCE_NS);
}

static void describe(struct edge *e, const struct device *d, struct sl_plan_user *u)
{
    const struct sl_plan_keys *keys = &e->x->plan;
    const struct sl_cost_shape shape = edge_cost_shape(e);
    const uint32_t class = edge_class_index(e, d);
    struct sl_profile_work work;

    edge_profile_work(e, d, &work);
    work.min_layers = keys->min_cut[class];
    work.max_layers = keys->max_cut[class];
    /* The stability term counts every device alike: of its samples nothing is known that it would take. */
    *u = (struct sl_plan_user){.samples = 1, .lipschitz = keys->weight_stability > 0 ? 1 : 0};
    sl_profile_user(edge_profile(e, d), &work, u);
    u->head_flop = 2 * sl_cost_head_forward(&shape, e->x->training.batch * (d->class->seq - 1));
}

/* One server: this edge node, whose clock is counted in FLOP/s. Gains are 1 and the noise is, too: rates were
 * measured, they do not come from them. */
static void ask(struct edge *e, enum sl_replan_reason reason, uint64_t now)
{
    struct edge_planner *p = e->planner;
    struct job *j = &p->job;
    const struct sl_plan_keys *keys = &e->x->plan;
    struct sl_plan_scenario *s = &j->scenario;
    double uplinks = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < e->max_devices; i++) {
        const struct device *d = &e->devices[i];
        p->known[i] = can_be_planned(e, d);
        if (!p->known[i])
            continue;
        describe(e, d, &s->user[n]);
        uplinks += s->user[n].bandwidth_max_hz;
        s->gain[n] = 1;
        j->device[n] = i;
        j->was[n] = j->cuts[n] = p->target[i] ? p->target[i] : d->cut;
        n++;
    }
    if (keys->uplink_mbps > 0 && keys->uplink_mbps * 1e6 < uplinks)
        uplinks = keys->uplink_mbps * 1e6;
    else
        uplinks *= ROOM;
    j->server = (struct sl_plan_server){.bandwidth_hz = uplinks,
        .f_max_hz = sl_profile_edge_flops(&e->speed),
        .cores = 1,
        .flop_per_cycle = 1};
    s->n_users = n;
    s->n_servers = 1;
    s->layers = e->shape->n_layers;
    s->noise_w_per_hz = 1;
    s->min_share = 0;
    s->battery_price = keys->battery_price;
    s->asynchronous = e->x->training.gang.async;
    s->weights = (struct sl_plan_weights){keys->weight_delay, keys->weight_energy, keys->weight_stability};
    s->server = &j->server;
    j->objective = keys->printed ? SL_PLAN_PRINTED : SL_PLAN_PHYSICAL;
    j->hysteresis = keys->hysteresis;
    j->seed = e->x->seed;
    j->reason = reason;
    sl_replan_asked(&p->when, (double)now * 1e-9);
    if (n == 0)
        return;
    __atomic_store_n(&p->state, JOB_ASKED, __ATOMIC_RELEASE);
    sem_post(&p->asked);
}

/* ------------------------------------------------------------------------------------------------- telling
 */

/* A step's own time: computing, and on the way. The gang's part is not the device's. */
static double own_time(const struct sl_plan_user *u, const struct sl_plan_choice *c)
{
    return c->alpha * u->layer_flop / (u->cores * u->flop_per_cycle * c->f_hz) +
           u->up_bit / (c->bandwidth_hz * u->up_bps_per_hz) + u->down_bit / u->down_bps + u->rtt_s;
}

static double bound(double planned, double at_most)
{
    return planned >= AS_IT_LIKES * at_most ? 0 : planned;
}

static void tell_device(struct edge *e, struct device *d, const struct sl_plan_user *u,
    const struct sl_plan_choice *c, uint32_t was)
{
    struct edge_planner *p = e->planner;
    double clock = u->f_max_hz > 1 ? bound(c->f_hz, u->f_max_hz) : 0; /* 1: no clock was told */
    double rate = bound(c->bandwidth_hz, u->bandwidth_max_hz) * u->up_bps_per_hz;
    double share = c->f_edge_hz / p->job.server.f_max_hz;
    bool worth = false;

    if (c->alpha != was) {
        const struct sl_command command = {.kind = SL_COMMAND_CUT, .device = d->index, .cut = c->alpha};
        edge_command(e, &command);
        p->target[d->index] = c->alpha;
    }
    if (sl_replan_worth(d->planned.clock_hz, clock)) {
        d->planned.clock_hz = clock;
        worth = true;
    }
    if (sl_replan_worth(d->planned.rate_up_bps, rate)) {
        d->planned.rate_up_bps = rate;
        worth = true;
    }
    if (sl_replan_worth(d->planned.share, share)) {
        d->planned.share = share;
        edge_command_share(e, d);
    }
    if (worth)
        edge_send_bounds(e, d);
    sl_replan_predict(&p->watch[d->index], c->alpha, own_time(u, c));
}

/* What most of a class have now: newcomers begin there. */
static void note_classes(struct edge *e)
{
    struct edge_planner *p = e->planner;
    const struct job *j = &p->job;

    for (uint32_t class = 0; class < e->x->n_classes; class ++) {
        uint32_t best = 0, cuts[256] = {0};
        for (uint32_t n = 0; n < j->scenario.n_users; n++)
            if (edge_class_index(e, &e->devices[j->device[n]]) == class && j->cuts[n] < 256)
                cuts[j->cuts[n]]++;
        for (uint32_t k = 1; k < 256; k++)
            best = cuts[k] > cuts[best] ? k : best;
        if (best)
            p->class_cut[class] = best;
    }
}

static void add_device(cJSON *list, const struct edge *e, const struct job *j, uint32_t n)
{
    const struct device *d = &e->devices[j->device[n]];
    const struct sl_plan_choice *c = &j->plan.user[n];
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "device", d->id);
    cJSON_AddNumberToObject(o, "from", j->was[n]);
    cJSON_AddNumberToObject(o, "cut", j->cuts[n]);
    if (c->server != SL_PLAN_NOBODY) {
        cJSON_AddNumberToObject(o, "own_s", own_time(&j->scenario.user[n], c));
        cJSON_AddNumberToObject(o, "step_s", j->cost[n].delay_s);
        cJSON_AddNumberToObject(o, "energy_j", j->cost[n].energy_j);
        cJSON_AddNumberToObject(o, "clock_hz", d->planned.clock_hz);
        cJSON_AddNumberToObject(o, "rate_up_bps", d->planned.rate_up_bps);
        cJSON_AddNumberToObject(o, "share", c->f_edge_hz / j->server.f_max_hz);
    }
    cJSON_AddItemToArray(list, o);
}

static void add_class(cJSON *list, const struct edge *e, const struct job *j, uint32_t class)
{
    double own_s = 0, step_s = 0, energy_j = 0, cut = 0;
    uint32_t least = UINT32_MAX, most = 0, devices = 0;

    for (uint32_t n = 0; n < j->scenario.n_users; n++) {
        if (j->plan.user[n].server == SL_PLAN_NOBODY ||
            edge_class_index(e, &e->devices[j->device[n]]) != class)
            continue;
        own_s += own_time(&j->scenario.user[n], &j->plan.user[n]);
        step_s = fmax(step_s, j->cost[n].delay_s);
        energy_j += j->cost[n].energy_j;
        cut += j->cuts[n];
        least = j->cuts[n] < least ? j->cuts[n] : least;
        most = j->cuts[n] > most ? j->cuts[n] : most;
        devices++;
    }
    if (devices == 0)
        return;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "class", e->x->fleet[class].name);
    cJSON_AddNumberToObject(o, "devices", devices);
    cJSON_AddNumberToObject(o, "cut_min", least);
    cJSON_AddNumberToObject(o, "cut_mean", cut / devices);
    cJSON_AddNumberToObject(o, "cut_max", most);
    cJSON_AddNumberToObject(o, "own_s_mean", own_s / devices);
    cJSON_AddNumberToObject(o, "step_s_max", step_s);
    cJSON_AddNumberToObject(o, "energy_j_mean", energy_j / devices);
    cJSON_AddItemToArray(list, o);
}

static void report(struct edge *e)
{
    const struct job *j = &e->planner->job;
    cJSON *o = cJSON_CreateObject();

    cJSON_AddStringToObject(o, "reason", sl_replan_reason_name(j->reason));
    cJSON_AddNumberToObject(o, "step", (double)e->global_step);
    cJSON_AddNumberToObject(o, "devices", j->scenario.n_users);
    cJSON_AddNumberToObject(o, "planned", j->result.planned);
    cJSON_AddNumberToObject(o, "changed", j->result.changed);
    sl_metrics_number(o, "objective_now", j->result.objective_now);
    sl_metrics_number(o, "objective", j->result.objective);
    sl_metrics_number(o, "objective_free", j->result.free_objective);
    sl_metrics_number(o, "step_s", j->result.score.delay_s);
    sl_metrics_number(o, "energy_j", j->result.score.energy_j);
    cJSON_AddNumberToObject(o, "edge_flops", j->server.f_max_hz);
    cJSON_AddNumberToObject(o, "uplinks_bps", j->server.bandwidth_hz);
    cJSON_AddNumberToObject(o, "solver_s", j->seconds);
    cJSON *list = cJSON_AddArrayToObject(o, j->scenario.n_users <= DEVICES_LISTED ? "users" : "classes");
    for (uint32_t n = 0; j->scenario.n_users <= DEVICES_LISTED && n < j->scenario.n_users; n++)
        add_device(list, e, j, n);
    for (uint32_t c = 0; j->scenario.n_users > DEVICES_LISTED && c < e->x->n_classes; c++)
        add_class(list, e, j, c);
    edge_event(e, "plan", o);
}

static void set(uint64_t *to, double value)
{
    __atomic_store_n(to, isfinite(value) && value > 0 ? (uint64_t)value : 0, __ATOMIC_RELAXED);
}

static void show(struct edge_planner *p, uint64_t now)
{
    const struct job *j = &p->job;

    set(&p->view.reason, j->reason);
    set(&p->view.devices, j->result.planned);
    set(&p->view.changed, j->result.changed);
    set(&p->view.changed_all, (double)p->view.changed_all + j->result.changed);
    set(&p->view.objective_now, j->result.objective_now * 1e6);
    set(&p->view.objective, j->result.objective * 1e6);
    set(&p->view.solver_us, j->seconds * 1e6);
    __atomic_store_n(&p->view.at_ns, now, __ATOMIC_RELAXED);
    set(&p->view.plans, (double)p->view.plans + 1);
}

static void take_answer(struct edge *e, uint64_t now)
{
    struct edge_planner *p = e->planner;
    struct job *j = &p->job;

    sl_replan_answered(&p->when, j->seconds);
    if (j->status) {
        edge_say(e, "no plan: %s", strerror(-j->status));
        return;
    }
    for (uint32_t n = 0; n < j->scenario.n_users; n++) {
        struct device *d = &e->devices[j->device[n]];
        if (d->state == DEVICE_JOINED && j->plan.user[n].server != SL_PLAN_NOBODY)
            tell_device(e, d, &j->scenario.user[n], &j->plan.user[n], j->was[n]);
    }
    note_classes(e);
    report(e);
    show(p, now);
}

void edge_poll_planner(struct edge *e, uint64_t now)
{
    struct edge_planner *p = e->planner;

    if (!p || e->phase != SLUICE__PHASE__PHASE_TRAIN || e->ending || now - p->looked_ns < LOOK_EVERY_NS)
        return;
    p->looked_ns = now;
    uint32_t state = __atomic_load_n(&p->state, __ATOMIC_ACQUIRE);
    if (state == JOB_DONE) {
        take_answer(e, now);
        __atomic_store_n(&p->state, JOB_IDLE, __ATOMIC_RELAXED);
        return;
    }
    enum sl_replan_reason reason = sl_replan_due(&p->when, (double)now * 1e-9);
    if (state != JOB_IDLE || reason == SL_REPLAN_NOTHING || !(sl_profile_edge_flops(&e->speed) > 0) ||
        (reason == SL_REPLAN_FIRST && !all_known(e, now)))
        return;
    ask(e, reason, now);
}
