#include "trainer/plan/split.h"

#include "trainer/plan/root.h"

#include <math.h>
#include <stdbool.h>

enum { INVERT_STEPS = 60 };
/* Of Newton's last step, which squares it; of a sum of shares, before what is left is settled. Costs are flat
 * at the optimum: they err by the squares of these. */
static const double newton_enough = 1e-5, sum_enough = 1e-7;

/* phi(x) = x / ln(1 + x), by which energy at SNR x exceeds that at SNR 0, and x^2 phi'(x): the price in units
 * of c / a^2. Both rise from 1 and 0. */
static double phi(double x)
{
    return x < 1e-8 ? 1 + x / 2 : x / log1p(x);
}

static double rise(double x)
{
    double l = log1p(x);

    if (x < 1e-4) /* series of (l - x/(1+x)) / l^2: the difference cancels there */
        return x * x * (0.5 - x / 6 + x * x / 8 - 19 * x * x * x / 180);
    return x * x * (l - x / (1 + x)) / (l * l);
}

/* ln r and e^y near 1 and 0, where Newton's steps are nearly always: of the step alone, whose size ends the
 * steps. */
static double step_log(double r)
{
    return fabs(r - 1) < 0.05 ? 2 * (r - 1) / (r + 1) : log(r);
}

static double step_exp(double y)
{
    return fabs(y) < 0.05 ? 1 + y * (1 + y * (0.5 + y / 6)) : exp(y);
}

/* x with rise(x) = g: rise is close to x^2, so Newton's steps on logarithms are short. *power: d ln rise / d
 * ln x there. guess: x, or 0. */
static double invert_rise(double g, double guess, double *power)
{
    double x = guess > 0 ? guess : sqrt(2 * g);

    for (int i = 0; i < INVERT_STEPS; i++) {
        double l = log1p(x), d = l - x / (1 + x);
        *power = x < 1e-4 ? 2 : 2 + x * x / ((1 + x) * (1 + x) * d) - 2 * x / ((1 + x) * l);
        double error = step_log((x < 1e-4 ? rise(x) : x * x * d / (l * l)) / g);
        x *= step_exp(-error / *power);
        if (fabs(error) < newton_enough)
            break;
    }
    return x;
}

/* The share at a price, and its slope in the price's logarithm. share: a guess, or 0. */
static double bandwidth_wanted(
    double a, double c, double lo, double hi, double price, double *share, double *slope)
{
    double power = 2, b = c <= 0 ? lo
                          : price > 0
                              ? a / invert_rise(price * a * a / c, *share > lo ? a / *share : 0, &power)
                              : hi;

    *slope = b > lo && b < hi ? -b / power : 0;
    return *share = b > lo ? b < hi ? b : hi : lo;
}

double sl_split_bandwidth_at(double a, double c, double lo, double hi, double price, double *share)
{
    double slope, b;

    *share = 0;
    b = bandwidth_wanted(a, c, lo, hi, price, share, &slope);
    return (c > 0 ? c / a * phi(a / b) : 0) + price * b;
}

/* ---- bandwidth ---- */

/* Each *_excess below is positive where the shares at a price are more than there is, and close to linear in
 * its variable where no bound holds; it leaves the shares in place. */
struct bandwidth {
    struct sl_split_bandwidth *u;
    uint32_t n;
    double lo, total, sum;
};

/* u: the price's logarithm. */
static double bandwidth_excess(void *ctx, double u, double *slope)
{
    struct bandwidth *b = ctx;
    double price = exp(u), d, falls = 0;

    b->sum = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        bandwidth_wanted(b->u[i].a_hz, b->u[i].c, b->lo, b->total, price, &b->u[i].share, &d);
        b->sum += b->u[i].x * b->u[i].share;
        falls += b->u[i].x * d;
    }
    *slope = falls / b->sum;
    return log(b->sum / b->total);
}

/* What is left to rounding goes to all in proportion to what they have above the bound. */
static double settle(double sum, double total, double floor_sum)
{
    return sum > floor_sum ? (total - floor_sum) / (sum - floor_sum) : 1;
}

