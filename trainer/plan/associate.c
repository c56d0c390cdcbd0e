#include "trainer/plan/associate.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_STEPS_MAX = 12, STEPS_MAX = 3, ROUNDS_MAX = 6, HALVINGS = 3 };
static const double softened = 0.9, first_penalty = 0.1, penalty_factor = 8, present = 1e-9;

/* ---- the assignment ---- */

struct assigner {
    const struct sl_plan_scenario *s;
    const double *cost;
    uint32_t *server, *used;
    double *edge;    /* [M][M]: least extra cost of moving somebody from one to the other */
    uint32_t *mover; /* [M][M] */
    double *distance;
    uint32_t *before;
};

static void find_edges(struct assigner *a)
{
    uint32_t m = a->s->n_servers;

    for (size_t i = 0; i < (size_t)m * m; i++)
        a->edge[i] = INFINITY;
    for (uint32_t n = 0; n < a->s->n_users; n++) {
        uint32_t from = a->server[n];
        if (from == SL_PLAN_NOBODY || from >= m)
            continue;
        const double *c = a->cost + (size_t)n * m;
        for (uint32_t to = 0; to < m; to++) {
            double extra = c[to] - c[from];
            if (to != from && extra < a->edge[(size_t)from * m + to]) {
                a->edge[(size_t)from * m + to] = extra;
                a->mover[(size_t)from * m + to] = n;
            }
        }
    }
}

/* Bellman-Ford over the servers from one user's costs: there is no negative cycle, each insertion being
 * optimal. */
static uint32_t cheapest_end(struct assigner *a, uint32_t n)
{
    uint32_t m = a->s->n_servers, best = SL_PLAN_NOBODY;

    memcpy(a->distance, a->cost + (size_t)n * m, m * sizeof(double));
    for (uint32_t i = 0; i < m; i++)
        a->before[i] = SL_PLAN_NOBODY;
    for (uint32_t round = 0; round < m; round++) {
        bool changed = false;
        for (uint32_t from = 0; from < m; from++)
            for (uint32_t to = 0; to < m; to++) {
                double d = a->distance[from] + a->edge[(size_t)from * m + to];
                if (d < a->distance[to] && !(a->distance[to] - d <= 1e-12 * fabs(d))) {
                    a->distance[to] = d;
                    a->before[to] = from;
                    changed = true;
                }
            }
        if (!changed)
            break;
    }
    for (uint32_t i = 0; i < m; i++)
        if (a->used[i] < sl_plan_room(a->s, i) && isfinite(a->distance[i]) &&
            (best == SL_PLAN_NOBODY || a->distance[i] < a->distance[best]))
            best = i;
    return best;
}

static int insert(struct assigner *a, uint32_t n)
{
    uint32_t m = a->s->n_servers, to = cheapest_end(a, n), hops = 0;

    if (to == SL_PLAN_NOBODY)
        return -ENOSPC;
    a->used[to]++;
    while (a->before[to] != SL_PLAN_NOBODY && hops++ < m) {
        uint32_t from = a->before[to];
        a->server[a->mover[(size_t)from * m + to]] = to;
        to = from;
    }
    a->server[n] = to;
    return 0;
}

static bool everybody_first(struct assigner *a)
{
    uint32_t m = a->s->n_servers;

    for (uint32_t n = 0; n < a->s->n_users; n++) {
        const double *c = a->cost + (size_t)n * m;
        uint32_t best = 0;
        if (a->server[n] == SL_PLAN_NOBODY)
            continue;
        for (uint32_t i = 1; i < m; i++)
            best = c[i] < c[best] ? i : best;
        if (!isfinite(c[best]))
            return false;
        a->server[n] = best;
        a->used[best]++;
    }
    for (uint32_t i = 0; i < m; i++)
        if (a->used[i] > sl_plan_room(a->s, i))
            return false;
    return true;
}

