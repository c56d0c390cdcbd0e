#include "tests/plan/exact.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { USERS_MAX = 8, HALVINGS = 100 };

/* A convex cost of one share and its slope. */
struct curve {
    int uplink;
    double w, t, e; /* clock: w (t/f + e f^2) */
    double c, a;    /* uplink: c / (b log2(1 + a/b)) */
};

static double cost_at(const struct curve *k, double v)
{
    return k->uplink ? k->c / (v * log2(1 + k->a / v)) : k->w * (k->t / v + k->e * v * v);
}

static double slope_at(const struct curve *k, double v)
{
    if (!k->uplink)
        return k->w * (2 * k->e * v - k->t / (v * v));
    double rate = v * log2(1 + k->a / v);
    double steeper = log2(1 + k->a / v) - k->a / ((v + k->a) * M_LN2);
    return -k->c * steeper / (rate * rate);
}

/* The share at which a curve has the given slope, within bounds. */
static double share_of(const struct curve *k, double slope, double lo, double hi)
{
    if (slope_at(k, lo) >= slope)
        return lo;
    if (slope_at(k, hi) <= slope)
        return hi;
    for (int i = 0; i < HALVINGS && hi - lo > 1e-15 * hi; i++) {
        double mid = (lo + hi) / 2;
        if (slope_at(k, mid) < slope)
            lo = mid;
        else
            hi = mid;
    }
    return (lo + hi) / 2;
}

/* Least sum of curves whose shares add up to `total`: bisection on the common slope, between the steepest at
 * the least share and the flattest at the greatest. */
static double split(const struct curve *k, uint32_t n, double total, double lo)
{
    double low = INFINITY, high = -INFINITY, share[USERS_MAX], sum, cost = 0;

    for (uint32_t i = 0; i < n; i++) {
        low = fmin(low, slope_at(&k[i], lo));
        high = fmax(high, slope_at(&k[i], total));
    }
    for (int round = 0; round < HALVINGS; round++) {
        double mid = (low + high) / 2;
        sum = 0;
        for (uint32_t i = 0; i < n; i++)
            sum += share[i] = share_of(&k[i], mid, lo, total);
        if (fabs(sum / total - 1) < 1e-12)
            break;
        if (sum < total)
            low = mid;
        else
            high = mid;
    }
    for (uint32_t i = 0; i < n; i++)
        cost += cost_at(&k[i], share[i]);
    return cost;
}

static double device_layer(const struct sl_plan_scenario *s, uint32_t n)
{
    const struct sl_plan_user *u = &s->user[n];
    double lo = 1e-3 * u->f_max_hz, hi = u->f_max_hz;
    struct curve k = {.w = u->layer_flop / (u->cores * u->flop_per_cycle),
        .t = s->weights.delay,
        .e = s->weights.energy * u->kappa};

    return cost_at(&k, share_of(&k, 0, lo, hi));
}

static double own_cost(const struct sl_plan_scenario *s, uint32_t n, double device, uint32_t alpha)
{
    const struct sl_plan_user *u = &s->user[n];

    return alpha * device + s->weights.stability * 2 * u->lipschitz * u->lipschitz /
                                (u->samples * (1 - (double)alpha / s->layers));
}

static double uplinks(const struct sl_plan_scenario *s, uint32_t m, const uint32_t *user, uint32_t n)
{
    struct curve k[USERS_MAX];

    for (uint32_t i = 0; i < n; i++) {
        const struct sl_plan_user *u = &s->user[user[i]];
        k[i] = (struct curve){.uplink = 1,
            .c = s->weights.energy * u->up_bit * u->p_min_w,
            .a = sl_plan_gain(s, user[i], m) * u->p_min_w / s->noise_w_per_hz};
    }
    return split(k, n, s->server[m].bandwidth_hz, s->min_share * s->server[m].bandwidth_hz);
}

static struct curve clock_curve(const struct sl_plan_scenario *s, uint32_t m, uint32_t n, uint32_t alpha)
{
    const struct sl_plan_server *e = &s->server[m];

    return (struct curve){.w = (s->layers - alpha) * s->user[n].layer_flop / (e->cores * e->flop_per_cycle),
        .t = s->weights.delay,
        .e = s->weights.energy * e->kappa};
}

double exact_server(
    const struct sl_plan_scenario *s, uint32_t m, const uint32_t *user, const uint32_t *alpha, uint32_t n)
{
    struct curve k[USERS_MAX];
    double cost = uplinks(s, m, user, n);

    for (uint32_t i = 0; i < n; i++) {
        k[i] = clock_curve(s, m, user[i], alpha[i]);
        cost += own_cost(s, user[i], device_layer(s, user[i]), alpha[i]);
    }
    return cost + split(k, n, s->server[m].f_max_hz, s->min_share * s->server[m].f_max_hz);
}

