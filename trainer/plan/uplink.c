#include "trainer/plan/uplink.h"

#include "trainer/plan/root.h"

#include <math.h>
#include <stdbool.h>

static const double bandwidth_exact = 1e-12;
static const double step_enough = 1e-7; /* Newton's last one, which squares it */
static const double nothing = 1e-300;   /* a price of 0 where a scale is asked for */

enum { STEPS_MAX = 30 };

static double clip(double v, double lo, double hi)
{
    return v < lo ? lo : v > hi ? hi : v;
}

static bool between(double v, double lo, double hi)
{
    return v > lo && v < hi;
}

/* z(y) = (y - 1) e^y + 1, which rises from 0 as y^2 / 2; e = e^y. */
static double marginal(double y, double e)
{
    return y < 1e-3 ? y * y * (0.5 + y / 3) : (y - 1) * e + 1;
}

/* y >= 0 with z(y) = z: Newton's steps from above, where the left side is convex. */
static double snr_exponent(double z)
{
    double y = fmin(sqrt(2 * z), 1 + log1p(z));

    if (y < 1e-4) /* e^y is 1 + y + y^2/2 here: the difference below would be rounding alone */
        return y * (1 - y / 3);
    for (int i = 0; i < STEPS_MAX; i++) {
        double e = exp(y), step = ((y - 1) * e + 1 - z) / (y * e);
        y -= step;
        if (fabs(step) <= 1e-14 * y)
            break;
    }
    return y;
}

struct point {
    const struct sl_allot_user *u;
    double mu, w, price;
    double power, rate; /* out, at the last b */
};

