#include "trainer/plan/physical_solve.h"

#include "trainer/plan/search.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 12, ALTERNATIONS_MAX = 30, PAIRS_MAX = 1000, SINGLES_MAX = 64, RANDOM_STARTS = 4 };
static const double settled = 1e-9, infeasible = 1e-9;
static const double bounds[] = {0.6, 0.85, 1.2};

static const int anything = SL_SEARCH_CUTS | SL_SEARCH_SERVERS;

/* ---- pairs of users ---- */

static bool fits(const struct sl_solver *s, uint32_t m)
{
    uint32_t k = 0;

    for (uint32_t i = 0; i < s->s->n_users; i++)
        k += s->server[i] == m;
    return k <= sl_plan_room(s->s, m);
}

static double server_now(struct sl_solver *s, uint32_t m)
{
    struct sl_plan_prices prices;
    uint32_t k = 0;

    for (uint32_t i = 0; i < s->s->n_users; i++)
        if (s->server[i] == m)
            s->member[k++] = (struct sl_plan_member){.user = i, .alpha = s->alpha[i], .x = 1};
    return !fits(s, m) ? INFINITY : s->v.server(s->v.ctx, m, s->member, k, INFINITY, &prices);
}

struct place {
    uint32_t server, alpha;
};

static void put(struct sl_solver *s, uint32_t n, struct place p)
{
    s->server[n] = p.server;
    s->alpha[n] = p.alpha;
}

static uint32_t places(const struct sl_solver *s, int what, uint32_t n, struct place *out)
{
    uint32_t least, most, k = 0;

    s->v.layers(s->v.ctx, n, &least, &most);
    if (!(what & SL_SEARCH_CUTS))
        least = most = s->alpha[n];
    for (uint32_t m = 0; m < s->s->n_servers; m++)
        for (uint32_t a = least; a <= most; a++)
            if (m == s->server[n] || ((what & SL_SEARCH_SERVERS) && sl_plan_can_serve(s->s, m, n)))
                out[k++] = (struct place){m, a};
    return k;
}

/* Two users to any places, those whose servers' values fall by it. value: [n_servers]. */
static bool move_two(struct sl_solver *s, int what, uint32_t a, uint32_t b, double *value, struct place *room)
{
    uint32_t n_a = places(s, what, a, room), n_b = places(s, what, b, room + n_a), m = s->s->n_servers;
    double *trial = value + m;
    bool any = false;

    for (uint32_t i = 0; i < n_a; i++)
        for (uint32_t k = n_a; k < n_a + n_b; k++) {
            struct place was_a = {s->server[a], s->alpha[a]}, was_b = {s->server[b], s->alpha[b]};
            uint32_t touched[4] = {was_a.server, was_b.server, room[i].server, room[k].server};
            double before = 0, now = 0;
            put(s, a, room[i]);
            put(s, b, room[k]);
            for (int c = 0; c < 4; c++) {
                bool again = false;
                for (int d = 0; d < c; d++)
                    again |= touched[d] == touched[c];
                if (again)
                    continue;
                before += value[touched[c]];
                now += trial[touched[c]] = server_now(s, touched[c]);
            }
            if (now < before * (1 - 1e-6)) {
                for (int c = 0; c < 4; c++)
                    value[touched[c]] = trial[touched[c]];
                any = true;
            } else {
                put(s, a, was_a);
                put(s, b, was_b);
            }
        }
    return any;
}

/* Where there are few: at a given bound one user's longer step is paid for by another's place, which no
 * single move finds. */
static int pairs(struct sl_solver *s, int what, uint32_t *moves)
{
    size_t n = s->s->n_users, m = s->s->n_servers, each = m * (s->s->layers - 1);

    if (n * (n - 1) / 2 * each * each > PAIRS_MAX)
        return 0;
    double *value = calloc(2 * m, sizeof *value);
    struct place *room = calloc(2 * each, sizeof *room);
    for (uint32_t i = 0; i < m && value && room; i++)
        value[i] = server_now(s, i);
    for (uint32_t a = 0; a < n && value && room; a++)
        for (uint32_t b = a + 1; b < n; b++)
            if (s->server[a] != SL_PLAN_NOBODY && s->server[b] != SL_PLAN_NOBODY)
                *moves += move_two(s, what, a, b, value, room);
    int rc = value && room ? 0 : -ENOMEM;
    free(value);
    free(room);
    return rc;
}