/* Every choice of cuts of one server's users, but those that even a whole server each could not make good. */
struct walk {
    const struct sl_plan_scenario *s;
    uint32_t m, n;
    const uint32_t *user;
    double device[USERS_MAX], rest[USERS_MAX + 1]; /* least cost of the users from i on */
    double uplink, best;
    uint32_t alpha[USERS_MAX], best_alpha[USERS_MAX];
    struct curve k[USERS_MAX];
};

static double alone(const struct walk *w, uint32_t i, uint32_t alpha)
{
    const struct sl_plan_server *e = &w->s->server[w->m];
    struct curve k = clock_curve(w->s, w->m, w->user[i], alpha);

    return own_cost(w->s, w->user[i], w->device[i], alpha) +
           cost_at(&k, share_of(&k, 0, w->s->min_share * e->f_max_hz, e->f_max_hz));
}

static void try_cuts(struct walk *w, uint32_t i, double own, double bound)
{
    const struct sl_plan_server *e = &w->s->server[w->m];

    if (w->uplink + bound + w->rest[i] >= w->best)
        return;
    if (i == w->n) {
        double v = w->uplink + own + split(w->k, w->n, e->f_max_hz, w->s->min_share * e->f_max_hz);
        if (v < w->best) {
            w->best = v;
            memcpy(w->best_alpha, w->alpha, sizeof w->alpha);
        }
        return;
    }
    for (uint32_t a = 1; a < w->s->layers; a++) {
        w->alpha[i] = a;
        w->k[i] = clock_curve(w->s, w->m, w->user[i], a);
        try_cuts(w, i + 1, own + own_cost(w->s, w->user[i], w->device[i], a), bound + alone(w, i, a));
    }
}

static double subset(const struct sl_plan_scenario *s, uint32_t m, uint32_t mask, uint32_t *alpha)
{
    uint32_t user[USERS_MAX];
    struct walk w = {.s = s, .m = m, .user = user, .best = INFINITY};

    for (uint32_t n = 0; n < s->n_users; n++)
        if (mask >> n & 1)
            user[w.n++] = n;
    if (w.n == 0)
        return 0;
    w.uplink = uplinks(s, m, user, w.n);
    for (uint32_t i = w.n; i-- > 0;) {
        double least = INFINITY;
        w.device[i] = device_layer(s, user[i]);
        for (uint32_t a = 1; a < s->layers; a++)
            least = fmin(least, alone(&w, i, a));
        w.rest[i] = w.rest[i + 1] + least;
    }
    try_cuts(&w, 0, 0, 0);
    for (uint32_t i = 0; i < w.n; i++)
        alpha[user[i]] = w.best_alpha[i];
    return w.best;
}

void exact_optimum(const struct sl_plan_scenario *s, struct exact *out)
{
    uint32_t sets = 1u << s->n_users;
    double *least = malloc(sets * (s->n_servers + 1) * sizeof *least), *table = malloc(sets * sizeof *table);
    uint32_t *taken = malloc(sets * s->n_servers * sizeof *taken), unused[USERS_MAX];

    for (uint32_t mask = 0; mask < sets; mask++)
        least[mask] = mask ? INFINITY : 0;
    for (uint32_t m = 0; m < s->n_servers; m++) {
        double *now = least + (m + 1) * sets, *before = least + m * sets;
        for (uint32_t mask = 0; mask < sets; mask++)
            table[mask] = subset(s, m, mask, unused);
        for (uint32_t mask = 0; mask < sets; mask++) {
            now[mask] = INFINITY;
            for (uint32_t sub = mask;; sub = (sub - 1) & mask) {
                if (before[mask & ~sub] + table[sub] < now[mask]) {
                    now[mask] = before[mask & ~sub] + table[sub];
                    taken[m * sets + mask] = sub;
                }
                if (sub == 0)
                    break;
            }
        }
    }
    uint32_t mask = sets - 1;
    out->objective = least[s->n_servers * sets + mask];
    for (uint32_t m = s->n_servers; m-- > 0;) {
        uint32_t sub = taken[m * sets + mask];
        subset(s, m, sub, out->alpha);
        for (uint32_t n = 0; n < s->n_users; n++)
            if (sub >> n & 1)
                out->server[n] = m;
        mask &= ~sub;
    }
    free(least);
    free(table);
    free(taken);
}
