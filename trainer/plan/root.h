/* The root of a falling function of one variable: Newton's steps within a bracket that only shrinks. */
#pragma once

#include <stdbool.h>

/* f(ctx, u, &slope) falls in u, or nearly stands still where bounds hold. Ends where |f| < tolerance or the
 * bracket is as short as doubles allow. Where f has one sign everywhere the answer lies far out on that side:
 * the caller looks at f there. step: of the search for a bracket where Newton's is of no use. */
double sl_root_falling(
    double (*f)(void *ctx, double u, double *slope), void *ctx, double guess, double step, double tolerance);

/* Slopes for functions that do not know their own: from the point before; `otherwise` (below 0) at first. */
struct sl_secant {
    double u, f;
    bool any;
};
double sl_secant_slope(struct sl_secant *, double u, double f, double otherwise);