/* Moves at the present bound, the best bound for them, and again, while the whole falls. */
static int settle(struct sl_solver *s, int what)
{
    uint32_t n = s->s->n_users, *kept = malloc((size_t)n * 2 * sizeof *kept);
    double before = INFINITY;
    int rc = kept ? 0 : -ENOMEM;

    for (int round = 0; round < ROUNDS_MAX && !rc; round++) {
        uint32_t moves = 0;
        double value, now;
        rc = sl_plan_search(&s->v, what, s->server, s->alpha, &value, &moves);
        if (!rc)
            rc = pairs(s, what, &moves);
        if (rc)
            break;
        now = sl_physical_tau(s->physical, s->server, s->alpha, &s->now.kkt_residual);
        if (!(now < before * (1 - settled))) {
            if (now > before) { /* what the last round found was good at the old bound alone */
                memcpy(s->server, kept, n * sizeof *kept);
                memcpy(s->alpha, kept + n, n * sizeof *kept);
                before = sl_physical_tau(s->physical, s->server, s->alpha, &s->now.kkt_residual);
            }
            break;
        }
        s->now.moves += moves;
        sl_solver_note(s, now);
        before = now;
        memcpy(kept, s->server, n * sizeof *kept);
        memcpy(kept + n, s->alpha, n * sizeof *kept);
        if (!moves && round)
            break;
    }
    s->value = before;
    free(kept);
    return rc;
}

/* Where there are few: each user to each place, the bound the best for it every time. */
static int one_by_one(struct sl_solver *s, int what)
{
    size_t n = s->s->n_users, each = (size_t)s->s->n_servers * (s->s->layers - 1);
    bool any = true;

    if (n * each > SINGLES_MAX)
        return 0;
    struct place *room = calloc(each, sizeof *room);
    if (!room)
        return -ENOMEM;
    s->value = sl_physical_tau(s->physical, s->server, s->alpha, &s->now.kkt_residual);
    while (any) {
        any = false;
        for (uint32_t a = 0; a < n; a++) {
            uint32_t k = s->server[a] == SL_PLAN_NOBODY ? 0 : places(s, what, a, room);
            for (uint32_t i = 0; i < k; i++) {
                struct place was = {s->server[a], s->alpha[a]};
                put(s, a, room[i]);
                double now = fits(s, room[i].server)
                                 ? sl_physical_tau(s->physical, s->server, s->alpha, &s->now.kkt_residual)
                                 : INFINITY;
                if (now < s->value * (1 - 1e-6)) {
                    s->value = now;
                    s->now.moves++;
                    sl_solver_note(s, now);
                    any = true;
                } else {
                    put(s, a, was);
                }
            }
        }
    }
    free(room);
    return 0;
}

/* From shorter and longer bounds than the best plan's. */
static int other_bounds(struct sl_solver *s, int what)
{
    uint32_t n = s->s->n_users;
    int rc = 0;

    sl_physical_tau(s->physical, s->best_server, s->best_alpha, NULL);
    double tau = sl_physical_get_tau(s->physical);
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds && isfinite(tau) && !rc; i++) {
        sl_solver_begin(s);
        memcpy(s->server, s->best_server, n * sizeof *s->server);
        memcpy(s->alpha, s->best_alpha, n * sizeof *s->alpha);
        sl_physical_set_tau(s->physical, bounds[i] * tau);
        rc = settle(s, what);
        if (!rc)
            sl_solver_keep(s);
    }
    return rc;
}

static int start_at_middle(struct sl_solver *s)
{
    sl_physical_set_tau(s->physical, INFINITY);
    sl_physical_tau(s->physical, s->server, s->alpha, NULL);
    return 0;
}

static int with_cuts(struct sl_solver *s)
{
    int rc = start_at_middle(s);

    if (!rc)
        rc = settle(s, SL_SEARCH_CUTS);
    if (!rc)
        sl_solver_keep(s);
    return rc ? rc : other_bounds(s, SL_SEARCH_CUTS);
}

/* ---- shares held ---- */

