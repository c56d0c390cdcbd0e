#include "trainer/plan/printed.h"

#include "trainer/plan/split.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The iteration ends by the slope that is left, not by the objective's fall: near the optimum of a loaded
 * server it is slow, and falls by less than 1e-10 an iteration with slopes of a hundredth still left. */
enum { ALPHA_STEPS = 100 };
static const double slope_enough = 1e-7, fall_least = 1e-15;

/* The last split of a server's bandwidth: it does not depend on the cuts, so that a search that changes cuts
 * asks for the same one again and again. */
struct uplinks {
    struct sl_split_bandwidth *user; /* what was asked, and the shares */
    uint32_t n, cap;
    double cost, price;
};

struct sl_printed {
    const struct sl_plan_scenario *s;
    struct {
        double f_hz, layer, stability; /* device clock; cost of a layer there; 2 L^2 w_s / k */
        uint32_t least, most;
    } * user;
    struct sl_split_bandwidth *bandwidth;
    struct sl_split_clock *clock;
    struct uplinks *uplinks; /* [n_servers] */
    double *last_hz;         /* [n_servers][n_users]: the last share of bandwidth there, where roots begin */
    double *q;
};

double sl_printed_f_hz(const struct sl_plan_scenario *s, uint32_t n)
{
    const struct sl_plan_user *u = &s->user[n];
    double best = s->weights.energy * u->kappa > 0
                      ? cbrt(s->weights.delay / (2 * u->kappa * s->weights.energy))
                      : INFINITY;

    /* Without a weight on delay the published optimum is a clock of 0; a thousandth of the full one stands
     * for it. */
    return fmin(u->f_max_hz, fmax(best, 1e-3 * u->f_max_hz));
}

static void layers_allowed(void *ctx, uint32_t n, uint32_t *least, uint32_t *most)
{
    struct sl_printed *p = ctx;

    *least = p->user[n].least;
    *most = p->user[n].most;
}

struct sl_printed *sl_printed_create(const struct sl_plan_scenario *s)
{
    struct sl_printed *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->s = s;
    p->user = calloc(s->n_users, sizeof *p->user);
    p->bandwidth = calloc(s->n_users, sizeof *p->bandwidth);
    p->clock = calloc(s->n_users, sizeof *p->clock);
    p->q = calloc(s->n_users, sizeof *p->q);
    p->uplinks = calloc(s->n_servers, sizeof *p->uplinks);
    p->last_hz = calloc((size_t)s->n_servers * s->n_users, sizeof *p->last_hz);
    if (!p->user || !p->bandwidth || !p->clock || !p->q || !p->uplinks || !p->last_hz) {
        sl_printed_free(p);
        return NULL;
    }
    for (uint32_t n = 0; n < s->n_users; n++) {
        const struct sl_plan_user *u = &s->user[n];
        double f = sl_printed_f_hz(s, n);
        p->user[n].f_hz = f;
        p->user[n].layer = u->layer_flop / (u->cores * u->flop_per_cycle) *
                           (s->weights.delay / f + s->weights.energy * u->kappa * f * f);
        p->user[n].stability = s->weights.stability * 2 * u->lipschitz * u->lipschitz / u->samples;
        p->user[n].least = u->min_layers ? u->min_layers : 1;
        p->user[n].most = u->max_layers < s->layers ? u->max_layers : s->layers;
        if (p->user[n].stability > 0 && p->user[n].most == s->layers && p->user[n].least < s->layers)
            p->user[n].most--; /* the bound is infinite there */
    }
    return p;
}

void sl_printed_free(struct sl_printed *p)
{
    if (!p)
        return;
    for (uint32_t m = 0; p->uplinks && m < p->s->n_servers; m++)
        free(p->uplinks[m].user);
    free(p->uplinks);
    free(p->last_hz);
    free(p->user);
    free(p->bandwidth);
    free(p->clock);
    free(p->q);
    free(p);
}

static double left(const struct sl_printed *p, double alpha)
{
    return p->s->layers - alpha;
}

/* What a user costs by itself: its layers, and the stability term. */
static double own_cost(const struct sl_printed *p, uint32_t n, double alpha)
{
    double bound = p->user[n].stability;

    return p->user[n].layer * alpha + (bound > 0 ? bound / (1 - alpha / p->s->layers) : 0);
}

static double cycles_per_layer(const struct sl_printed *p, uint32_t m, uint32_t n)
{
    return p->s->user[n].layer_flop / (p->s->server[m].cores * p->s->server[m].flop_per_cycle);
}

static double snr_hz(const struct sl_printed *p, uint32_t m, uint32_t n)
{
    return sl_plan_gain(p->s, n, m) * p->s->user[n].p_min_w / p->s->noise_w_per_hz;
}

static double uplink_weight(const struct sl_printed *p, uint32_t n, double alpha)
{
    const struct sl_plan_user *u = &p->s->user[n];

    return left(p, alpha) > 0 ? p->s->weights.energy * u->up_bit * u->p_min_w * M_LN2 : 0;
}

