#include "trainer/plan/split.h"

#include "trainer/plan/root.h"

#include <math.h>

enum { INVERT_STEPS = 60 };
static const double tight = 1e-14;

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

/* x with rise(x) = g: rise is close to x^2, so Newton's steps on logarithms are short. */
static double invert_rise(double g)
{
    double u = 0.5 * log(2 * g);

    for (int i = 0; i < INVERT_STEPS; i++) {
        double x = exp(u), l = log1p(x), slope = 2, error = log(rise(x) / g);
        if (x >= 1e-4) {
            double d = l - x / (1 + x);
            slope = 2 + x * x / ((1 + x) * (1 + x) * d) - 2 * x / ((1 + x) * l);
        }
        u -= error / slope;
        if (fabs(error) < tight)
            break;
    }
    return exp(u);
}

double sl_split_bandwidth_at(double a, double c, double lo, double hi, double price, double *share)
{
    double b = c <= 0 ? lo : price > 0 ? a / invert_rise(price * a * a / c) : hi;

    b = b > lo ? b < hi ? b : hi : lo;
    *share = b;
    return (c > 0 ? c / a * phi(a / b) : 0) + price * b;
}

/* ---- bandwidth ---- */

/* Each *_excess below is the sum of shares relative to what there is, less one, at a price that rises with u;
 * it leaves the shares in place. */
struct bandwidth {
    struct sl_split_bandwidth *u;
    uint32_t n;
    double lo, total;
};

static double bandwidth_excess(void *ctx, double u)
{
    struct bandwidth *b = ctx;
    double sum = 0, price = exp(u);

    for (uint32_t i = 0; i < b->n; i++) {
        sl_split_bandwidth_at(b->u[i].a_hz, b->u[i].c, b->lo, b->total, price, &b->u[i].share);
        sum += b->u[i].x * b->u[i].share;
    }
    return sum / b->total - 1;
}

/* What is left to rounding goes to all in proportion to what they have above the bound. */
static double settle(double sum, double total, double floor_sum)
{
    return sum > floor_sum ? (total - floor_sum) / (sum - floor_sum) : 1;
}

double sl_split_bandwidth(struct sl_split_bandwidth *u, uint32_t n, double total, double lo, double *price)
{
    struct bandwidth ctx = {u, n, lo, total};
    double weight = 0, guess = 0, cost = 0;

    for (uint32_t i = 0; i < n; i++)
        weight += u[i].x;
    *price = 0;
    if (weight <= 0)
        return 0;
    for (uint32_t i = 0; i < n; i++) { /* the prices at equal shares, averaged on logarithms */
        double x = u[i].a_hz * weight / total;
        guess += u[i].x * log((u[i].c > 0 ? u[i].c : 1e-300) * rise(x) / (u[i].a_hz * u[i].a_hz));
    }
    double found = sl_root_falling(bandwidth_excess, &ctx, guess / weight, 0.5, tight);
    double r = settle((1 + bandwidth_excess(&ctx, found)) * total, total, weight * lo);
    *price = exp(found);
    for (uint32_t i = 0; i < n; i++) {
        u[i].share = lo + (u[i].share - lo) * r;
        cost += u[i].c > 0 ? u[i].x * u[i].c / u[i].a_hz * phi(u[i].a_hz / u[i].share) : 0;
    }
    return cost;
}

/* ---- clock ---- */

/* f > 0 with -t/f^2 + 2 e f = slope; the left side rises with f. */
static double invert_slope(double t, double e, double slope)
{
    if (t <= 0)
        return slope > 0 && e > 0 ? slope / (2 * e) : slope > 0 ? INFINITY : 0;
    double f = slope < 0 ? sqrt(t / -slope) : e > 0 ? fmax(cbrt(t / (2 * e)), slope / (2 * e)) : INFINITY;

    if (e <= 0 || !isfinite(f))
        return f;
    for (int i = 0; i < INVERT_STEPS; i++) {
        double error = -t / (f * f) + 2 * e * f - slope, d = 2 * t / (f * f * f) + 2 * e,
               next = f - error / d;
        if (!(next > f / 8))
            next = f / 8;
        if (fabs(next - f) <= 1e-15 * f)
            return next;
        f = next;
    }
    return f;
}

