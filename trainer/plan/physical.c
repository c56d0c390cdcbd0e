#include "trainer/plan/physical.h"

#include "trainer/plan/allot.h"
#include "trainer/plan/root.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

/* A clock and a power of 0 would be the best of all where time costs nothing: a thousandth of the full clock
 * stands for it, as does the least power. */
static const double least_clock = 1e-3;
/* Multipliers of time stop here, in units of a second's weight: at the best tau they add up to that weight,
 * so none is above it; a deadline's can be. */
static const double late_max = 2, deadline_late_max = 1e7;
static const double greedy_max = 1e7; /* likewise a joule's where there is a bound */
/* Without a weight on energy the plan that costs least energy among the fastest. */
static const double least_weight = 1e-3;
enum { PRICE_STEPS = 40, HALVINGS = 6, ROUNDS = 6 };
static const double kept = 1 + 1e-10; /* a bound: a user's roots end within 1e-11 */
static const double step_max = 3;     /* of a price's logarithm */
/* Energy falls with the square of time where the chip spends it, what is left for it with more. */
static const double bend_first = -3, bend_least = -1;
static const double sums_near = 1e-7, sums_exact = 1e-9;

struct sl_physical {
    const struct sl_plan_scenario *s;
    struct sl_plan_scales scales;
    double tau_s, second;    /* second: weight of one of tau, what the planned draw meanwhile included */
    struct sl_allot *last;   /* [n_users]: warm starts, and what came out */
    struct sl_allot_user *u; /* [n_users]: of the server at work */
    struct sl_plan_member *member;
    struct sl_plan_prices *price; /* [n_servers]: warm starts */
    double tolerance;
    double bend; /* the last slope of the multipliers' sum in tau, logarithms of both: the next one's first */
};

/* server: [n_users], SL_PLAN_NOBODY: not planned; NULL: whoever can be. */
static void weigh_second(struct sl_physical *p, const uint32_t *server)
{
    const struct sl_plan_scenario *s = p->s;

    p->second = s->weights.delay / p->scales.tau0_s;
    for (uint32_t n = 0; n < s->n_users && !s->asynchronous; n++)
        if (server ? server[n] != SL_PLAN_NOBODY : !sl_plan_user_fault(s, SL_PLAN_PHYSICAL, n))
            p->second += sl_plan_idle_weight(s, &p->scales, n);
}

struct sl_physical *sl_physical_create(const struct sl_plan_scenario *s)
{
    struct sl_physical *p = calloc(1, sizeof *p);

    if (!p)
        return NULL;
    p->s = s;
    p->last = calloc(s->n_users, sizeof *p->last);
    p->u = calloc(s->n_users, sizeof *p->u);
    p->member = calloc(s->n_users, sizeof *p->member);
    p->price = calloc(s->n_servers, sizeof *p->price);
    if (!p->last || !p->u || !p->member || !p->price) {
        sl_physical_free(p);
        return NULL;
    }
    sl_plan_scales(s, &p->scales);
    weigh_second(p, NULL);
    p->tau_s = INFINITY;
    p->tolerance = sums_near;
    p->bend = bend_first;
    return p;
}

void sl_physical_free(struct sl_physical *p)
{
    if (!p)
        return;
    free(p->last);
    free(p->u);
    free(p->member);
    free(p->price);
    free(p);
}

void sl_physical_set_tau(struct sl_physical *p, double tau_s)
{
    p->tau_s = p->s->asynchronous || p->second == 0 ? INFINITY : tau_s;
}

double sl_physical_get_tau(const struct sl_physical *p)
{
    return p->tau_s;
}

double sl_physical_tau_cost(const struct sl_physical *p)
{
    return isfinite(p->tau_s) ? p->second * p->tau_s : 0;
}

/* ---- one user ---- */

static double stability(const struct sl_physical *p, uint32_t n, double alpha)
{
    const struct sl_plan_user *u = &p->s->user[n];
    double bound = 2 * u->lipschitz * u->lipschitz / u->samples;

    return p->s->weights.stability > 0
               ? p->s->weights.stability * bound / (1 - alpha / p->s->layers) / p->scales.stability0
               : 0;
}