static bool asked_before(const struct uplinks *u, const struct sl_split_bandwidth *b, uint32_t n)
{
    if (u->n != n)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (u->user[i].a_hz != b[i].a_hz || u->user[i].c != b[i].c || u->user[i].x != b[i].x)
            return false;
    return true;
}

/* Splits p->bandwidth [n]. */
static double share_bandwidth(struct sl_printed *p, uint32_t m, uint32_t n, double *price)
{
    const struct sl_plan_server *server = &p->s->server[m];
    struct uplinks *u = &p->uplinks[m];

    if (!asked_before(u, p->bandwidth, n)) {
        u->cost = sl_split_bandwidth(
            p->bandwidth, n, server->bandwidth_hz, p->s->min_share * server->bandwidth_hz, &u->price);
        *price = u->price;
        u->n = 0;
        if (n > u->cap) {
            struct sl_split_bandwidth *more = realloc(u->user, 2 * (size_t)n * sizeof *more);
            if (!more)
                return u->cost;
            u->user = more;
            u->cap = 2 * n;
        }
        memcpy(u->user, p->bandwidth, n * sizeof *u->user);
        u->n = n;
        return u->cost;
    }
    memcpy(p->bandwidth, u->user, n * sizeof *u->user);
    *price = u->price;
    return u->cost;
}

/* `enough` is of no use here: a value is found as soon as a bound on it. */
static double server_value(void *ctx, uint32_t m, struct sl_plan_member *member, uint32_t n, double enough,
    struct sl_plan_prices *prices)
{
    struct sl_printed *p = ctx;
    (void)enough;
    const struct sl_plan_server *server = &p->s->server[m];
    double cost = 0, present = 0, *last_hz = p->last_hz + (size_t)m * p->s->n_users;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t user = member[i].user;
        double alpha = member[i].alpha, x = member[i].x;
        present += x;
        cost += x * own_cost(p, user, alpha);
        p->bandwidth[i] =
            (struct sl_split_bandwidth){snr_hz(p, m, user), uplink_weight(p, user, alpha), x, last_hz[user]};
        p->clock[i] = (struct sl_split_clock){left(p, alpha) * cycles_per_layer(p, m, user), x, 0};
    }
    prices->bandwidth = prices->clock = 0;
    if (n == 0)
        return 0;
    if (present * p->s->min_share > 1 + 1e-12)
        return INFINITY;
    cost += share_bandwidth(p, m, n, &prices->bandwidth);
    cost += sl_split_clock(p->clock, n, server->f_max_hz, p->s->min_share * server->f_max_hz,
        p->s->weights.delay, p->s->weights.energy * server->kappa, &prices->clock);
    for (uint32_t i = 0; i < n; i++) {
        last_hz[member[i].user] = p->bandwidth[i].share;
        member[i].power_w = p->s->user[member[i].user].p_min_w;
        member[i].f_hz = p->user[member[i].user].f_hz;
        member[i].bandwidth_hz = p->bandwidth[i].share;
        member[i].f_edge_hz = p->clock[i].share;
    }
    return cost;
}

static double uplink_at(
    const struct sl_printed *p, uint32_t m, uint32_t n, double alpha, const struct sl_plan_prices *prices)
{
    double share;

    return sl_split_bandwidth_at(snr_hz(p, m, n), uplink_weight(p, n, alpha),
        p->s->min_share * p->s->server[m].bandwidth_hz, p->s->server[m].bandwidth_hz, prices->bandwidth,
        &share);
}

static double clock_at(
    const struct sl_printed *p, uint32_t m, uint32_t n, double alpha, const struct sl_plan_prices *prices)
{
    const struct sl_plan_server *server = &p->s->server[m];
    double share;

    return sl_split_clock_at(left(p, alpha) * cycles_per_layer(p, m, n), p->s->min_share * server->f_max_hz,
        server->f_max_hz, p->s->weights.delay, p->s->weights.energy * server->kappa, prices->clock, &share);
}

static double user_value(void *ctx, uint32_t m, uint32_t n, double alpha, const struct sl_plan_prices *prices)
{
    struct sl_printed *p = ctx;

    return own_cost(p, n, alpha) + uplink_at(p, m, n, alpha, prices) + clock_at(p, m, n, alpha, prices);
}

/* What the clock costs is the least of functions linear in the cut: concave, so at least the chord between
 * its ends, and only cuts for which that is not too much already are looked at. */
static double user_best(void *ctx, uint32_t m, uint32_t n, uint32_t from, uint32_t to,
    const struct sl_plan_prices *prices, double enough, uint32_t *alpha)
{
    struct sl_printed *p = ctx;
    double best = INFINITY, uplink = uplink_at(p, m, n, from, prices);
    double first = clock_at(p, m, n, from, prices), last = from < to ? clock_at(p, m, n, to, prices) : first,
           rise = from < to ? (last - first) / (to - from) : 0;

    for (uint32_t a = from; a <= to; a++) {
        if (a == p->s->layers)
            uplink = uplink_at(p, m, n, a, prices); /* nothing to send */
        double rest = own_cost(p, n, a) + uplink;
        if (rest + first + rise * (a - from) >= fmin(best, enough))
            continue;
        double v = rest + (a == from ? first : a == to ? last : clock_at(p, m, n, a, prices));
        if (v < fmin(best, enough)) {
            best = v;
            *alpha = a;
        }
    }
    return best;
}