static void equal_shares(const struct sl_solver *s, struct sl_plan_choice *choice)
{
    const struct sl_plan_scenario *p = s->s;

    for (uint32_t n = 0; n < p->n_users; n++) {
        uint32_t m = s->server[n], users = 0;
        choice[n] = (struct sl_plan_choice){.server = SL_PLAN_NOBODY};
        if (m == SL_PLAN_NOBODY)
            continue;
        for (uint32_t i = 0; i < p->n_users; i++)
            users += s->server[i] == m;
        const struct sl_plan_user *u = &p->user[n];
        double b = p->server[m].bandwidth_hz / users;
        choice[n] = (struct sl_plan_choice){s->alpha[n], m, u->p_max_w,
            u->bandwidth_max_hz > 0 ? fmin(b, u->bandwidth_max_hz) : b, u->f_max_hz,
            p->server[m].f_max_hz / users};
    }
}

/* The greatest and the second greatest time. */
static void slowest(const struct sl_plan_cost *cost, uint32_t n, double most[2], uint32_t *who)
{
    most[0] = most[1] = 0;
    *who = 0;
    for (uint32_t i = 0; i < n; i++)
        if (cost[i].delay_s > most[0]) {
            most[1] = most[0];
            most[0] = cost[i].delay_s;
            *who = i;
        } else if (cost[i].delay_s > most[1]) {
            most[1] = cost[i].delay_s;
        }
}

/* One user after the other takes the cut at which the whole costs least. */
static int cuts_at_shares(struct sl_solver *s, struct sl_plan_choice *choice)
{
    const struct sl_plan_scenario *p = s->s;
    struct sl_plan_cost *cost = calloc(p->n_users, sizeof *cost);
    struct sl_plan_scales scales;

    if (!cost)
        return -ENOMEM;
    sl_plan_scales(p, &scales);
    double drawn = 0;
    for (uint32_t n = 0; n < p->n_users; n++)
        if (choice[n].server != SL_PLAN_NOBODY) {
            sl_plan_user_cost(p, SL_PLAN_PHYSICAL, n, &choice[n], &cost[n]);
            drawn += sl_plan_idle_weight(p, &scales, n);
        }
    for (uint32_t n = 0; n < p->n_users; n++) {
        const struct sl_plan_user *u = &p->user[n];
        double most[2], best_value = INFINITY;
        uint32_t least, greatest, who, best = choice[n].alpha;
        if (choice[n].server == SL_PLAN_NOBODY)
            continue;
        slowest(cost, p->n_users, most, &who);
        s->v.layers(s->v.ctx, n, &least, &greatest);
        for (uint32_t a = least; a <= greatest; a++) {
            struct sl_plan_choice c = choice[n];
            struct sl_plan_cost own;
            c.alpha = a;
            sl_plan_user_cost(p, SL_PLAN_PHYSICAL, n, &c, &own);
            double time = p->asynchronous ? own.delay_s : fmax(own.delay_s, who == n ? most[1] : most[0]);
            double idling = p->asynchronous ? sl_plan_idle_weight(p, &scales, n) : drawn;
            double value = (p->weights.delay / scales.tau0_s + idling) * time +
                           p->weights.energy * sl_plan_battery_weight(p, n) * own.energy_j / scales.energy0_j;
            if (p->weights.stability > 0)
                value += p->weights.stability * own.stability / scales.stability0;
            if ((u->deadline_s > 0 && own.delay_s > u->deadline_s) ||
                (u->energy_j > 0 && own.energy_j > u->energy_j))
                value = INFINITY;
            if (value < best_value) {
                best_value = value;
                best = a;
            }
        }
        choice[n].alpha = s->alpha[n] = best;
        sl_plan_user_cost(p, SL_PLAN_PHYSICAL, n, &choice[n], &cost[n]);
    }
    free(cost);
    return 0;
}

/* Association at the present prices and bound, cuts held. */
static int servers_at_prices(struct sl_solver *s)
{
    uint32_t n = s->s->n_users, m = s->s->n_servers;

    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < m; k++)
            s->cost[(size_t)i * m + k] = s->server[i] != SL_PLAN_NOBODY && sl_plan_can_serve(s->s, k, i)
                                             ? s->v.user(s->v.ctx, k, i, s->alpha[i], &s->prices[k])
                                             : INFINITY;
    int rc = sl_assign(s->s, s->cost, s->server);

    return rc > 0 ? -ENOSPC : rc;
}

