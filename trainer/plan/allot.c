#include "trainer/plan/allot.h"

#include "trainer/plan/root.h"

#include <math.h>
#include <stdbool.h>

static const double time_exact = 1e-11, bandwidth_exact = 1e-12, energy_exact = 1e-11;
static const double nothing = 1e-300; /* a multiplier of 0 where its logarithm is asked for */

enum { SNR_STEPS = 30 };

static double clip(double v, double lo, double hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

/* y >= 0 with (y - 1) e^y + 1 = z: Newton's steps from above, where the left side is convex. */
static double snr_exponent(double z)
{
    double y = fmin(sqrt(2 * z), 1 + log1p(z));

    if (y < 1e-4) /* e^y is 1 + y + y^2/2 here: the difference below would be rounding alone */
        return y * (1 - y / 3);
    for (int i = 0; i < SNR_STEPS; i++) {
        double e = exp(y), step = ((y - 1) * e + 1 - z) / (y * e);
        y -= step;
        if (fabs(step) <= 1e-14 * y)
            break;
    }
    return y;
}

struct uplink { /* the root for b */
    const struct sl_allot_user *u;
    double mu, w, price;
    double power, rate; /* out, at the last b */
};

/* How much the price of bandwidth outweighs what more of it saves, negated: falls in v = ln b. */
static double bandwidth_slope(void *ctx, double v, double *slope)
{
    struct uplink *k = ctx;
    const struct sl_allot_user *u = k->u;
    double b = exp(v), down = (k->mu + k->w * u->rx_w) * u->down_bit_per_hz / b, saved, bend;
    double y = k->w > 0 ? snr_exponent(k->mu * u->a_hz_per_w / (k->w * b)) : INFINITY;
    double p = isfinite(y) ? expm1(y) * b / u->a_hz_per_w : INFINITY;

    if (p >= u->p_min_w && p <= u->p_max_w) {
        double time_cost = k->mu * u->up_bit * M_LN2 / (b * y);
        saved = time_cost;
        bend = time_cost * (1 - k->mu * u->a_hz_per_w / (k->w * b) / (y * y * exp(y)));
    } else {
        p = clip(p, u->p_min_w, u->p_max_w);
        double s = u->a_hz_per_w * p / b;
        y = log1p(s);
        double cost = (k->w * p + k->mu) * u->up_bit * M_LN2 / (b * y), part = (1 + s) * y;
        double rising = 1 - s / part; /* of the rate's logarithm */
        saved = cost * rising;
        bend = cost * (rising * rising + s * (s - y) / (part * part));
    }
    k->power = p;
    k->rate = b * y / M_LN2;
    *slope = -(k->price * b + down + bend);
    return saved + down - k->price * b;
}

/* Where no bound of power or bandwidth holds: b = mu a / (w z(y)), and one unknown, y, in
 * lambda_b b^2 = mu S ln 2 / y + what the downlink adds. False: a bound holds. */
static bool unbounded(
    const struct sl_allot_user *u, double mu, double w, double price, struct sl_allot *out, double *rate)
{
    double down = (mu + w * u->rx_w) * u->down_bit_per_hz, up = mu * u->up_bit * M_LN2, b = 0;
    double y = out->bandwidth_hz > 0 && out->power_w > 0
                   ? log1p(u->a_hz_per_w * out->power_w / out->bandwidth_hz)
                   : 1;

    if (!(mu > 0 && w > 0 && price > 0))
        return false;
    for (int i = 0; i < SNR_STEPS; i++) {
        double e = exp(y), z = y < 1e-3 ? y * y * (0.5 + y / 3) : (y - 1) * e + 1;
        b = mu * u->a_hz_per_w / (w * z);
        double f = log(price * b * b / (up / y + down)),
               slope = -2 * y * y * e / z + up / y / (up / y + down), step = -f / slope;
        y *= exp(fmax(-1, fmin(1, step)));
        if (fabs(step) < 1e-13) {
            double p = expm1(y) * b / u->a_hz_per_w;
            out->bandwidth_hz = b;
            out->power_w = p;
            *rate = b * y / M_LN2;
            return b >= u->b_min_hz && b <= u->b_max_hz && p >= u->p_min_w && p <= u->p_max_w;
        }
    }
    return false;
}

/* At the greatest power: Newton's steps on b's own condition, and whether more power would be wanted there.
 */
static bool at_full_power(
    const struct sl_allot_user *u, double mu, double w, double price, struct sl_allot *out, double *rate)
{
    double b = out->bandwidth_hz > 0 ? out->bandwidth_hz : 0.5 * u->b_max_hz, p = u->p_max_w;
    double down = (mu + w * u->rx_w) * u->down_bit_per_hz, up = (w * p + mu) * u->up_bit * M_LN2;

    if (!(mu > 0 && price > 0))
        return false;
    for (int i = 0; i < SNR_STEPS; i++) {
        double s = u->a_hz_per_w * p / b, y = log1p(s), rising = 1 - s / ((1 + s) * y);
        double cost = up / (b * y) * rising, saved = cost + down / b;
        double step = log(saved / (price * b)) / (1 + (cost * rising + down / b) / saved);
        b *= exp(fmax(-2, fmin(2, step)));
        if (!(b > 0) || isinf(b))
            return false;
        if (fabs(step) < 1e-13) {
            s = u->a_hz_per_w * p / b;
            y = log1p(s);
            out->bandwidth_hz = b;
            out->power_w = p;
            *rate = b * y / M_LN2;
            return b >= u->b_min_hz && b <= u->b_max_hz &&
                   mu * u->a_hz_per_w / b >= w * ((y - 1) * (1 + s) + 1);
        }
    }
    return false;
}

static void shannon(
    const struct sl_allot_user *u, double mu, double w, double price, struct sl_allot *out, double *rate)
{
    struct uplink k = {.u = u, .mu = mu, .w = w, .price = price};
    double from_b = out->bandwidth_hz, from_p = out->power_w;
    if (from_p < u->p_max_w && unbounded(u, mu, w, price, out, rate))
        return;
    out->bandwidth_hz = from_b;
    if (at_full_power(u, mu, w, price, out, rate))
        return;
    out->bandwidth_hz = from_b;
    out->power_w = from_p;
    if (from_p >= u->p_max_w && unbounded(u, mu, w, price, out, rate))
        return;
    out->bandwidth_hz = from_b;
    double lo = log(u->b_min_hz), hi = log(u->b_max_hz), slope, v;

    if (bandwidth_slope(&k, hi, &slope) >= 0) {
        v = hi;
    } else if (bandwidth_slope(&k, lo, &slope) <= 0) {
        v = lo;
    } else {
        double guess = out->bandwidth_hz > 0 ? clip(log(out->bandwidth_hz), lo, hi) : 0.5 * (lo + hi);
        double scale = fmax(price * exp(guess), nothing);
        v = clip(sl_root_falling(bandwidth_slope, &k, guess, 0.5, bandwidth_exact * scale), lo, hi);
    }
    bandwidth_slope(&k, v, &slope);
    out->bandwidth_hz = exp(v);
    out->power_w = k.power;
    *rate = k.rate;
}

static bool between(double v, double lo, double hi)
{
    return v > lo && v < hi;
}

/* All of it at given multipliers. Returns dT / d ln mu, of a Shannon uplink about. */
static double at(const struct sl_allot_user *u, const struct sl_plan_prices *price, double mu, double w,
    struct sl_allot *out)
{
    double rate, down_s, moves, bent = 0.5;

    out->f_hz =
        w * u->kappa > 0 ? clip(cbrt(mu / (2 * w * u->kappa)), u->f_min_hz, u->f_max_hz) : u->f_max_hz;
    out->f_edge_hz = price->clock > 0
                         ? clip(sqrt(mu * u->edge_cycles / price->clock), u->g_min_hz, u->g_max_hz)
                         : u->g_max_hz;
    if (u->up_bps_per_hz > 0) {
        double per_hz =
            (w * u->p_max_w + mu) * u->up_bit / u->up_bps_per_hz + (mu + w * u->rx_w) * u->down_bit_per_hz;
        out->bandwidth_hz = price->bandwidth > 0
                                ? clip(sqrt(per_hz / price->bandwidth), u->b_min_hz, u->b_max_hz)
                                : u->b_max_hz;
        out->power_w = u->p_max_w;
        bent = 0.5 * mu * (u->up_bit / u->up_bps_per_hz + u->down_bit_per_hz) / per_hz;
        rate = out->bandwidth_hz * u->up_bps_per_hz;
    } else {
        shannon(u, mu, w, fmax(price->bandwidth, 0), out, &rate);
    }
    down_s = u->down_bit_per_hz / out->bandwidth_hz;
    out->time_s = u->device_cycles / out->f_hz + u->up_bit / rate + down_s + u->fixed_s +
                  u->edge_cycles / out->f_edge_hz;
    out->energy_j = u->kappa * out->f_hz * out->f_hz * u->device_cycles + out->power_w * u->up_bit / rate +
                    u->rx_w * down_s + u->fixed_j;
    out->mu = mu;
    out->joule_weight = w;
    moves = between(out->f_hz, u->f_min_hz, u->f_max_hz) ? u->device_cycles / out->f_hz / 3 : 0;
    if (between(out->f_edge_hz, u->g_min_hz, u->g_max_hz))
        moves += 0.5 * u->edge_cycles / out->f_edge_hz;
    if (between(out->bandwidth_hz, u->b_min_hz, u->b_max_hz) || !(u->up_bps_per_hz > 0))
        moves += bent * (u->up_bit / rate + down_s);
    return -moves;
}

struct lateness {
    const struct sl_allot_user *u;
    const struct sl_plan_prices *price;
    double w, bound_s;
    struct sl_allot *out;
    struct sl_secant secant; /* of the joules' weight */
};

static double late(void *ctx, double v, double *slope)
{
    struct lateness *k = ctx;

    *slope = at(k->u, k->price, exp(v), k->w, k->out) / k->out->time_s;
    return log(k->out->time_s / k->bound_s);
}

/* The least mu from lo to hi that meets the bound, or hi; `out` is at lo. Whether it is met. */
static bool meet(struct lateness *k, double bound_s, double guess, double lo, double hi)
{
    if (k->out->time_s <= bound_s)
        return true;
    at(k->u, k->price, hi, k->w, k->out);
    if (k->out->time_s >= bound_s)
        return false;
    lo = fmax(lo, nothing);
    if (!(guess > lo && guess < hi))
        guess = hi * 1e-3 > lo ? hi * 1e-3 : sqrt(lo * hi);
    k->bound_s = bound_s;
    double v = clip(sl_root_falling(late, k, log(guess), 0.7, time_exact), log(lo), log(hi));
    at(k->u, k->price, exp(v), k->w, k->out);
    return true;
}

static void in_time(
    const struct sl_allot_user *u, const struct sl_plan_prices *price, double w, struct sl_allot *out)
{
    struct lateness k = {.u = u, .price = price, .w = w, .out = out};
    double guess = out->mu;

    /* Where time has no price of its own the chip runs at its least clock: often too slow by that alone. */
    if (u->second_weight == 0 && w * u->kappa > 0 && u->device_cycles > u->time_max_s * u->f_min_hz)
        out->time_s = INFINITY;
    else
        at(u, price, u->second_weight, w, out);
    if (!meet(&k, u->time_max_s, guess, u->second_weight, u->mu_max) && u->deadline_s > u->time_max_s)
        meet(&k, u->deadline_s, guess, u->mu_max, u->deadline_mu_max);
}

static double greedy(void *ctx, double v, double *slope)
{
    struct lateness *k = ctx;

    in_time(k->u, k->price, exp(v), k->out);
    double over = log(k->out->energy_j / k->u->energy_max_j);
    *slope = sl_secant_slope(&k->secant, v, over, -0.5);
    return over;
}

double sl_allot(const struct sl_allot_user *u, const struct sl_plan_prices *price, struct sl_allot *out)
{
    struct lateness k = {.u = u, .price = price, .out = out};
    double w = u->joule_weight;

    in_time(u, price, w, out);
    if (out->energy_j > u->energy_max_j) {
        in_time(u, price, u->joule_weight_max, out);
        if (out->energy_j < u->energy_max_j) {
            double lo = log(fmax(w, nothing)), hi = log(u->joule_weight_max);
            w = exp(clip(sl_root_falling(greedy, &k, hi - 7, 0.7, energy_exact), lo, hi));
            in_time(u, price, w, out);
        }
    }
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