struct sl_plan_value sl_printed_value(struct sl_printed *p)
{
    return (struct sl_plan_value){p, p->s, server_value, user_value, user_best, layers_allowed};
}

/* ---- relaxed cuts ---- */

/* Slope in alpha of layer * alpha + (layers - alpha)^2 q + bound / (1 - alpha/layers). */
static double slope(const struct sl_printed *p, uint32_t n, double alpha, double q)
{
    double rest = 1 - alpha / p->s->layers, bound = p->user[n].stability;

    return p->user[n].layer - 2 * left(p, alpha) * q + (bound > 0 ? bound / (p->s->layers * rest * rest) : 0);
}

/* The slope rises and bends upwards, so Newton's steps from above its root fall onto it; without the bound
 * the root has a closed form, which is above. */
static double best_alpha(const struct sl_printed *p, uint32_t n, double q)
{
    double lo = p->user[n].least, hi = p->user[n].most, layers = p->s->layers, bound = p->user[n].stability;

    if (slope(p, n, lo, q) >= 0)
        return lo;
    if (slope(p, n, hi, q) <= 0)
        return hi;
    double alpha = q > 0 ? fmin(hi, layers - p->user[n].layer / (2 * q)) : hi;
    for (int i = 0; i < ALPHA_STEPS; i++) {
        double rest = 1 - alpha / layers;
        double bend = 2 * q + (bound > 0 ? 2 * bound / (layers * layers * rest * rest * rest) : 0);
        double next = alpha - slope(p, n, alpha, q) / bend;
        if (!(alpha - next > 1e-13 * alpha))
            break;
        alpha = next;
    }
    return alpha > lo ? alpha : lo;
}

/* Cost of one layer of a member at the server. */
static double layer_at_edge(const struct sl_printed *p, uint32_t m, const struct sl_plan_member *i)
{
    double f = i->f_edge_hz;

    return cycles_per_layer(p, m, i->user) *
           (p->s->weights.delay / f + p->s->weights.energy * p->s->server[m].kappa * f * f);
}

/* The greatest relative slope of the objective itself in an alpha that could still move. */
static double stationarity(
    const struct sl_printed *p, uint32_t m, const struct sl_plan_member *member, uint32_t n)
{
    double worst = 0;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t user = member[i].user;
        double alpha = member[i].alpha, edge = layer_at_edge(p, m, &member[i]);
        double g = slope(p, user, alpha, left(p, alpha) > 0 ? edge / (2 * left(p, alpha)) : 0);
        bool held = (alpha <= p->user[user].least && g > 0) || (alpha >= p->user[user].most && g < 0);
        if (!held)
            worst = fmax(worst, fabs(g) / (p->user[user].layer + edge));
    }
    return worst;
}

uint32_t sl_printed_relax(struct sl_printed *p, uint32_t m, struct sl_plan_member *member, uint32_t n,
    double *trace, uint32_t cap, double *residual)
{
    const struct sl_plan_server *server = &p->s->server[m];
    struct sl_plan_prices prices;
    double before = server_value(p, m, member, n, INFINITY, &prices);
    uint32_t k = 0;

    *residual = 0;
    for (; k < cap && n; k++) {
        for (uint32_t i = 0; i < n; i++) {
            double rest = fmax(left(p, member[i].alpha), 1e-9);
            p->q[i] = layer_at_edge(p, m, &member[i]) / (2 * rest);
            p->clock[i] = (struct sl_split_clock){cycles_per_layer(p, m, member[i].user), member[i].x, 0};
        }
        for (uint32_t i = 0; i < n; i++)
            member[i].alpha = best_alpha(p, member[i].user, p->q[i]);
        sl_split_clock_squared(p->clock, p->q, n, server->f_max_hz, p->s->min_share * server->f_max_hz,
            p->s->weights.delay, p->s->weights.energy * server->kappa);
        for (uint32_t i = 0; i < n; i++)
            member[i].f_edge_hz = p->clock[i].share;
        double now = 0;
        for (uint32_t i = 0; i < n; i++) {
            const struct sl_plan_member *u = &member[i];
            double a = snr_hz(p, m, u->user), c = uplink_weight(p, u->user, u->alpha);
            now += u->x * (own_cost(p, u->user, u->alpha) + left(p, u->alpha) * layer_at_edge(p, m, u) +
                              c / (u->bandwidth_hz * log1p(a / u->bandwidth_hz)));
        }
        trace[k] = now;
        *residual = stationarity(p, m, member, n);
        if (*residual <= slope_enough || before - now <= fall_least * fabs(now)) {
            k++;
            break;
        }
        before = now;
    }
    return k;
}
