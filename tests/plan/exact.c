#include "tests/plan/exact.h"

#include <math.h>
#include <stdbool.h>
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

/* Every choice of cuts of one server's users, but those that a bound rules out. The bound is Lagrange's: at
 * any price of the clock the sum of what each user costs at least, less the price of the whole clock, is no
 * more than the least cost. A few prices around the best one are looked at. */
enum { PRICES = 7, CUTS_MAX = 12, PRICE_HALVINGS = 60 };
static const double price_around[PRICES] = {1, 0.6, 0.8, 0.9, 1.1, 1.25, 1.6};

struct walk {
    const struct sl_plan_scenario *s;
    uint32_t m, n;
    const uint32_t *user;
    double device[USERS_MAX];
    double price[PRICES], at[PRICES][USERS_MAX][CUTS_MAX];
    double rest[PRICES][USERS_MAX + 1]; /* least cost of the users from i on, less the clock's price */
    double uplink, best;
    uint32_t alpha[USERS_MAX], best_alpha[USERS_MAX];
    struct curve k[USERS_MAX];
};

/* A user's cost at a price of the clock; *share: what it takes then. */
static double at_price(const struct walk *w, uint32_t i, uint32_t alpha, double price, double *share)
{
    const struct sl_plan_server *e = &w->s->server[w->m];
    struct curve k = clock_curve(w->s, w->m, w->user[i], alpha);

    *share = share_of(&k, -price, w->s->min_share * e->f_max_hz, e->f_max_hz);
    return own_cost(w->s, w->user[i], w->device[i], alpha) + cost_at(&k, *share) + price * *share;
}

/* What all ask for, each at its cheapest cut. */
static double asked_at(const struct walk *w, double price)
{
    double sum = 0;

    for (uint32_t i = 0; i < w->n; i++) {
        double least = INFINITY, asked = 0, share;
        for (uint32_t a = 1; a < w->s->layers; a++) {
            double v = at_price(w, i, a, price, &share);
            if (v < least) {
                least = v;
                asked = share;
            }
        }
        sum += asked;
    }
    return sum;
}

static double best_price(const struct walk *w)
{
    double total = w->s->server[w->m].f_max_hz, lo = 0, hi = 0;

    for (uint32_t i = 0; i < w->n; i++)
        for (uint32_t a = 1; a < w->s->layers; a++) {
            struct curve k = clock_curve(w->s, w->m, w->user[i], a);
            hi = fmax(hi, -slope_at(&k, w->s->min_share * total));
            lo = fmin(lo, -slope_at(&k, total));
        }
    for (int i = 0; i < PRICE_HALVINGS; i++) {
        double mid = lo > 0 ? sqrt(lo * hi) : (lo + hi) / 2;
        if (asked_at(w, mid) > total)
            lo = mid;
        else
            hi = mid;
    }
    return (lo + hi) / 2;
}

static double value_of(const struct walk *w, const uint32_t *alpha)
{
    const struct sl_plan_server *e = &w->s->server[w->m];
    struct curve k[USERS_MAX];
    double own = w->uplink;

    for (uint32_t i = 0; i < w->n; i++) {
        k[i] = clock_curve(w->s, w->m, w->user[i], alpha[i]);
        own += own_cost(w->s, w->user[i], w->device[i], alpha[i]);
    }
    return own + split(k, w->n, e->f_max_hz, w->s->min_share * e->f_max_hz);
}

/* Something to begin with: from middle cuts, one user's best cut after the other's, until none helps. */
static void begin_walk(struct walk *w)
{
    bool better = true;

    for (uint32_t i = 0; i < w->n; i++)
        w->best_alpha[i] = w->s->layers / 2;
    w->best = value_of(w, w->best_alpha);
    while (better) {
        better = false;
        for (uint32_t i = 0; i < w->n; i++)
            for (uint32_t a = 1; a < w->s->layers; a++) {
                uint32_t before = w->best_alpha[i];
                w->best_alpha[i] = a;
                double v = value_of(w, w->best_alpha);
                if (v < w->best * (1 - 1e-12)) {
                    w->best = v;
                    better = true;
                } else {
                    w->best_alpha[i] = before;
                }
            }
    }
}

static void try_cuts(struct walk *w, uint32_t i, const double *sum)
{
    for (int p = 0; p < PRICES; p++)
        if (w->uplink + sum[p] + w->rest[p][i] > w->best * (1 + 1e-12))
            return;
    if (i == w->n) {
        double v = value_of(w, w->alpha);
        if (v < w->best) {
            w->best = v;
            memcpy(w->best_alpha, w->alpha, sizeof w->alpha);
        }
        return;
    }
    for (uint32_t a = 1; a < w->s->layers; a++) {
        double with[PRICES];
        for (int p = 0; p < PRICES; p++)
            with[p] = sum[p] + w->at[p][i][a];
        w->alpha[i] = a;
        try_cuts(w, i + 1, with);
    }
}

static double subset(const struct sl_plan_scenario *s, uint32_t m, uint32_t mask, uint32_t *alpha)
{
    uint32_t user[USERS_MAX];
    struct walk w = {.s = s, .m = m, .user = user};
    double none[PRICES] = {0}, share;

    for (uint32_t n = 0; n < s->n_users; n++)
        if (mask >> n & 1)
            user[w.n++] = n;
    if (w.n == 0)
        return 0;
    w.uplink = uplinks(s, m, user, w.n);
    for (uint32_t i = 0; i < w.n; i++)
        w.device[i] = device_layer(s, user[i]);
    double price = best_price(&w);
    for (int p = 0; p < PRICES; p++) {
        w.price[p] = price * price_around[p];
        w.rest[p][w.n] = -w.price[p] * s->server[m].f_max_hz;
        for (uint32_t i = w.n; i-- > 0;) {
            double least = INFINITY;
            for (uint32_t a = 1; a < s->layers; a++) {
                w.at[p][i][a] = at_price(&w, i, a, w.price[p], &share);
                least = fmin(least, w.at[p][i][a]);
            }
            w.rest[p][i] = w.rest[p][i + 1] + least;
        }
    }
    begin_walk(&w);
    try_cuts(&w, 0, none);
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
