/* The root of a falling function of one variable: bracketed from a guess by doubling steps, then false
 * position (Illinois) with a bisection now and then. */
#pragma once

/* f(ctx, u) falls in u. Ends where |f| < tolerance or the bracket is as short as doubles allow. Where f has
 * one sign everywhere the answer lies far out on that side: the caller looks at f there. */
double sl_root_falling(
    double (*f)(void *ctx, double u), void *ctx, double guess, double step, double tolerance);