int sl_assign(const struct sl_plan_scenario *s, const double *cost, uint32_t *server)
{
    size_t m = s->n_servers;
    struct assigner a = {s, cost, server, calloc(m, sizeof(uint32_t)), calloc(m * m, sizeof(double)),
        calloc(m * m, sizeof(uint32_t)), calloc(m, sizeof(double)), calloc(m, sizeof(uint32_t))};
    int rc = a.used && a.edge && a.mover && a.distance && a.before ? 0 : -ENOMEM;

    if (!rc && !everybody_first(&a)) {
        memset(a.used, 0, m * sizeof *a.used);
        for (uint32_t n = 0; n < s->n_users; n++)
            if (server[n] != SL_PLAN_NOBODY)
                server[n] = (uint32_t)m; /* waits */
        for (uint32_t n = 0; n < s->n_users; n++) {
            if (server[n] == SL_PLAN_NOBODY)
                continue;
            find_edges(&a);
            if (insert(&a, n)) {
                server[n] = SL_PLAN_NOBODY;
                rc++;
            }
        }
    }
    free(a.used);
    free(a.edge);
    free(a.mover);
    free(a.distance);
    free(a.before);
    return rc;
}

/* ---- the relaxed association ---- */

struct relaxed {
    const struct sl_plan_value *v;
    uint32_t n, m;
    const double *alpha;
    double *x, *try, *cost; /* [n][m] */
    uint32_t *target;
    struct sl_plan_member *member;
    struct sl_plan_prices *prices; /* [m], of x */
    double penalty;
};

static double surrogate(struct relaxed *r, const double *x)
{
    double sum = 0;

    for (uint32_t m = 0; m < r->m; m++) {
        uint32_t k = 0;
        for (uint32_t n = 0; n < r->n; n++) {
            double v = x[(size_t)n * r->m + m];
            if (v > present)
                r->member[k++] = (struct sl_plan_member){.user = n, .alpha = r->alpha[n], .x = v};
            sum += r->penalty * v * (1 - v);
        }
        sum += r->v->server(r->v->ctx, m, r->member, k, &r->prices[m]);
    }
    return sum;
}

/* The slopes: a user's cost at the prices of x, and the penalty's. */
static void slopes(struct relaxed *r)
{
    for (uint32_t n = 0; n < r->n; n++) {
        for (uint32_t m = 0; m < r->m; m++) {
            size_t i = (size_t)n * r->m + m;
            if (r->target[n] == SL_PLAN_NOBODY || !sl_plan_can_serve(r->v->scenario, m, n))
                r->cost[i] = INFINITY;
            else
                r->cost[i] =
                    r->v->user(r->v->ctx, m, n, r->alpha[n], &r->prices[m]) + r->penalty * (1 - 2 * r->x[i]);
        }
    }
}

static void blend(struct relaxed *r, double step)
{
    for (uint32_t n = 0; n < r->n; n++)
        for (uint32_t m = 0; m < r->m; m++) {
            size_t i = (size_t)n * r->m + m;
            r->try[i] = (1 - step) * r->x[i] + (r->target[n] == m ? step : 0);
            if (r->try[i] <= present)
                r->try[i] = 0;
        }
}

static bool integral(const struct relaxed *r)
{
    for (size_t i = 0; i < (size_t)r->n * r->m; i++)
        if (r->x[i] > 1e-6 && r->x[i] < 1 - 1e-6)
            return false;
    return true;
}

static void note(struct sl_associate_trace *t, double value, uint32_t round)
{
    if (!t || t->n == t->cap)
        return;
    t->value[t->n] = value;
    t->round[t->n++] = round;
}

/* One linearisation; false: no step towards its answer lowers the surrogate. */
static bool step(struct relaxed *r, double *value)
{
    slopes(r);
    if (sl_assign(r->v->scenario, r->cost, r->target))
        return false;
    double length = 1;
    for (int k = 0; k < HALVINGS; k++, length /= 2) {
        blend(r, length);
        double now = surrogate(r, r->try);
        if (now < *value - 1e-10 * fabs(*value)) {
            double *swap = r->x;
            r->x = r->try;
            r->try = swap;
            *value = now;
            return true;
        }
    }
    return false;
}

