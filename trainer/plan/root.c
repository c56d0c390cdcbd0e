#include "trainer/plan/root.h"

#include <math.h>

enum { STEPS_MAX = 120, BISECT_EVERY = 10 };

double sl_root_falling(
    double (*f)(void *, double, double *), void *ctx, double guess, double step, double tolerance)
{
    double lo = -INFINITY, hi = INFINITY, u = guess;

    for (int i = 1; i < STEPS_MAX; i++) {
        double slope, v = f(ctx, u, &slope), next;
        if (fabs(v) < tolerance)
            return u;
        if (v > 0)
            lo = u;
        else
            hi = u;
        next = slope < 0 ? u - v / slope : NAN;
        if (isfinite(lo) && isfinite(hi)) {
            if (hi - lo <= 4e-16 * (fabs(lo) + fabs(hi)))
                break;
            if (!(next > lo && next < hi) || i % BISECT_EVERY == 0)
                next = 0.5 * (lo + hi);
        } else if (!(fabs(next - u) < 16 * step) || i % BISECT_EVERY == 0) {
            next = v > 0 ? u + step : u - step;
            step *= 2;
        }
        u = next;
    }
    return u;
}

double sl_secant_slope(struct sl_secant *s, double u, double f, double otherwise)
{
    double slope = s->any && u != s->u ? (f - s->f) / (u - s->u) : otherwise;

    *s = (struct sl_secant){u, f, true};
    return slope < 0 ? slope : otherwise;
}