static double any_second(const struct sl_physical *p)
{
    const struct sl_plan_weights *w = &p->s->weights;

    return (w->delay + w->energy + w->stability) / p->scales.tau0_s;
}

static void describe(
    const struct sl_physical *p, uint32_t m, uint32_t n, double alpha, struct sl_allot_user *out)
{
    const struct sl_plan_scenario *s = p->s;
    const struct sl_plan_user *u = &s->user[n];
    const struct sl_plan_server *server = &s->server[m];
    double b_max =
        u->bandwidth_max_hz > 0 ? fmin(u->bandwidth_max_hz, server->bandwidth_hz) : server->bandwidth_hz;
    double b_min = fmax(s->min_share * server->bandwidth_hz, 1e-12 * server->bandwidth_hz);
    double g_min = fmax(s->min_share * server->f_max_hz, 1e-12 * server->f_max_hz);
    double joule = s->weights.energy * sl_plan_battery_weight(s, n) / p->scales.energy0_j;
    double down_bit = u->down_bit + alpha * u->layer_down_bit, down_rate = u->down_bps,
           snr_down = sl_plan_gain(s, n, m) * server->tx_psd_w_per_hz / s->noise_w_per_hz;

    *out = (struct sl_allot_user){
        .device_cycles = alpha * u->layer_flop / (u->cores * u->flop_per_cycle),
        .kappa = u->kappa,
        .f_min_hz = least_clock * u->f_max_hz,
        .f_max_hz = u->f_max_hz,
        .edge_cycles =
            ((s->layers - alpha) * u->layer_flop + u->head_flop) / (server->cores * server->flop_per_cycle),
        .g_min_hz = g_min,
        .g_max_hz = server->f_max_hz,
        .up_bit = u->up_bit + alpha * u->layer_up_bit,
        .p_min_w = fmax(u->p_min_w, 1e-9 * u->p_max_w),
        .p_max_w = u->p_max_w,
        .a_hz_per_w = sl_plan_gain(s, n, m) / s->noise_w_per_hz,
        .up_bps_per_hz = u->up_bps_per_hz,
        .rx_w = u->rx_w,
        .b_min_hz = fmin(b_min, b_max),
        .b_max_hz = b_max,
        .fixed_s = u->rtt_s + u->wake_s,
        .joule_weight = fmax(joule, least_weight / p->scales.energy0_j),
        .second_weight = s->asynchronous ? p->second + sl_plan_idle_weight(s, &p->scales, n) : 0,
        .time_max_s = p->tau_s,
        .mu_max = late_max * p->second,
        .deadline_s = INFINITY,
        .energy_max_j = u->energy_j > 0 ? u->energy_j : INFINITY,
    };
    if (down_bit > 0 && down_rate > 0) {
        out->fixed_s += down_bit / down_rate;
        out->fixed_j += u->rx_w * down_bit / down_rate;
    } else if (down_bit > 0) {
        out->down_bit_per_hz = down_bit / log2(1 + snr_down);
    }
    if (u->deadline_s > 0) {
        out->deadline_s = u->deadline_s;
        out->deadline_mu_max = deadline_late_max * any_second(p);
    }
    if (out->deadline_s <= out->time_max_s) {
        out->time_max_s = out->deadline_s;
        out->mu_max = out->deadline_mu_max;
    }
    out->joule_weight_max =
        greedy_max * (s->weights.delay + s->weights.energy + s->weights.stability) / p->scales.energy0_j;
}

static double user_value(void *ctx, uint32_t m, uint32_t n, double alpha, const struct sl_plan_prices *prices)
{
    struct sl_physical *p = ctx;
    struct sl_allot out = p->last[n];
    struct sl_allot_user u;

    describe(p, m, n, alpha, &u);
    return sl_allot(&u, prices, INFINITY, &out) + stability(p, n, alpha);
}

static double at_least(
    struct sl_physical *p, uint32_t m, uint32_t n, double alpha, const struct sl_plan_prices *prices)
{
    struct sl_allot out = p->last[n];
    struct sl_allot_user u;

    describe(p, m, n, alpha, &u);
    return sl_allot_at_least(&u, prices, &out);
}