static void descend(struct relaxed *r, struct sl_associate_trace *t)
{
    r->penalty = 0;
    double value = surrogate(r, r->x);
    for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
        note(t, value, round);
        for (int k = 0; k < (round ? STEPS_MAX : FIRST_STEPS_MAX) && step(r, &value); k++)
            note(t, value, round);
        if (round && integral(r))
            break;
        uint32_t users = 0;
        for (uint32_t n = 0; n < r->n; n++)
            users += r->target[n] != SL_PLAN_NOBODY;
        r->penalty = r->penalty > 0 ? r->penalty * penalty_factor : first_penalty * fabs(value) / users;
        value = surrogate(r, r->x);
    }
    /* What is still split goes whole where most of it is, as far as there is room. */
    for (size_t i = 0; i < (size_t)r->n * r->m; i++)
        r->cost[i] = sl_plan_can_serve(r->v->scenario, (uint32_t)(i % r->m), (uint32_t)(i / r->m)) ? -r->x[i]
                                                                                                   : INFINITY;
}

static int begin(struct relaxed *r, bool start, const uint32_t *server)
{
    for (uint32_t n = 0; n < r->n; n++) {
        uint32_t open = 0;
        r->target[n] = server[n];
        for (uint32_t m = 0; m < r->m; m++)
            open += sl_plan_can_serve(r->v->scenario, m, n);
        if (server[n] == SL_PLAN_NOBODY || open == 0)
            continue;
        for (uint32_t m = 0; m < r->m; m++) {
            double even = sl_plan_can_serve(r->v->scenario, m, n) ? 1.0 / open : 0;
            r->x[(size_t)n * r->m + m] = start ? softened * (server[n] == m) + (1 - softened) * even : even;
        }
    }
    /* Too many on a server: the even start may exceed rooms; the nearest association that does not, then. */
    for (uint32_t m = 0; m < r->m; m++) {
        double sum = 0;
        for (uint32_t n = 0; n < r->n; n++)
            sum += r->x[(size_t)n * r->m + m];
        if (sum <= sl_plan_room(r->v->scenario, m))
            continue;
        for (size_t i = 0; i < (size_t)r->n * r->m; i++)
            r->cost[i] = sl_plan_can_serve(r->v->scenario, (uint32_t)(i % r->m), (uint32_t)(i / r->m))
                             ? -r->x[i]
                             : INFINITY;
        int rc = sl_assign(r->v->scenario, r->cost, r->target);
        if (rc)
            return rc > 0 ? -ENOSPC : rc;
        for (uint32_t n = 0; n < r->n; n++)
            for (uint32_t k = 0; k < r->m; k++)
                r->x[(size_t)n * r->m + k] = r->target[n] == k;
        break;
    }
    return 0;
}

int sl_associate(const struct sl_plan_value *v, const double *alpha, bool start, uint32_t *server,
    struct sl_associate_trace *t)
{
    uint32_t n = v->scenario->n_users, m = v->scenario->n_servers;
    size_t pairs = (size_t)n * m;
    struct relaxed r = {v, n, m, alpha, calloc(pairs, sizeof(double)), calloc(pairs, sizeof(double)),
        calloc(pairs, sizeof(double)), calloc(n, sizeof(uint32_t)), calloc(n, sizeof(struct sl_plan_member)),
        calloc(m, sizeof(struct sl_plan_prices)), 0};
    int rc = r.x && r.try && r.cost && r.target && r.member && r.prices ? 0 : -ENOMEM;

    if (!rc)
        rc = begin(&r, start, server);
    if (!rc) {
        descend(&r, t);
        memcpy(r.target, server, n * sizeof *server);
        rc = sl_assign(v->scenario, r.cost, r.target);
    }
    if (!rc)
        memcpy(server, r.target, n * sizeof *server);
    else if (rc > 0)
        rc = -ENOSPC;
    free(r.x);
    free(r.try);
    free(r.cost);
    free(r.target);
    free(r.member);
    free(r.prices);
    return rc;
}