/* Cuts at held shares, shares at held cuts, association at held prices, until nothing falls. */
static int alternate(struct sl_solver *s, struct sl_plan_choice *choice, double *mu)
{
    uint32_t n = s->s->n_users;
    double before = INFINITY;
    int rc = 0;

    equal_shares(s, choice);
    for (int k = 0; k < ALTERNATIONS_MAX && !rc; k++) {
        memcpy(s->spare, s->alpha, n * sizeof *s->spare);
        rc = cuts_at_shares(s, choice);
        if (rc)
            break;
        s->value = sl_physical_choose(s->physical, s->server, s->alpha, choice, s->prices, mu);
        if (!(s->value < before * (1 - settled))) {
            if (s->value > before)
                memcpy(s->alpha, s->spare, n * sizeof *s->spare);
            break;
        }
        before = s->value;
        memcpy(s->spare, s->server, n * sizeof *s->spare);
        rc = servers_at_prices(s);
        if (rc)
            break;
        double moved = sl_physical_tau(s->physical, s->server, s->alpha, NULL);
        if (!(moved < before))
            memcpy(s->server, s->spare, n * sizeof *s->spare);
        sl_physical_choose(s->physical, s->server, s->alpha, choice, s->prices, mu);
    }
    s->value = sl_physical_tau(s->physical, s->server, s->alpha, NULL);
    return rc;
}

/* ---- methods ---- */

static void extreme_cuts(struct sl_solver *s, bool greatest)
{
    for (uint32_t n = 0; n < s->s->n_users; n++) {
        uint32_t least, most;
        s->v.layers(s->v.ctx, n, &least, &most);
        s->alpha[n] = greatest ? most : least;
    }
}

/* Leaves a comparison's association and cuts in s->server, s->alpha. *held: its choice is in `choice`, shares
 * and all. */
static int compare(
    struct sl_solver *s, enum sl_plan_method method, struct sl_plan_choice *choice, double *mu, bool *held)
{
    uint32_t n = s->s->n_users;
    int rc = method == SL_PLAN_GREEDY || method == SL_PLAN_EDGE_ONLY ? sl_baseline_by_rate(s)
                                                                     : sl_baseline_at_random(s, 0);

    *held = method == SL_PLAN_ALPHA_ONLY;
    if (rc)
        return rc;
    switch (method) {
    case SL_PLAN_ALPHA_ONLY:
        equal_shares(s, choice);
        return cuts_at_shares(s, choice);
    case SL_PLAN_ALTERNATING:
        return alternate(s, choice, mu);
    case SL_PLAN_EDGE_ONLY:
    case SL_PLAN_LOCAL_ONLY:
        extreme_cuts(s, method == SL_PLAN_LOCAL_ONLY);
        start_at_middle(s);
        return method == SL_PLAN_EDGE_ONLY ? settle(s, SL_SEARCH_SERVERS) : 0;
    case SL_PLAN_GREEDY:
    case SL_PLAN_RANDOM:
        s->best = INFINITY;
        rc = with_cuts(s);
        memcpy(s->server, s->best_server, n * sizeof *s->server);
        memcpy(s->alpha, s->best_alpha, n * sizeof *s->alpha);
        return rc;
    default: /* resources only: middle cuts */
        return 0;
    }
}