static double user_best(void *ctx, uint32_t m, uint32_t n, uint32_t from, uint32_t to,
    const struct sl_plan_prices *prices, double enough, uint32_t *alpha)
{
    struct sl_physical *p = ctx;
    struct sl_allot out = p->last[n];
    double best = INFINITY;

    /* Concave in the cut, all that depends on it being linear: least at an end. And stability's term rises.
     */
    if (enough < INFINITY &&
        fmin(at_least(p, m, n, from, prices), at_least(p, m, n, to, prices)) + stability(p, n, from) >=
            enough)
        return INFINITY;
    for (uint32_t a = from; a <= to; a++) {
        struct sl_allot_user u;
        double own = stability(p, n, a);
        describe(p, m, n, a, &u);
        double v = sl_allot(&u, prices, fmin(best, enough) - own, &out) + own;
        if (v < best && v < enough) {
            best = v;
            *alpha = a;
        }
    }
    return best;
}

static void layers_allowed(void *ctx, uint32_t n, uint32_t *least, uint32_t *most)
{
    const struct sl_plan_scenario *s = ((struct sl_physical *)ctx)->s;
    const struct sl_plan_user *u = &s->user[n];

    *least = u->min_layers ? u->min_layers : 1;
    *most = u->max_layers < s->layers - 1 ? u->max_layers : s->layers - 1;
}

/* ---- one server ---- */

struct sums {
    double bandwidth, clock, cost;
    double slope_hz[2][2]; /* of the first two, in the logarithms of both prices */
};

static struct sums add_up(struct sl_physical *p, const struct sl_plan_member *member, uint32_t n,
    const struct sl_plan_prices *prices)
{
    struct sums sum = {0};

    for (uint32_t i = 0; i < n; i++) {
        struct sl_allot *a = &p->last[member[i].user];
        double x = member[i].x;
        sum.cost += x * sl_allot(&p->u[i], prices, INFINITY, a);
        sum.bandwidth += x * a->bandwidth_hz;
        sum.clock += x * a->f_edge_hz;
        for (int share = 0; share < 2; share++)
            for (int price = 0; price < 2; price++)
                sum.slope_hz[share][price] += x * a->slope_hz[share][price];
    }
    return sum;
}

/* Logarithms of what is asked for over what there is; both fall in their own price. A price of 0 stays where
 * there is enough for all. */
struct market {
    struct sl_physical *p;
    const struct sl_plan_server *server;
    const struct sl_plan_member *member;
    uint32_t n;
    bool free[2];
    double enough; /* of the dual: the search for prices may end there */
    struct sums sum;
    double dual; /* what the search for prices raises */
};

static void ask(struct market *k, const double v[2], double excess[2])
{
    struct sl_plan_prices prices = {k->free[0] ? 0 : exp(v[0]), k->free[1] ? 0 : exp(v[1])};

    k->sum = add_up(k->p, k->member, k->n, &prices);
    excess[0] = k->free[0] ? 0 : log(k->sum.bandwidth / k->server->bandwidth_hz);
    excess[1] = k->free[1] ? 0 : log(k->sum.clock / k->server->f_max_hz);
    k->dual = k->sum.cost - prices.bandwidth * k->server->bandwidth_hz - prices.clock * k->server->f_max_hz;
}

static double size(const double e[2])
{
    return fmax(fabs(e[0]), fabs(e[1]));
}

/* A step of Newton's from where was last asked. */
static void newton(const struct market *k, const double e[2], double step[2])
{
    double j[2][2] = {{-1, 0}, {0, -1}}, sum[2] = {k->sum.bandwidth, k->sum.clock};

    for (int c = 0; c < 2; c++) {
        if (k->free[c])
            continue;
        for (int r = 0; r < 2; r++)
            j[r][c] = k->free[r] ? (r == c ? -1 : 0) : k->sum.slope_hz[r][c] / sum[r];
        if (!(j[c][c] < -1e-6)) /* bounds hold all of them: any price in a range is right */
            j[c][c] = -1e-6;
    }
    double d = j[0][0] * j[1][1] - j[0][1] * j[1][0];
    if (fabs(d) > 1e-3 * j[0][0] * j[1][1]) {
        step[0] = (-e[0] * j[1][1] + e[1] * j[0][1]) / d;
        step[1] = (-e[1] * j[0][0] + e[0] * j[1][0]) / d;
    } else {
        step[0] = -e[0] / j[0][0];
        step[1] = -e[1] / j[1][1];
    }
    for (int c = 0; c < 2; c++)
        if (k->free[c])
            step[c] = 0;
    double most = size(step);
    for (int c = 0; c < 2 && most > step_max; c++)
        step[c] *= step_max / most;
}

