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

struct point {
    double *x;                     /* [n][m] */
    double *server;                /* [m]: what each costs there */
    struct sl_plan_prices *prices; /* [m] */
};

struct relaxed {
    const struct sl_plan_value *v;
    uint32_t n, m;
    const double *alpha;
    struct point here, next;
    double *user, *cost; /* [n][m]: a user's cost at the prices here; with the penalty's slope */
    uint32_t *target, *tried;
    double *least; /* [HALVINGS][m]: what a server costs at least on the way from here to `tried` */
    bool moved;    /* since `user` and `least` were found */
    struct sl_plan_member *member;
    double penalty;
};

static double penalty(const struct relaxed *r, const double *x)
{
    double sum = 0;

    for (size_t i = 0; i < (size_t)r->n * r->m; i++)
        sum += r->penalty * x[i] * (1 - x[i]);
    return sum;
}

static double server_cost(struct relaxed *r, struct point *at, uint32_t m)
{
    uint32_t k = 0;

    for (uint32_t n = 0; n < r->n; n++) {
        double x = at->x[(size_t)n * r->m + m];
        if (x > present)
            r->member[k++] = (struct sl_plan_member){.user = n, .alpha = r->alpha[n], .x = x};
    }
    return at->server[m] = r->v->server(r->v->ctx, m, r->member, k, INFINITY, &at->prices[m]);
}

static double surrogate(struct relaxed *r, struct point *at)
{
    double sum = penalty(r, at->x);

    for (uint32_t m = 0; m < r->m; m++)
        sum += server_cost(r, at, m);
    return sum;
}

/* The same, or INFINITY as soon as it cannot be below the limit. least: [m], becomes what is found. */
static double surrogate_below(struct relaxed *r, struct point *at, double *least, double limit)
{
    double fixed = penalty(r, at->x), sum = fixed;

    for (uint32_t m = 0; m < r->m; m++)
        sum += least[m];
    for (uint32_t m = 0; m < r->m; m++) {
        if (sum >= limit)
            return INFINITY;
        double known = least[m];
        sum += (least[m] = server_cost(r, at, m)) - known;
    }
    sum = fixed;
    for (uint32_t m = 0; m < r->m; m++)
        sum += least[m];
    return sum;
}

/* The slopes: a user's cost at the prices here, and the penalty's. */
static void slopes(struct relaxed *r)
{
    for (uint32_t n = 0; n < r->n; n++)
        for (uint32_t m = 0; m < r->m; m++) {
            size_t i = (size_t)n * r->m + m;
            bool open = r->target[n] != SL_PLAN_NOBODY && sl_plan_can_serve(r->v->scenario, m, n);
            if (r->moved)
                r->user[i] = open ? r->v->user(r->v->ctx, m, n, r->alpha[n], &r->here.prices[m]) : INFINITY;
            r->cost[i] = open ? r->user[i] + r->penalty * (1 - 2 * r->here.x[i]) : INFINITY;
        }
}

/* A server's relaxed cost is convex: on the way to the target it is at least what its slope here foretells.
 */
static void foretell(struct relaxed *r)
{
    if (!r->moved && !memcmp(r->tried, r->target, r->n * sizeof *r->tried))
        return; /* known from the last time, and better */
    memcpy(r->tried, r->target, r->n * sizeof *r->tried);
    r->moved = false;
    for (uint32_t m = 0; m < r->m; m++) {
        double rise = 0, length = 1;
        for (uint32_t n = 0; n < r->n; n++) {
            size_t i = (size_t)n * r->m + m;
            double more = (r->target[n] == m) - r->here.x[i];
            rise += more == 0 ? 0 : more * r->user[i];
        }
        for (uint32_t k = 0; k < HALVINGS; k++, length /= 2)
            r->least[(size_t)k * r->m + m] = r->here.server[m] + length * rise;
    }
}

static void blend(struct relaxed *r, double step)
{
    for (uint32_t n = 0; n < r->n; n++)
        for (uint32_t m = 0; m < r->m; m++) {
            size_t i = (size_t)n * r->m + m;
            r->next.x[i] = (1 - step) * r->here.x[i] + (r->target[n] == m ? step : 0);
            if (r->next.x[i] <= present)
                r->next.x[i] = 0;
        }
}

static bool at_target(const struct relaxed *r)
{
    for (uint32_t n = 0; n < r->n; n++)
        if (r->target[n] != SL_PLAN_NOBODY && r->here.x[(size_t)n * r->m + r->target[n]] < 1)
            return false;
    return true;
}