/* How much the price of bandwidth outweighs what more of it saves, negated: falls in v = ln b. */
static double bandwidth_slope(void *ctx, double v, double *slope)
{
    struct point *k = ctx;
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
static bool unbounded(const struct point *k, struct sl_uplink *out)
{
    const struct sl_allot_user *u = k->u;
    double down = (k->mu + k->w * u->rx_w) * u->down_bit_per_hz, up = k->mu * u->up_bit * M_LN2;
    double y = out->bandwidth_hz > 0 && out->power_w > 0
                   ? log1p(u->a_hz_per_w * out->power_w / out->bandwidth_hz)
                   : 1;

    if (!(k->mu > 0 && k->w > 0 && k->price > 0))
        return false;
    for (int i = 0; i < STEPS_MAX; i++) {
        double e = exp(y), z = marginal(y, e), bends = y * y * e / z; /* d ln z / d ln y */
        double b = k->mu * u->a_hz_per_w / (k->w * z), gain = up / y + down, of_up = up / y / gain;
        double fall = 2 * bends - of_up, step = log(k->price * b * b / gain) / fall;
        y *= exp(clip(step, -1, 1));
        if (!(fabs(step) < step_enough))
            continue;
        b *= 1 - bends * step;
        double p = expm1(y) * b / u->a_hz_per_w, up_s = u->up_bit * M_LN2 / (b * y),
               down_s = u->down_bit_per_hz / b;
        double by_price = 1 / fall, by_mu = (2 - of_up - k->mu * u->down_bit_per_hz / gain) / fall; /* ln y */
        out->bandwidth_hz = b;
        out->power_w = p;
        out->rate_bps = b * y / M_LN2;
        out->bandwidth_price = -bends * by_price;
        out->bandwidth_mu = 1 - bends * by_mu;
        out->time_price = -up_s * (out->bandwidth_price + by_price) - down_s * out->bandwidth_price;
        out->time_mu = -up_s * (out->bandwidth_mu + by_mu) - down_s * out->bandwidth_mu;
        return b >= u->b_min_hz && b <= u->b_max_hz && p >= u->p_min_w && p <= u->p_max_w;
    }
    return false;
}

/* What more bandwidth saves at a power that stays, and the slope of that in ln b and of its logarithm in ln
 * mu. */
struct held {
    double saved, bend, by_mu, y, rising;
};

static struct held at_power(const struct point *k, double b, double p)
{
    const struct sl_allot_user *u = k->u;
    double s = u->a_hz_per_w * p / b, y = log1p(s), part = (1 + s) * y, rising = 1 - s / part;
    double down = (k->mu + k->w * u->rx_w) * u->down_bit_per_hz / b;
    double cost = (k->w * p + k->mu) * u->up_bit * M_LN2 / (b * y), saved = cost * rising + down;

    return (struct held){saved, cost * (rising * rising + s * (s - y) / (part * part)) + down,
        (k->mu * u->up_bit * M_LN2 / (b * y) * rising + k->mu * u->down_bit_per_hz / b) / saved, y, rising};
}

/* With b free and a power that stays: b's answer, and time's through it. */
static void answer_at_power(const struct point *k, const struct held *h, struct sl_uplink *out)
{
    double up_s = k->u->up_bit * M_LN2 / (out->bandwidth_hz * h->y),
           down_s = k->u->down_bit_per_hz / out->bandwidth_hz, stiff = 1 + h->bend / h->saved;

    out->bandwidth_price = -1 / stiff;
    out->bandwidth_mu = h->by_mu / stiff;
    out->time_price = -(up_s * h->rising + down_s) * out->bandwidth_price;
    out->time_mu = -(up_s * h->rising + down_s) * out->bandwidth_mu;
}

/* At the greatest or the least power: Newton's steps on b's own condition, and whether power would go beyond.
 */
static bool at_power_bound(const struct point *k, double p, struct sl_uplink *out)
{
    const struct sl_allot_user *u = k->u;
    double b = out->bandwidth_hz > 0 ? out->bandwidth_hz : 0.5 * u->b_max_hz;

    if (!(k->mu > 0 && k->price > 0))
        return false;
    for (int i = 0; i < STEPS_MAX; i++) {
        struct held h = at_power(k, b, p);
        double step = log(h.saved / (k->price * b)) / (1 + h.bend / h.saved);
        b *= exp(clip(step, -2, 2));
        if (!(b > 0) || isinf(b))
            return false;
        if (!(fabs(step) < step_enough))
            continue;
        double s = u->a_hz_per_w * p / b;
        h.y = log1p(s);
        out->bandwidth_hz = b;
        out->power_w = p;
        out->rate_bps = b * h.y / M_LN2;
        answer_at_power(k, &h, out);
        double more = k->mu * u->a_hz_per_w / b - k->w * ((h.y - 1) * (1 + s) + 1);
        return b >= u->b_min_hz && b <= u->b_max_hz && (p == u->p_max_w ? more >= 0 : more <= 0);
    }
    return false;
}

/* Whatever bounds hold: b between them by bracketing, and the power that is best at each. */
static void bracketed(struct point *k, struct sl_uplink *out)
{
    const struct sl_allot_user *u = k->u;
    double lo = log(u->b_min_hz), hi = log(u->b_max_hz), slope, v;

    if (bandwidth_slope(k, hi, &slope) >= 0) {
        v = hi;
    } else if (bandwidth_slope(k, lo, &slope) <= 0) {
        v = lo;
    } else {
        double guess = out->bandwidth_hz > 0 ? clip(log(out->bandwidth_hz), lo, hi) : 0.5 * (lo + hi);
        double scale = fmax(k->price * exp(guess), nothing);
        v = clip(sl_root_falling(bandwidth_slope, k, guess, 0.5, bandwidth_exact * scale), lo, hi);
    }
    bandwidth_slope(k, v, &slope);
    out->bandwidth_hz = exp(v);
    out->power_w = k->power;
    out->rate_bps = k->rate;
    out->bandwidth_mu = out->bandwidth_price = out->time_mu = out->time_price = 0;
    if (v > lo && v < hi) {
        struct held h = at_power(k, out->bandwidth_hz, out->power_w);
        answer_at_power(k, &h, out);
    } else if (between(out->power_w, u->p_min_w, u->p_max_w)) {
        double y = k->rate * M_LN2 / out->bandwidth_hz, e = exp(y);
        out->time_mu = -u->up_bit / k->rate * marginal(y, e) / (y * y * e);
    }
}

static void shannon(struct point *k, struct sl_uplink *out)
{
    const struct sl_uplink guess = *out;
    double held = guess.power_w >= k->u->p_max_w                        ? k->u->p_max_w
                  : guess.power_w > 0 && guess.power_w <= k->u->p_min_w ? k->u->p_min_w
                                                                        : 0;

    /* A bound that held last time most likely does again. */
    if (held > 0 && at_power_bound(k, held, out))
        return;
    *out = guess;
    if (unbounded(k, out))
        return;
    double beyond = out->power_w >= k->u->p_max_w ? k->u->p_max_w : k->u->p_min_w;
    *out = guess;
    if (beyond != held && at_power_bound(k, beyond, out))
        return;
    *out = guess;
    bracketed(k, out);
}

static void measured(const struct point *k, struct sl_uplink *out)
{
    const struct sl_allot_user *u = k->u;
    double per_hz = u->up_bit / u->up_bps_per_hz + u->down_bit_per_hz; /* time times bandwidth */
    double saved = (k->w * u->p_max_w + k->mu) * u->up_bit / u->up_bps_per_hz +
                   (k->mu + k->w * u->rx_w) * u->down_bit_per_hz;
    double b = k->price > 0 ? clip(sqrt(saved / k->price), u->b_min_hz, u->b_max_hz) : u->b_max_hz;
    bool free = between(b, u->b_min_hz, u->b_max_hz);

    *out = (struct sl_uplink){b, u->p_max_w, b * u->up_bps_per_hz, 0, 0, 0, 0};
    if (free) {
        out->bandwidth_price = -0.5;
        out->bandwidth_mu = 0.5 * k->mu * per_hz / saved;
        out->time_price = -per_hz / b * out->bandwidth_price;
        out->time_mu = -per_hz / b * out->bandwidth_mu;
    }
}

void sl_uplink(
    const struct sl_allot_user *u, double mu, double joule_weight, double price, struct sl_uplink *out)
{
    struct point k = {.u = u, .mu = mu, .w = joule_weight, .price = fmax(price, 0)};

    if (u->up_bps_per_hz > 0)
        measured(&k, out);
    else
        shannon(&k, out);
}
