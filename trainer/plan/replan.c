#include "trainer/plan/replan.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TRIFLE 0.05 /* of a bound that was told; of the mean gain of a change of cut */

/* ------------------------------------------------------------------------------------------------- when */

const char *sl_replan_reason_name(enum sl_replan_reason r)
{
    static const char *const names[] = {[SL_REPLAN_NOTHING] = "nothing",
        [SL_REPLAN_FIRST] = "first",
        [SL_REPLAN_PERIOD] = "period",
        [SL_REPLAN_MEMBERS] = "members",
        [SL_REPLAN_STEPS] = "steps",
        [SL_REPLAN_BATTERY] = "battery"};

    return (unsigned)r < sizeof names / sizeof names[0] ? names[r] : "?";
}

void sl_replan_begin(struct sl_replan *r, double every_s)
{
    *r = (struct sl_replan){.every_s = every_s, .last_s = -1};
}

static void want(struct sl_replan *r, enum sl_replan_reason reason)
{
    if (r->wanted == SL_REPLAN_NOTHING)
        r->wanted = reason; /* the first one is told */
}

void sl_replan_predict(struct sl_replan_watch *w, uint32_t cut, double step_s)
{
    w->cut = isfinite(step_s) && step_s > 0 ? cut : 0;
    w->predicted_s = step_s;
    w->has = false;
    w->off = 0;
}

static void watch_steps(struct sl_replan *r, struct sl_replan_watch *w, double measured_s)
{
    if (fabs(measured_s - w->predicted_s) <= SL_REPLAN_DRIFT * w->predicted_s) {
        w->off = 0;
        return;
    }
    if (++w->off < SL_REPLAN_BEATS)
        return;
    w->off = 0;
    want(r, SL_REPLAN_STEPS);
}

void sl_replan_beat(struct sl_replan *r, struct sl_replan_watch *w, uint32_t cut, uint64_t steps,
    double own_s, double battery, double floor)
{
    bool low = battery - floor < SL_REPLAN_MARGIN;

    if (low && !w->low)
        want(r, SL_REPLAN_BATTERY);
    w->low = low;
    if (cut == 0 || cut != w->cut || steps < w->steps || own_s < w->own_s || !isfinite(own_s)) {
        w->has = false; /* another cut, or a device that began anew: these sums are where to begin */
    } else if (w->has && steps > w->steps) {
        watch_steps(r, w, (own_s - w->own_s) / (double)(steps - w->steps));
    } else if (w->has) {
        return; /* no step since */
    }
    w->has = cut != 0 && cut == w->cut && isfinite(own_s);
    w->steps = steps;
    w->own_s = isfinite(own_s) ? own_s : 0;
}

void sl_replan_members(struct sl_replan *r)
{
    want(r, SL_REPLAN_MEMBERS);
}

enum sl_replan_reason sl_replan_due(const struct sl_replan *r, double now_s)
{
    double since = now_s - r->last_s, least = fmax(SL_REPLAN_LEAST_S, SL_REPLAN_SOLVER * r->solver_s);

    if (r->last_s < 0)
        return SL_REPLAN_FIRST;
    if (since >= fmax(r->every_s, SL_REPLAN_SOLVER * r->solver_s))
        return r->wanted ? r->wanted : SL_REPLAN_PERIOD;
    return since >= fmin(least, r->every_s) ? r->wanted : SL_REPLAN_NOTHING;
}

void sl_replan_asked(struct sl_replan *r, double now_s)
{
    r->last_s = now_s;
    r->wanted = SL_REPLAN_NOTHING;
}

void sl_replan_answered(struct sl_replan *r, double solver_s)
{
    r->solver_s = solver_s;
}

bool sl_replan_worth(double told, double now)
{
    if (told <= 0 || now <= 0)
        return (told > 0) != (now > 0);
    return fabs(now - told) > TRIFLE * told;
}

/* ------------------------------------------------------------------------------------------------- what */

/* What is needed beside the answer. */
struct work {
    struct sl_plan_choice *now; /* the best shares for the cuts in force */
    struct bounds {
        uint32_t least, most;
    } * bounds; /* the scenario's own */
};

static void release(struct work *w)
{
    free(w->now);
    free(w->bounds);
}

static int reserve(struct work *w, const struct sl_plan_scenario *s)
{
    w->now = calloc(s->n_users, sizeof *w->now);
    w->bounds = calloc(s->n_users, sizeof *w->bounds);
    for (uint32_t n = 0; w->bounds && n < s->n_users; n++)
        w->bounds[n] = (struct bounds){s->user[n].min_layers, s->user[n].max_layers};
    return w->now && w->bounds ? 0 : -ENOMEM;
}