static bool integral(const struct relaxed *r)
{
    for (size_t i = 0; i < (size_t)r->n * r->m; i++)
        if (r->here.x[i] > 1e-6 && r->here.x[i] < 1 - 1e-6)
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
    if (sl_assign(r->v->scenario, r->cost, r->target) || at_target(r))
        return false;
    foretell(r);
    double length = 1, limit = *value - 1e-10 * fabs(*value);
    for (uint32_t k = 0; k < HALVINGS; k++, length /= 2) {
        blend(r, length);
        double now = surrogate_below(r, &r->next, r->least + (size_t)k * r->m, limit);
        if (now < limit) {
            struct point swap = r->here;
            r->here = r->next;
            r->next = swap;
            r->moved = true;
            *value = now;
            return true;
        }
    }
    return false;
}

static void descend(struct relaxed *r, struct sl_associate_trace *t)
{
    r->penalty = 0;
    r->moved = true;
    double value = surrogate(r, &r->here), servers;
    for (uint32_t round = 0; round < ROUNDS_MAX; round++) {
        note(t, value, round);
        for (int k = 0; k < (round ? STEPS_MAX : FIRST_STEPS_MAX) && step(r, &value); k++)
            note(t, value, round);
        if (round && integral(r))
            break;
        uint32_t users = 0;
        for (uint32_t n = 0; n < r->n; n++)
            users += r->target[n] != SL_PLAN_NOBODY;
        servers = value - penalty(r, r->here.x);
        r->penalty = r->penalty > 0 ? r->penalty * penalty_factor : first_penalty * fabs(value) / users;
        value = servers + penalty(r, r->here.x);
    }
    /* What is still split goes whole where most of it is, as far as there is room. */
    for (size_t i = 0; i < (size_t)r->n * r->m; i++)
        r->cost[i] = sl_plan_can_serve(r->v->scenario, (uint32_t)(i % r->m), (uint32_t)(i / r->m))
                         ? -r->here.x[i]
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
            r->here.x[(size_t)n * r->m + m] =
                start ? softened * (server[n] == m) + (1 - softened) * even : even;
        }
    }
    /* Too many on a server: the even start may exceed rooms; the nearest association that does not, then. */
    for (uint32_t m = 0; m < r->m; m++) {
        double sum = 0;
        for (uint32_t n = 0; n < r->n; n++)
            sum += r->here.x[(size_t)n * r->m + m];
        if (sum <= sl_plan_room(r->v->scenario, m))
            continue;
        for (size_t i = 0; i < (size_t)r->n * r->m; i++)
            r->cost[i] = sl_plan_can_serve(r->v->scenario, (uint32_t)(i % r->m), (uint32_t)(i / r->m))
                             ? -r->here.x[i]
                             : INFINITY;
        int rc = sl_assign(r->v->scenario, r->cost, r->target);
        if (rc)
            return rc > 0 ? -ENOSPC : rc;
        for (uint32_t n = 0; n < r->n; n++)
            for (uint32_t k = 0; k < r->m; k++)
                r->here.x[(size_t)n * r->m + k] = r->target[n] == k;
        break;
    }
    return 0;
}

static bool has(const struct point *p)
{
    return p->x && p->server && p->prices;
}

static void release(struct point *p)
{
    free(p->x);
    free(p->server);
    free(p->prices);
}

int sl_associate(const struct sl_plan_value *v, const double *alpha, bool start, uint32_t *server,
    struct sl_associate_trace *t)
{
    uint32_t n = v->scenario->n_users, m = v->scenario->n_servers;
    size_t pairs = (size_t)n * m;
    struct relaxed r = {.v = v,
        .n = n,
        .m = m,
        .alpha = alpha,
        .here = {calloc(pairs, sizeof(double)), calloc(m, sizeof(double)),
            calloc(m, sizeof(struct sl_plan_prices))},
        .next = {calloc(pairs, sizeof(double)), calloc(m, sizeof(double)),
            calloc(m, sizeof(struct sl_plan_prices))},
        .user = calloc(pairs, sizeof(double)),
        .cost = calloc(pairs, sizeof(double)),
        .target = calloc(n, sizeof(uint32_t)),
        .tried = calloc(n, sizeof(uint32_t)),
        .least = calloc((size_t)HALVINGS * m, sizeof(double)),
        .member = calloc(n, sizeof(struct sl_plan_member))};
    int rc = has(&r.here) && has(&r.next) && r.user && r.cost && r.target && r.tried && r.least && r.member
                 ? 0
                 : -ENOMEM;

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
    release(&r.here);
    release(&r.next);
    free(r.user);
    free(r.cost);
    free(r.target);
    free(r.tried);
    free(r.least);
    free(r.member);
    return rc;
}