double sl_split_clock_at(double w, double lo, double hi, double t, double e, double price, double *share)
{
    double f = w > 0 ? invert_slope(t, e, -price / w) : lo;

    f = f > lo ? f < hi ? f : hi : lo;
    *share = f;
    return (w > 0 ? w * (t / f + e * f * f) : 0) + price * f;
}

struct clock {
    struct sl_split_clock *u;
    uint32_t n;
    double lo, total, t, e;
};

static double clock_excess(void *ctx, double u)
{
    struct clock *c = ctx;
    double sum = 0, price = sinh(u); /* of either sign */

    for (uint32_t i = 0; i < c->n; i++) {
        if (c->u[i].w > 0)
            sl_split_clock_at(c->u[i].w, c->lo, c->total, c->t, c->e, price, &c->u[i].share);
        else
            c->u[i].share = c->lo;
        sum += c->u[i].x * c->u[i].share;
    }
    return sum / c->total - 1;
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
    struct clock ctx = {u, n, lo / f0, weight, t / (f0 * f0) / g0, e * f0 / g0};
    for (uint32_t i = 0; i < n; i++)
        u[i].w /= w0;
    double guess = asinh(ctx.t - 2 * ctx.e);
    double found = sl_root_falling(clock_excess, &ctx, guess, 0.5, tight);
    double r = settle((1 + clock_excess(&ctx, found)) * weight, weight, weight * ctx.lo);
    for (uint32_t i = 0; i < n; i++) {
        u[i].share = (ctx.lo + (u[i].share - ctx.lo) * r) * f0;
        u[i].w *= w0;
        if (u[i].w > 0)
            cost += u[i].x * u[i].w * (t / u[i].share + e * u[i].share * u[i].share);
    }
    *price = sinh(found) * g0 * w0;
    return cost;
}

/* ---- the clock under the paper's auxiliary ---- */

struct squared {
    struct sl_split_clock *u;
    const double *q;
    uint32_t n;
    double lo, total, t, e, unit; /* unit: of the price */
};

/* f with d/df [w^2 (t/f + e f^2)^2 / (4 q)] = -price: the left side rises with f. */
static double invert_squared(double w, double q, double lo, double hi, double t, double e, double price)
{
    double k = w * w / (2 * q);

    for (int i = 0; i < INVERT_STEPS && hi - lo > 1e-15 * hi; i++) {
        double f = i < 2 || hi > 4 * lo ? sqrt(lo * hi) : 0.5 * (lo + hi);
        if (k * (t / f + e * f * f) * (2 * e * f - t / (f * f)) + price < 0)
            lo = f;
        else
            hi = f;
    }
    return 0.5 * (lo + hi);
}

static double squared_excess(void *ctx, double u)
{
    struct squared *c = ctx;
    double sum = 0, price = c->unit * sinh(u);

    for (uint32_t i = 0; i < c->n; i++) {
        c->u[i].share =
            c->u[i].w > 0 ? invert_squared(c->u[i].w, c->q[i], c->lo, c->total, c->t, c->e, price) : c->lo;
        sum += c->u[i].x * c->u[i].share;
    }
    return sum / c->total - 1;
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
    struct squared ctx = {u, q, n, low, total, t, e, unit > 0 ? unit / weight : 1};
    double found = sl_root_falling(squared_excess, &ctx, 0, 0.5, tight);
    double r = settle((1 + squared_excess(&ctx, found)) * total, total, weight * low);
    for (uint32_t i = 0; i < n; i++)
        u[i].share = low + (u[i].share - low) * r;
}