static int proposed(struct sl_solver *s, struct sl_plan_choice *choice, double *mu)
{
    uint32_t n = s->s->n_users, *best = malloc((size_t)n * 2 * sizeof *best);
    double value = INFINITY;
    bool held;
    int rc = best ? 0 : -ENOMEM;

    /* Where no comparison has a finite value: everybody's first server, the middle cut. */
    if (best) {
        memcpy(best, s->server, n * sizeof *best);
        memcpy(best + n, s->alpha, n * sizeof *best);
    }
    /* Every comparison's association and cuts, so that none of them is better. */
    for (int method = SL_PLAN_PROPOSED + 1; method < SL_PLAN_METHOD_COUNT && !rc; method++) {
        sl_solver_begin(s);
        rc = compare(s, (enum sl_plan_method)method, choice, mu, &held);
        if (rc)
            break;
        double now = sl_physical_tau(s->physical, s->server, s->alpha, NULL);
        if (now < value) {
            value = now;
            memcpy(best, s->server, n * sizeof *best);
            memcpy(best + n, s->alpha, n * sizeof *best);
        }
    }
    s->best = INFINITY;
    int starts = 3 + (n * s->s->n_servers * (s->s->layers - 1) <= SINGLES_MAX ? RANDOM_STARTS : 0);
    for (int start = 0; start < starts && !rc; start++) {
        sl_solver_begin(s);
        if (start == 0) {
            memcpy(s->server, best, n * sizeof *best);
            memcpy(s->alpha, best + n, n * sizeof *best);
        } else {
            sl_physical_set_tau(
                s->physical, s->best < INFINITY ? sl_physical_get_tau(s->physical) : INFINITY);
            rc = start == 1   ? sl_associate(&s->v, s->relaxed, false, s->server, NULL)
                 : start == 2 ? sl_baseline_by_rate(s)
                              : sl_baseline_at_random(s, (uint32_t)start);
        }
        if (!rc)
            rc = start_at_middle(s);
        if (!rc)
            rc = settle(s, anything);
        if (!rc)
            rc = one_by_one(s, anything);
        if (!rc)
            sl_solver_keep(s);
    }
    free(best);
    if (!rc && !isfinite(s->best)) /* numbers so far apart that no plan's cost is one */
        rc = -ERANGE;
    if (!rc)
        rc = other_bounds(s, anything);
    if (rc)
        return rc;
    memcpy(s->server, s->best_server, n * sizeof *s->server);
    memcpy(s->alpha, s->best_alpha, n * sizeof *s->alpha);
    return 0;
}

/* By how much a user misses its own bounds, relative. */
static double misses(const struct sl_plan_scenario *s, uint32_t n, const struct sl_plan_choice *c)
{
    const struct sl_plan_user *u = &s->user[n];
    struct sl_plan_cost cost;
    double by = 0;

    if (c->server == SL_PLAN_NOBODY)
        return 0;
    sl_plan_user_cost(s, SL_PLAN_PHYSICAL, n, c, &cost);
    if (u->deadline_s > 0)
        by = fmax(by, cost.delay_s / u->deadline_s - 1);
    if (u->energy_j > 0)
        by = fmax(by, cost.energy_j / u->energy_j - 1);
    return by;
}

static bool leave_worst_out(struct sl_solver *s, const struct sl_plan_choice *choice)
{
    double most = infeasible;
    uint32_t worst = SL_PLAN_NOBODY;

    for (uint32_t n = 0; n < s->s->n_users; n++)
        if (misses(s->s, n, &choice[n]) > most) {
            most = misses(s->s, n, &choice[n]);
            worst = n;
        }
    if (worst == SL_PLAN_NOBODY)
        return false;
    s->who[worst] = SL_PLAN_NOBODY;
    return true;
}

static int solve_once(
    struct sl_solver *s, enum sl_plan_method method, struct sl_plan_choice *choice, double *mu)
{
    bool held = false;
    int rc;

    s->best = INFINITY;
    sl_solver_begin(s);
    rc = method == SL_PLAN_PROPOSED ? proposed(s, choice, mu) : compare(s, method, choice, mu, &held);
    if (!rc && !held)
        sl_physical_choose(s->physical, s->server, s->alpha, choice, s->prices, mu);
    return rc;
}

int sl_physical_solve(struct sl_solver *s, enum sl_plan_method method, struct sl_plan_choice *choice)
{
    double *mu = calloc(s->s->n_users, sizeof *mu);
    int rc = mu ? 0 : -ENOMEM;

    do {
        rc = rc ? rc : solve_once(s, method, choice, mu);
    } while (!rc && leave_worst_out(s, choice));
    if (!rc && method == SL_PLAN_PROPOSED) {
        s->report.lower_bound = sl_physical_lower_bound(s->physical, s->who, s->prices, mu);
    } else if (!rc) {
        s->report = s->now;
        s->report.kkt_residual = s->report.lower_bound = NAN;
        s->starts = 1;
    }
    free(mu);
    return rc;
}