double sl_split_bandwidth(struct sl_split_bandwidth *u, uint32_t n, double total, double lo, double *price)
{
    struct bandwidth ctx = {u, n, lo, total, 0};
    double weight = 0, guess = *price > 0 ? log(*price) : 0, cost = 0;
    bool guessed = *price > 0;

    for (uint32_t i = 0; i < n; i++)
        weight += u[i].x;
    *price = 0;
    if (weight <= 0)
        return 0;
    for (uint32_t i = 0; i < n && !guessed; i++) { /* the prices at equal shares, averaged on logarithms */
        double x = u[i].a_hz * weight / total;
        guess += u[i].x / weight * log((u[i].c > 0 ? u[i].c : 1e-300) * rise(x) / (u[i].a_hz * u[i].a_hz));
    }
    for (uint32_t i = 0; i < n; i++)
        u[i].share = u[i].share > 0 ? u[i].share : total / weight;
    double found = sl_root_falling(bandwidth_excess, &ctx, guess, 0.5, sum_enough);
    double r = settle(ctx.sum, total, weight * lo);
    *price = exp(found);
    for (uint32_t i = 0; i < n; i++) {
        u[i].share = lo + (u[i].share - lo) * r;
        cost += u[i].c > 0 ? u[i].x * u[i].c / u[i].a_hz * phi(u[i].a_hz / u[i].share) : 0;
    }
    return cost;
}

/* ---- clock ---- */

/* f > 0 with -t/f^2 + 2 e f = slope. In h = 1/f a cubic, h^3 - P h - Q = 0, P = -slope/t, Q = 2e/t, convex
 * above its root: Newton's steps from above fall onto it, with one division each. guess: f, or 0. */
static double invert_slope(double t, double e, double slope, double guess)
{
    if (t <= 0)
        return slope > 0 && e > 0 ? slope / (2 * e) : slope > 0 ? INFINITY : 0;
    if (e <= 0)
        return slope < 0 ? sqrt(t / -slope) : INFINITY;
    double p = -slope / t, q = 2 * e / t, h = guess > 0 ? 1 / guess : 0;

    /* No guess, or one below the root: no step from there is sure to come back. */
    if (!(h > 0 && h * h > p)) {
        double r = p > 0 ? sqrt(p) : 0; /* (r + c)^3 - p (r + c) >= 2 p c, and >= c^3 */
        h = p > 0 ? r + (q < 4 * p * r ? q / (2 * p) : cbrt(q)) : q * q < -p * p * p ? q / -p : cbrt(q);
    }
    for (int i = 0; i < INVERT_STEPS; i++) {
        double next = (2 * h * h * h + q) / (3 * h * h - p);
        if (fabs(h - next) <= newton_enough * h)
            return 1 / next;
        h = next;
    }
    return 1 / h;
}

double sl_split_clock_at(double w, double lo, double hi, double t, double e, double price, double *share)
{
    double f = w > 0 ? invert_slope(t, e, -price / w, 0) : lo;

    f = f > lo ? f < hi ? f : hi : lo;
    *share = f;
    return (w > 0 ? w * (t / f + e * f * f) : 0) + price * f;
}

struct clock {
    struct sl_split_clock *u;
    uint32_t n;
    double lo, total, t, e, sum;
};

/* Without e, shares go with price^(-1/2): the inverse square of their sum is linear. */
static double clock_excess(void *ctx, double price, double *slope)
{
    struct clock *c = ctx;
    double falls = 0, ratio;

    c->sum = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        struct sl_split_clock *u = &c->u[i];
        double f = u->w > 0 ? invert_slope(c->t, c->e, -price / u->w, u->share) : c->lo;
        if (f > c->lo && f < c->total)
            falls -= u->x / (u->w * (2 * c->t / (f * f * f) + 2 * c->e));
        u->share = f > c->lo ? f < c->total ? f : c->total : c->lo;
        c->sum += u->x * u->share;
    }
    ratio = c->total / c->sum;
    *slope = 2 * ratio * ratio / c->sum * falls;
    return 1 - ratio * ratio;
}

double sl_split_clock(
    struct sl_split_clock *u, uint32_t n, double total, double lo, double t, double e, double *price)
{
    double weight = 0, busy = 0, w = 0, cost = 0;