static void open_bounds(struct sl_plan_scenario *s, const struct work *w)
{
    for (uint32_t n = 0; n < s->n_users; n++) {
        s->user[n].min_layers = w->bounds[n].least;
        s->user[n].max_layers = w->bounds[n].most;
    }
}

/* Every n_groups-th user, with the part of each server that its number asks for: groups of a large fleet are
 * alike, and so are their best plans. */
static int solve_group(const struct sl_plan_scenario *s, enum sl_plan_objective o, uint64_t seed,
    uint32_t group, uint32_t n_groups, struct sl_plan *p)
{
    uint32_t n = (s->n_users - group + n_groups - 1) / n_groups;
    double part = (double)n / s->n_users;
    struct sl_plan_scenario own = *s;
    struct sl_plan own_plan = {.n = n, .user = calloc(n, sizeof *own_plan.user)};
    struct sl_plan_report *report = malloc(sizeof *report);
    int status = -ENOMEM;

    own.n_users = n;
    own.user = malloc(n * sizeof *own.user);
    own.gain = malloc((size_t)n * s->n_servers * sizeof *own.gain);
    own.server = malloc(s->n_servers * sizeof *own.server);
    if (own_plan.user && report && own.user && own.gain && own.server) {
        for (uint32_t i = 0; i < n; i++) {
            size_t from = group + (size_t)i * n_groups;
            own.user[i] = s->user[from];
            memcpy(own.gain + (size_t)i * s->n_servers, s->gain + from * s->n_servers,
                s->n_servers * sizeof *own.gain);
        }
        for (uint32_t m = 0; m < s->n_servers; m++) {
            own.server[m] = s->server[m];
            own.server[m].bandwidth_hz *= part;
            own.server[m].f_max_hz *= part;
            own.server[m].slots = s->server[m].slots / n_groups + (s->server[m].slots != 0);
        }
        own.min_share = fmin(1, s->min_share / part);
        status = sl_plan_solve(&own, o, SL_PLAN_PROPOSED, seed, &own_plan, report);
    }
    for (uint32_t i = 0; !status && i < n; i++)
        p->user[group + (size_t)i * n_groups] = own_plan.user[i];
    free(own.user);
    free(own.gain);
    free(own.server);
    free(own_plan.user);
    free(report);
    return status;
}

static int solve(const struct sl_plan_scenario *s, enum sl_plan_objective o, uint64_t seed, const bool *stop,
    struct sl_plan *p, struct sl_plan_score *score)
{
    uint32_t n_groups = (s->n_users + SL_REPLAN_GROUP - 1) / SL_REPLAN_GROUP;
    int status = s->n_users ? 0 : -EINVAL;

    p->n = s->n_users;
    for (uint32_t g = 0; !status && g < n_groups; g++)
        status = stop && __atomic_load_n(stop, __ATOMIC_ACQUIRE) ? -ECANCELED
                                                                 : solve_group(s, o, seed, g, n_groups, p);
    if (!status)
        sl_plan_score(s, o, p, NULL, score);
    return status;
}

/* The best shares for given cuts: the same problem with one cut to choose from. */
static int solve_fixed(struct sl_plan_scenario *s, const struct work *w, enum sl_plan_objective o,
    uint64_t seed, const bool *stop, const uint32_t *cuts, struct sl_plan *p, struct sl_plan_score *score)
{
    for (uint32_t n = 0; n < s->n_users; n++)
        s->user[n].min_layers = s->user[n].max_layers = cuts[n];
    int status = solve(s, o, seed, stop, p, score);
    open_bounds(s, w);
    return status;
}

/* A user's part of the objective; of the synchronous physical one without the slowest step, which is
 * everybody's. */
static double part(const struct sl_plan_scenario *s, enum sl_plan_objective o, const struct sl_plan_scales *c,
    uint32_t n, const struct sl_plan_cost *cost)
{
    bool physical = o == SL_PLAN_PHYSICAL, own_delay = !physical || s->asynchronous;
    double energy =
        s->weights.energy * cost->energy_j / c->energy0_j * (physical ? sl_plan_battery_weight(s, n) : 1);
    double stability = s->weights.stability > 0 ? s->weights.stability * cost->stability / c->stability0 : 0;
    double second = s->weights.delay / c->tau0_s + (physical ? sl_plan_idle_weight(s, c, n) : 0);

    return energy + stability + (own_delay ? second * cost->delay_s : 0);
}

