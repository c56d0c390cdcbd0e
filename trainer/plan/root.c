#include "trainer/plan/root.h"

#include <math.h>

enum { STEPS_MAX = 200, DOUBLINGS_MAX = 60, BISECT_EVERY = 8 };

double sl_root_falling(double (*f)(void *, double), void *ctx, double guess, double step, double tolerance)
{
    double lo = guess, hi = guess, flo = f(ctx, guess), fhi = flo;

    if (fabs(flo) < tolerance)
        return guess;
    for (int i = 0; i < DOUBLINGS_MAX && flo > 0 && fhi > 0; i++, step *= 2) {
        lo = hi, flo = fhi;
        hi += step;
        fhi = f(ctx, hi);
    }
    for (int i = 0; i < DOUBLINGS_MAX && flo < 0 && fhi < 0; i++, step *= 2) {
        hi = lo, fhi = flo;
        lo -= step;
        flo = f(ctx, lo);
    }
    int side = 0;
    for (int i = 1; i < STEPS_MAX && hi - lo > 4e-16 * (fabs(lo) + fabs(hi)); i++) {
        double mid = flo > fhi ? (lo * fhi - hi * flo) / (fhi - flo) : lo;
        if (!(mid > lo && mid < hi) || i % BISECT_EVERY == 0)
            mid = 0.5 * (lo + hi);
        double v = f(ctx, mid);
        if (fabs(v) < tolerance)
            return mid;
        if (v > 0) {
            lo = mid, flo = v;
            fhi = side == 1 ? fhi / 2 : fhi;
            side = 1;
        } else {
            hi = mid, fhi = v;
            flo = side == -1 ? flo / 2 : flo;
            side = -1;
        }
    }
    return 0.5 * (lo + hi);
}