    *price = 0;
    for (uint32_t i = 0; i < n; i++) {
        weight += u[i].x;
        busy += u[i].w > 0 ? u[i].x : 0;
        w += u[i].x * u[i].w;
    }
    if (weight <= 0)
        return 0;
    if (busy <= 0) { /* nobody computes there: the clock is split evenly, and costs nothing */
        for (uint32_t i = 0; i < n; i++)
            u[i].share = total / weight;
        return 0;
    }
    /* In units in which shares, cycles and prices are near one. */
    double f0 = total / weight, w0 = w / busy, g0 = t / (f0 * f0) + 2 * e * f0;
    struct clock ctx = {u, n, lo / f0, weight, t / (f0 * f0) / g0, e * f0 / g0, 0};
    for (uint32_t i = 0; i < n; i++) {
        u[i].w /= w0;
        u[i].share = 0;
    }
    double found = sl_root_falling(clock_excess, &ctx, ctx.t - 2 * ctx.e, 0.5, sum_enough);
    double r = settle(ctx.sum, weight, weight * ctx.lo);
    for (uint32_t i = 0; i < n; i++) {
        u[i].share = (ctx.lo + (u[i].share - ctx.lo) * r) * f0;
        u[i].w *= w0;
        if (u[i].w > 0)
            cost += u[i].x * u[i].w * (t / u[i].share + e * u[i].share * u[i].share);
    }
    *price = found * g0 * w0;
    return cost;
}

/* ---- the clock under the paper's auxiliary ---- */

struct squared {
    struct sl_split_clock *u;
    const double *q;
    uint32_t n;
    double lo, total, t, e, unit, sum; /* unit: of the price */
};

/* f with d/df [w^2 (t/f + e f^2)^2 / (4 q)] = -price, from the guess in *share; the left side rises with f.
 * Returns df/dprice, 0 at a bound. */
static double invert_squared(const struct squared *c, double k, double price, double *share)
{
    double lo = c->lo, hi = c->total, f = *share > lo && *share < hi ? *share : 0.5 * (lo + hi), rise_f = 0;

    for (int i = 0; i < INVERT_STEPS && hi - lo > 1e-15 * hi; i++) {
        double v = c->t / f + c->e * f * f, d = 2 * c->e * f - c->t / (f * f), error = k * v * d + price;
        if (error < 0)
            lo = f;
        else
            hi = f;
        rise_f = k * (d * d + v * (2 * c->e + 2 * c->t / (f * f * f)));
        double next = f - error / rise_f;
        if (fabs(next - f) <= newton_enough * f) {
            f = fmin(fmax(next, c->lo), c->total);
            break;
        }
        f = next > lo && next < hi ? next : hi > 4 * lo ? sqrt(lo * hi) : 0.5 * (lo + hi);
    }
    *share = f;
    return f > c->lo * (1 + 1e-12) && f < c->total * (1 - 1e-12) ? -1 / rise_f : 0;
}

static double squared_excess(void *ctx, double u, double *slope)
{
    struct squared *c = ctx;
    double price = c->unit * u, falls = 0, ratio;

    c->sum = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        if (c->u[i].w > 0)
            falls +=
                c->u[i].x * invert_squared(c, c->u[i].w * c->u[i].w / (2 * c->q[i]), price, &c->u[i].share);
        else
            c->u[i].share = c->lo;
        c->sum += c->u[i].x * c->u[i].share;
    }
    ratio = c->total / c->sum;
    *slope = 3 * ratio * ratio * ratio / c->sum * falls * c->unit;
    return 1 - ratio * ratio * ratio;
}

void sl_split_clock_squared(
    struct sl_split_clock *u, const double *q, uint32_t n, double total, double lo, double t, double e)
{
    double weight = 0, unit = 0;

    for (uint32_t i = 0; i < n; i++)
        weight += u[i].x;
    if (weight <= 0)
        return;
    double f0 = total / weight, low = fmax(lo, 1e-9 * f0);
    for (uint32_t i = 0; i < n; i++) {
        double b = u[i].w * (t / f0 + e * f0 * f0);
        unit += u[i].x * b * b / (2 * q[i]) / f0;
    }
    struct squared ctx = {u, q, n, low, total, t, e, unit > 0 ? unit / weight : 1, 0};
    for (uint32_t i = 0; i < n; i++)
        u[i].share = f0;
    sl_root_falling(squared_excess, &ctx, t > 2 * e * f0 * f0 * f0 ? 1 : 0, 0.5, sum_enough);
    double r = settle(ctx.sum, total, weight * low);
    for (uint32_t i = 0; i < n; i++)
        u[i].share = low + (u[i].share - low) * r;
}