/* Takes back changes that bring next to nothing: who waits for a slower one anyhow need not move. With the
 * shares of the new plan each user's cost is its own, but for the slowest step. */
static uint32_t drop_trifles(const struct sl_plan_scenario *s, enum sl_plan_objective o, const uint32_t *cuts,
    struct sl_plan *p, struct sl_plan_cost *cost, double gain, uint32_t changed)
{
    struct sl_plan_scales scales = {1, 1, 1};
    double slowest = 0, second = s->weights.delay;
    uint32_t dropped = 0;

    if (o == SL_PLAN_PHYSICAL)
        sl_plan_scales(s, &scales);
    second /= scales.tau0_s;
    for (uint32_t n = 0; n < s->n_users; n++) {
        if (p->user[n].server == SL_PLAN_NOBODY)
            continue;
        sl_plan_user_cost(s, o, n, &p->user[n], &cost[n]);
        slowest = fmax(slowest, cost[n].delay_s);
        second += o == SL_PLAN_PHYSICAL ? sl_plan_idle_weight(s, &scales, n) : 0;
    }
    for (uint32_t n = 0; n < s->n_users; n++) {
        const struct sl_plan_user *u = &s->user[n];
        if (p->user[n].server == SL_PLAN_NOBODY || p->user[n].alpha == cuts[n])
            continue;
        struct sl_plan_choice old = p->user[n];
        struct sl_plan_cost back;
        old.alpha = cuts[n];
        sl_plan_user_cost(s, o, n, &old, &back);
        bool allowed = (u->deadline_s <= 0 || back.delay_s <= u->deadline_s) &&
                       (u->energy_j <= 0 || back.energy_j <= u->energy_j);
        double loss = part(s, o, &scales, n, &back) - part(s, o, &scales, n, &cost[n]);
        if (o == SL_PLAN_PHYSICAL && !s->asynchronous && back.delay_s > slowest)
            loss += second * (back.delay_s - slowest);
        if (!allowed || !(loss < TRIFLE * gain / changed))
            continue;
        p->user[n].alpha = cuts[n];
        dropped++;
    }
    return dropped;
}

static uint32_t count_changes(const struct sl_plan *p, const uint32_t *cuts)
{
    uint32_t changed = 0;

    for (uint32_t n = 0; n < p->n; n++)
        changed += p->user[n].server != SL_PLAN_NOBODY && p->user[n].alpha != cuts[n];
    return changed;
}

static int decide(struct sl_plan_scenario *s, enum sl_plan_objective o, double hysteresis, uint64_t seed,
    const bool *stop, uint32_t *cuts, struct sl_plan *p, struct sl_plan_cost *cost, struct work *w,
    struct sl_replan_result *r)
{
    struct sl_plan now = {.n = s->n_users, .user = w->now};
    struct sl_plan_score held, found;
    int status = solve_fixed(s, w, o, seed, stop, cuts, &now, &held);

    if (status)
        return status;
    status = solve(s, o, seed, stop, p, &found);
    if (status)
        return status;
    r->objective_now = held.objective;
    r->free_objective = found.objective;
    /* Where the cuts in force serve fewer users (a deadline, an energy bound), nothing else is compared. */
    bool more = found.planned > held.planned;
    double gain = r->objective_now - r->free_objective;
    uint32_t changed = count_changes(p, cuts);
    if (!changed || !(more || gain >= hysteresis * fabs(r->objective_now))) {
        memcpy(p->user, w->now, s->n_users * sizeof *p->user);
        return 0;
    }
    uint32_t dropped = more ? 0 : drop_trifles(s, o, cuts, p, cost, gain, changed);
    for (uint32_t n = 0; n < s->n_users; n++)
        if (p->user[n].server != SL_PLAN_NOBODY)
            cuts[n] = p->user[n].alpha;
    r->changed = changed - dropped;
    return dropped ? solve_fixed(s, w, o, seed, stop, cuts, p, &found) : 0;
}

int sl_replan_decide(struct sl_plan_scenario *s, enum sl_plan_objective o, double hysteresis, uint64_t seed,
    const bool *stop, uint32_t *cuts, struct sl_plan *p, struct sl_plan_cost *cost,
    struct sl_replan_result *r)
{
    struct work w = {0};

    memset(r, 0, sizeof *r);
    p->n = s->n_users;
    int status = reserve(&w, s);
    if (!status)
        status = decide(s, o, hysteresis, seed, stop, cuts, p, cost, &w, r);
    if (!status) {
        sl_plan_score(s, o, p, cost, &r->score);
        r->objective = r->score.objective;
        r->planned = r->score.planned;
    }
    release(&w);
    return status;
}
