#include "trainer/plan/allot.h"

#include "trainer/plan/root.h"
#include "trainer/plan/uplink.h"

#include <math.h>
#include <stdbool.h>

static const double time_exact = 1e-11, energy_exact = 1e-11;
static const double nothing = 1e-300; /* a multiplier of 0 where its logarithm is asked for */

static double clip(double v, double lo, double hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static bool between(double v, double lo, double hi)
{
    return v > lo && v < hi;
}

/* What there is to turn: ln mu, ln w, and the logarithms of the prices. */
enum { MU, JOULE_WEIGHT, BANDWIDTH, CLOCK, KNOBS };

/* Slopes, each with the other three held. */
struct answer {
    double time_s[KNOBS], energy_j[KNOBS], bandwidth_hz[KNOBS], clock_hz[KNOBS];
};

/* Only the ratios of the four count, and at the optimum w dE + mu dT + lambda_b db + lambda_g dg = 0
 * whichever is turned: the rest follows from time and shares. */
static void complete(struct answer *a, const struct sl_plan_prices *price, double mu, double w)
{
    a->time_s[JOULE_WEIGHT] = -(a->time_s[MU] + a->time_s[BANDWIDTH] + a->time_s[CLOCK]);
    a->bandwidth_hz[JOULE_WEIGHT] = -(a->bandwidth_hz[MU] + a->bandwidth_hz[BANDWIDTH]);
    a->clock_hz[JOULE_WEIGHT] = -(a->clock_hz[MU] + a->clock_hz[CLOCK]);
    for (int k = 0; k < KNOBS; k++)
        a->energy_j[k] =
            -(mu * a->time_s[k] + price->bandwidth * a->bandwidth_hz[k] + price->clock * a->clock_hz[k]) / w;
}

/* All of it at given multipliers. */
static void at(const struct sl_allot_user *u, const struct sl_plan_prices *price, double mu, double w,
    struct sl_allot *out, struct answer *answer)
{
    struct sl_uplink link = {.bandwidth_hz = out->bandwidth_hz, .power_w = out->power_w};

    sl_uplink(u, mu, w, price->bandwidth, &link);
    out->bandwidth_hz = link.bandwidth_hz;
    out->power_w = link.power_w;
    out->f_hz =
        w * u->kappa > 0 ? clip(cbrt(mu / (2 * w * u->kappa)), u->f_min_hz, u->f_max_hz) : u->f_max_hz;
    out->f_edge_hz = price->clock > 0
                         ? clip(sqrt(mu * u->edge_cycles / price->clock), u->g_min_hz, u->g_max_hz)
                         : u->g_max_hz;
    double chip_s = u->device_cycles / out->f_hz, up_s = u->up_bit / link.rate_bps,
           down_s = u->down_bit_per_hz / out->bandwidth_hz, edge_s = u->edge_cycles / out->f_edge_hz;
    double free = between(out->f_edge_hz, u->g_min_hz, u->g_max_hz) ? 0.5 : 0;
    out->time_s = chip_s + up_s + down_s + u->fixed_s + edge_s;
    out->energy_j = u->kappa * out->f_hz * out->f_hz * u->device_cycles + out->power_w * up_s +
                    u->rx_w * down_s + u->fixed_j;
    out->mu = mu;
    out->joule_weight = w;
    *answer = (struct answer){
        .time_s =
            {[MU] = link.time_mu - free * edge_s, [BANDWIDTH] = link.time_price, [CLOCK] = free * edge_s},
        .bandwidth_hz = {[MU] = link.bandwidth_hz * link.bandwidth_mu,
            [BANDWIDTH] = link.bandwidth_hz * link.bandwidth_price},
        .clock_hz = {[MU] = out->f_edge_hz * free, [CLOCK] = -out->f_edge_hz * free},
    };
    if (between(out->f_hz, u->f_min_hz, u->f_max_hz))
        answer->time_s[MU] -= chip_s / 3;
}

struct lateness {
    const struct sl_allot_user *u;
    const struct sl_plan_prices *price;
    double w, bound_s, mu_max, at; /* at: of `out` */
    bool never;                    /* the bound is not met at mu_max */
    bool held, sparing;            /* a bound on time is met, and just; one on energy */
    bool ended;                    /* the cost is `enough` at least */
    double enough, cost;
    struct sl_allot *out;
    struct answer answer;
    struct sl_secant secant; /* of the joules' weight */
};

/* Weak duality: any mu from `second_weight` on bounds the cost from below. */
static double lagrangian(const struct sl_allot_user *u, const struct sl_plan_prices *price, double bound_s,
    const struct sl_allot *out)
{
    double more = out->mu - u->second_weight;

    return out->joule_weight * out->energy_j + u->second_weight * out->time_s +
           (more > 0 ? more * (out->time_s - bound_s) : 0) + price->bandwidth * out->bandwidth_hz +
           price->clock * out->f_edge_hz;
}

/* Beyond mu_max nothing moves any more. */
static double late(void *ctx, double v, double *slope)
{
    struct lateness *k = ctx;
    double mu = fmin(exp(v), k->mu_max), over;

    at(k->u, k->price, mu, k->w, k->out, &k->answer);
    k->at = v;
    *slope = k->answer.time_s[MU] / k->out->time_s;
    over = log(k->out->time_s / k->bound_s);
    k->never = mu == k->mu_max && over >= 0;
    if (k->enough < INFINITY)
        k->ended = (k->cost = lagrangian(k->u, k->price, k->bound_s, k->out)) >= k->enough;
    return k->never || k->ended ? 0 : over;
}

/* The least mu from lo to hi that meets the bound, or hi; `out` is at lo. Whether it is met. */
static bool meet(struct lateness *k, double bound_s, double guess, double lo, double hi)
{
    double slope;

    if (k->out->time_s <= bound_s)
        return true;
    lo = fmax(lo, nothing);
    if (!(guess > lo && guess < hi))
        guess = hi * 1e-3 > lo ? hi * 1e-3 : sqrt(lo * hi);
    k->bound_s = bound_s;
    k->mu_max = hi;
    double v = sl_root_falling(late, k, log(guess), 0.7, time_exact);
    if (v != k->at)
        late(k, fmax(v, log(lo)), &slope);
    k->held = !k->never;
    return k->held || k->ended;
}

static void in_time(struct lateness *k)
{
    const struct sl_allot_user *u = k->u;
    double guess = k->out->mu;

    k->held = false;
    /* Where time has no price of its own the chip runs at its least clock: often too slow by that alone. */
    if (u->second_weight == 0 && k->w * u->kappa > 0 && u->device_cycles > u->time_max_s * u->f_min_hz)
        k->out->time_s = INFINITY;
    else
        at(u, k->price, u->second_weight, k->w, k->out, &k->answer);
    if (!meet(k, u->time_max_s, guess, u->second_weight, u->mu_max) && u->deadline_s > u->time_max_s)
        meet(k, u->deadline_s, guess, u->mu_max, u->deadline_mu_max);
}

static double greedy(void *ctx, double v, double *slope)
{
    struct lateness *k = ctx;

    k->w = exp(v);
    in_time(k);
    double over = log(k->out->energy_j / k->u->energy_max_j);
    *slope = sl_secant_slope(&k->secant, v, over, -0.5);
    return over;
}

/* The shares' answers to the prices. A bound that is held turns mu or w with them. */
static void answer_prices(struct lateness *k, struct sl_allot *out)
{
    struct answer *a = &k->answer;
    const double *t = a->time_s, *e = a->energy_j;

    complete(a, k->price, out->mu, out->joule_weight);
    for (int price = 0; price < 2; price++) {
        int knob = BANDWIDTH + price;
        double both = t[MU] * e[JOULE_WEIGHT] - t[JOULE_WEIGHT] * e[MU], mu = 0, w = 0;
        if (k->held && k->sparing && both != 0) {
            mu = (t[JOULE_WEIGHT] * e[knob] - t[knob] * e[JOULE_WEIGHT]) / both;
            w = (t[knob] * e[MU] - t[MU] * e[knob]) / both;
        } else if (k->held && t[MU] < 0) {
            mu = -t[knob] / t[MU];
        } else if (k->sparing && e[JOULE_WEIGHT] < 0) {
            w = -e[knob] / e[JOULE_WEIGHT];
        }
        out->slope_hz[0][price] =
            a->bandwidth_hz[knob] + a->bandwidth_hz[MU] * mu + a->bandwidth_hz[JOULE_WEIGHT] * w;
        out->slope_hz[1][price] = a->clock_hz[knob] + a->clock_hz[MU] * mu + a->clock_hz[JOULE_WEIGHT] * w;
    }
}

double sl_allot_at_least(
    const struct sl_allot_user *u, const struct sl_plan_prices *price, struct sl_allot *out)
{
    struct answer answer;

    at(u, price, clip(out->mu, u->second_weight, u->mu_max), u->joule_weight, out, &answer);
    return lagrangian(u, price, u->time_max_s, out);
}

double sl_allot(
    const struct sl_allot_user *u, const struct sl_plan_prices *price, double enough, struct sl_allot *out)
{
    struct lateness k = {.u = u, .price = price, .w = u->joule_weight, .enough = enough, .out = out};

    in_time(&k);
    if (k.ended)
        return k.cost;
    k.enough = INFINITY;
    if (out->energy_j > u->energy_max_j) {
        double lo = log(fmax(k.w, nothing)), hi = log(u->joule_weight_max);
        k.w = u->joule_weight_max;
        in_time(&k);
        if (out->energy_j < u->energy_max_j) {
            k.w = exp(clip(sl_root_falling(greedy, &k, hi - 7, 0.7, energy_exact), lo, hi));
            in_time(&k);
            k.sparing = true;
        }
    }
    answer_prices(&k, out);
    double cost = u->joule_weight * out->energy_j + u->second_weight * out->time_s +
                  price->bandwidth * out->bandwidth_hz + price->clock * out->f_edge_hz;
    /* What cannot be met is paid for. */
    double mu = fmin(out->mu, u->mu_max);
    if (out->time_s > u->time_max_s)
        cost += (mu - u->second_weight) * (out->time_s - u->time_max_s);
    if (out->time_s > u->deadline_s)
        cost += (out->mu - mu) * (out->time_s - u->deadline_s);
    if (out->energy_j > u->energy_max_j)
        cost += (out->joule_weight - u->joule_weight) * (out->energy_j - u->energy_max_j);
    return cost;
}