/* The dual's slope as both prices rise together, their ratio held. */
struct ray {
    struct market *k;
    double scale, ratio; /* logarithms: of the bandwidth's price, and of the clock's over it */
    double e[2];
    struct sl_secant inner, outer;
};

static double along(void *ctx, double v, double *slope)
{
    struct ray *r = ctx;
    double at[2] = {v, v + r->ratio}, f;

    ask(r->k, at, r->e);
    r->scale = v;
    if (r->k->free[0] || r->k->free[1]) {
        f = r->k->free[0] ? r->e[1] : r->e[0];
    } else {
        double b = r->k->server->bandwidth_hz, c = exp(r->ratio) * r->k->server->f_max_hz;
        f = (b * expm1(r->e[0]) + c * expm1(r->e[1])) / (b + c);
    }
    *slope = sl_secant_slope(&r->inner, v, f, -0.5);
    return f;
}

static double across(void *ctx, double ratio, double *slope)
{
    struct ray *r = ctx;

    r->ratio = ratio;
    r->inner.any = false;
    r->scale = sl_root_falling(along, r, r->scale, 1, 0.1 * r->k->p->tolerance);
    *slope = sl_secant_slope(&r->outer, ratio, r->e[1], -0.5);
    return r->e[1];
}

/* Where Newton's steps do not settle: where bounds hold all clocks and powers, what is asked for depends on
 * the ratio of the prices alone, over a wide range of both. The dual is concave, so its maximum on each ray
 * has one maximum over the rays. */
static void ray_by_ray(struct market *k, double v[2], double e[2])
{
    struct ray r = {.k = k, .scale = v[0], .ratio = k->free[0] || k->free[1] ? 0 : v[1] - v[0]};
    double slope;

    if (k->free[0]) {
        r.scale = v[1];
        v[1] = sl_root_falling(along, &r, v[1], 1, 0.1 * k->p->tolerance);
    } else if (k->free[1]) {
        v[0] = sl_root_falling(along, &r, v[0], 1, 0.1 * k->p->tolerance);
    } else {
        r.ratio = sl_root_falling(across, &r, r.ratio, 0.5, k->p->tolerance);
        across(&r, r.ratio, &slope);
        v[0] = r.scale;
        v[1] = r.scale + r.ratio;
    }
    ask(k, v, e);
}

static void find_prices(struct market *k, struct sl_plan_prices *prices)
{
    double v[2] = {log(prices->bandwidth), log(prices->clock)}, e[2], e_next[2], step[2];

    ask(k, v, e);
    for (int i = 0; i < PRICE_STEPS && size(e) > k->p->tolerance && k->dual < k->enough; i++) {
        double share = 1, next[2], before = k->dual;
        bool better = false;
        newton(k, e, step);
        for (int half = 0; half < HALVINGS && !better; half++, share /= 2) {
            next[0] = v[0] + share * step[0];
            next[1] = v[1] + share * step[1];
            ask(k, next, e_next);
            better = size(e_next) < size(e) || k->dual > before;
        }
        if (!better)
            break;
        for (int c = 0; c < 2; c++) {
            v[c] = next[c];
            e[c] = e_next[c];
        }
    }
    if (size(e) > k->p->tolerance && k->dual < k->enough)
        ray_by_ray(k, v, e);
    prices->bandwidth = k->free[0] ? 0 : exp(v[0]);
    prices->clock = k->free[1] ? 0 : exp(v[1]);
}

/* The dual's value: at prices that are nearly right it is right to the second order. */
static double server_value(void *ctx, uint32_t m, struct sl_plan_member *member, uint32_t n, double enough,
    struct sl_plan_prices *prices)
{
    struct sl_physical *p = ctx;
    const struct sl_plan_server *server = &p->s->server[m];
    struct market k = {.p = p, .server = server, .member = member, .n = n};
    double present = 0, most_bandwidth = 0, own = 0;

