#include "device-sim/device/bounds.h"

#include <math.h>
#include <stddef.h>

/* What any phone could do, and a little beyond. An edge that wants a phone slower than that wants it to stand
 * still: its link would time out in the middle of a message. */
static const double clock_least_hz = 1e6, clock_most_hz = 1e11;
static const double power_least_w = 1e-9, power_most_w = 1e3;
static const double rate_least_bps = 1e4, rate_most_bps = 1e12;

static double take(double v, double least, double most, const char *name, const char **left_out)
{
    if (v == 0) /* the field is not there */
        return 0;
    if (isfinite(v) && v >= least && v <= most)
        return v;
    if (!*left_out)
        *left_out = name;
    return 0;
}

const char *sl_phone_bounds_of(const Sluice__Plan *plan, struct sl_phone_bounds *b)
{
    const char *left_out = NULL;

    b->clock_hz = take(plan->clock_hz, clock_least_hz, clock_most_hz, "clock_hz", &left_out);
    b->power_w = take(plan->power_w, power_least_w, power_most_w, "power_w", &left_out);
    b->rate_up_bps = take(plan->rate_up_bps, rate_least_bps, rate_most_bps, "rate_up_bps", &left_out);
    return left_out;
}