    prices->bandwidth = prices->clock = 0;
    if (n == 0)
        return 0;
    for (uint32_t i = 0; i < n; i++) {
        describe(p, m, member[i].user, member[i].alpha, &p->u[i]);
        present += member[i].x;
        most_bandwidth += member[i].x * p->u[i].b_max_hz;
        own += member[i].x * stability(p, member[i].user, member[i].alpha);
    }
    if (present * p->s->min_share > 1 + 1e-12)
        return INFINITY;
    k.enough = enough - own;
    k.free[0] = most_bandwidth <= server->bandwidth_hz;
    k.free[1] = present <= 1;
    *prices = p->price[m];
    if (!(prices->bandwidth > 0))
        prices->bandwidth = any_second(p) * p->scales.tau0_s / server->bandwidth_hz;
    if (!(prices->clock > 0))
        prices->clock = any_second(p) * p->scales.tau0_s / server->f_max_hz;
    find_prices(&k, prices);
    if (prices->bandwidth > 0)
        p->price[m].bandwidth = prices->bandwidth;
    if (prices->clock > 0)
        p->price[m].clock = prices->clock;
    /* To rounding, no more than there is. */
    double b = fmin(1, server->bandwidth_hz / k.sum.bandwidth), g = fmin(1, server->f_max_hz / k.sum.clock);
    for (uint32_t i = 0; i < n; i++) {
        const struct sl_allot *a = &p->last[member[i].user];
        member[i].power_w = a->power_w;
        member[i].f_hz = a->f_hz;
        member[i].bandwidth_hz = a->bandwidth_hz * b;
        member[i].f_edge_hz = a->f_edge_hz * g;
    }
    return k.sum.cost + own - prices->bandwidth * server->bandwidth_hz - prices->clock * server->f_max_hz;
}

struct sl_plan_value sl_physical_value(struct sl_physical *p)
{
    return (struct sl_plan_value){p, p->s, server_value, user_value, user_best, layers_allowed};
}

/* ---- all of them ---- */

struct whole {
    struct sl_physical *p;
    const uint32_t *server, *alpha;
    double value, mu; /* mu: sum of those whose bound is tau */
    struct sl_plan_choice *choice;
    struct sl_plan_prices *prices;
    struct sl_secant secant; /* its u: where all was valued last */
};

static void value_all(struct whole *w)
{
    struct sl_physical *p = w->p;

    w->value = w->mu = 0;
    for (uint32_t m = 0; m < p->s->n_servers; m++) {
        struct sl_plan_prices prices;
        uint32_t k = 0;
        for (uint32_t i = 0; i < p->s->n_users; i++)
            if (w->server[i] == m)
                p->member[k++] = (struct sl_plan_member){.user = i, .alpha = w->alpha[i], .x = 1};
        w->value += server_value(p, m, p->member, k, INFINITY, &prices);
        if (w->prices)
            w->prices[m] = prices;
        for (uint32_t i = 0; i < k; i++) {
            const struct sl_plan_member *u = &p->member[i];
            if (p->u[i].time_max_s == p->tau_s)
                w->mu += fmin(p->last[u->user].mu, p->u[i].mu_max);
            if (w->choice)
                w->choice[u->user] = (struct sl_plan_choice){
                    w->alpha[u->user], m, u->power_w, u->bandwidth_hz, u->f_hz, u->f_edge_hz};
        }
    }
}

static double tau_excess(void *ctx, double v, double *slope)
{
    struct whole *w = ctx;

    w->p->tau_s = exp(v);
    value_all(w);
    double excess = log(fmax(w->mu / w->p->second, 1e-12));
    *slope = sl_secant_slope(&w->secant, v, excess, w->p->bend);
    if (*slope < bend_least)
        w->p->bend = *slope;
    return excess;
}

static double find_tau(struct whole *w, double tolerance)
{
    struct sl_physical *p = w->p;

    if (p->s->asynchronous || p->second == 0) {
        p->tau_s = INFINITY;
        value_all(w);
        return 0;
    }
    double guess = isfinite(p->tau_s) ? p->tau_s : p->scales.tau0_s;
    double v = sl_root_falling(tau_excess, w, log(guess), 0.3, tolerance), slope;
    return v == w->secant.u ? w->secant.f : tau_excess(w, v, &slope);
}

double sl_physical_tau(struct sl_physical *p, const uint32_t *server, const uint32_t *alpha, double *residual)
{
    struct whole w = {.p = p, .server = server, .alpha = alpha};

    weigh_second(p, server);
    double left = find_tau(&w, 1e-5);
    if (residual)
        *residual = fabs(left);
    return w.value + sl_physical_tau_cost(p);
}

double sl_physical_choose(struct sl_physical *p, const uint32_t *server, const uint32_t *alpha,
    struct sl_plan_choice *choice, struct sl_plan_prices *prices, double *mu)
{
    struct whole w = {.p = p, .server = server, .alpha = alpha, .choice = choice, .prices = prices};

    weigh_second(p, server);
    for (uint32_t i = 0; i < p->s->n_users; i++)
        choice[i] = (struct sl_plan_choice){.server = SL_PLAN_NOBODY};
    p->tolerance = sums_exact;
    find_tau(&w, 1e-6);
    p->tolerance = sums_near;
    for (uint32_t i = 0; i < p->s->n_users; i++)
        mu[i] = choice[i].server == SL_PLAN_NOBODY ? 0 : p->last[i].mu;
    return w.value + sl_physical_tau_cost(p);
}

double sl_physical_lower_bound(
    struct sl_physical *p, const uint32_t *take, const struct sl_plan_prices *prices, const double *mu)
{
    const struct sl_plan_scenario *s = p->s;
    double sum = 0, given = 0, part = 1;

    weigh_second(p, take);
    for (uint32_t i = 0; i < s->n_users; i++)
        given += take[i] == SL_PLAN_NOBODY ? 0 : mu[i];
    if (!s->asynchronous && given > p->second)
        part = p->second / given;
    for (uint32_t m = 0; m < s->n_servers; m++)
        if (sl_plan_room(s, m))
            sum -= prices[m].bandwidth * s->server[m].bandwidth_hz + prices[m].clock * s->server[m].f_max_hz;
    for (uint32_t i = 0; i < s->n_users; i++) {
        double cheapest = INFINITY;
        uint32_t least, most;
        if (take[i] == SL_PLAN_NOBODY)
            continue;
        layers_allowed(p, i, &least, &most);
        for (uint32_t m = 0; m < s->n_servers; m++)
            for (uint32_t a = least; a <= most && sl_plan_can_serve(s, m, i); a++) {
                struct sl_allot_user u;
                struct sl_allot out = {0};
                describe(p, m, i, a, &u);
                if (!s->asynchronous)
                    u.second_weight = part * mu[i];
                u.time_max_s = INFINITY;
                cheapest = fmin(cheapest, sl_allot(&u, &prices[m], INFINITY, &out) + stability(p, i, a));
            }
        sum += cheapest;
    }
    return sum;
}

const char *sl_physical_user_fault(struct sl_physical *p, uint32_t n)
{
    const struct sl_plan_prices nothing = {0};
    const struct sl_plan_user *own = &p->s->user[n];
    uint32_t least, most;
    bool soon = own->deadline_s <= 0;

    if (soon && own->energy_j <= 0)
        return NULL;
    layers_allowed(p, n, &least, &most);
    for (uint32_t m = 0; m < p->s->n_servers; m++)
        for (uint32_t a = least; a <= most && sl_plan_can_serve(p->s, m, n); a++) {
            struct sl_allot_user u;
            struct sl_allot out = {0};
            describe(p, m, n, a, &u);
            u.time_max_s = own->deadline_s > 0 ? own->deadline_s : INFINITY;
            u.mu_max = fmax(u.mu_max, u.deadline_mu_max);
            sl_allot(&u, &nothing, INFINITY, &out);
            soon |= out.time_s <= u.time_max_s * kept;
            if (out.time_s <= u.time_max_s * kept && out.energy_j <= u.energy_max_j * kept)
                return NULL;
        }
    return soon ? "its energy bound cannot be met within its deadline, whatever the cut and the server"
                : "its deadline cannot be met, whatever the cut and the server";
}
