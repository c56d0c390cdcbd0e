#include "device-sim/life/daily.h"

#include "trainer/tensor/rng.h"

#include <math.h>

enum {
    AROUND_DAYS =
        4, /* a stretch begins at most so far from its day: eight sigma of the largest jitter are two */
    SEARCH_DAYS = 366,
    FIRST_DAY = -64, /* draws are numbered from it */
};
static const double day_h = 24, shortest_h = 0.05, longest_h = 36;

struct stretch {
    double from, to; /* from == to: it does not come that day */
};

/* Draws of a key: normal 0 is the phone's habit; a day has eight numbers of its own behind it. */
static struct stretch stretch_of(const struct sl_life_daily *d, uint64_t key, int64_t day)
{
    uint64_t at = 8 * (uint64_t)(day - FIRST_DAY + 1);
    double begin = day_h * (double)day + d->begin_h + d->spread_h * (double)sl_rng_normal(key, 0) +
                   d->jitter_h * (double)sl_rng_normal(key, at / 2);
    double hours = d->hours + d->jitter_h * (double)sl_rng_normal(key, at / 2 + 1);

    if (sl_rng_open(key, at + 4) >= d->probability)
        return (struct stretch){begin, begin};
    return (struct stretch){begin, begin + fmin(fmax(hours, shortest_h), longest_h)};
}

static int64_t day_of(const struct sl_life_daily *d, uint64_t key, double hour)
{
    return (int64_t)floor((hour - d->begin_h - d->spread_h * (double)sl_rng_normal(key, 0)) / day_h);
}

/* The end of the stretch that covers `hour`, or `hour` itself. */
static double covered_until(const struct sl_life_daily *d, uint64_t key, double hour)
{
    int64_t day = day_of(d, key, hour);
    double until = hour;

    for (int64_t i = day - AROUND_DAYS; i <= day + AROUND_DAYS; i++) {
        struct stretch s = stretch_of(d, key, i);
        if (s.from <= hour && hour < s.to)
            until = fmax(until, s.to);
    }
    return until;
}

bool sl_daily_on(const struct sl_life_daily *d, uint64_t key, double hour)
{
    return covered_until(d, key, hour) > hour;
}

static double next_end(const struct sl_life_daily *d, uint64_t key, double hour)
{
    for (int i = 0; i < SEARCH_DAYS; i++) {
        double until = covered_until(d, key, hour);
        if (until <= hour)
            return hour;
        hour = until;
    }
    return HUGE_VAL;
}

static double next_begin(const struct sl_life_daily *d, uint64_t key, double hour)
{
    int64_t day = day_of(d, key, hour);
    double found = HUGE_VAL;

    for (int64_t i = day - AROUND_DAYS; i < day + SEARCH_DAYS; i++) {
        struct stretch s = stretch_of(d, key, i);
        if (s.from < s.to && s.from > hour)
            found = fmin(found, s.from);
        if (found < HUGE_VAL && i > day_of(d, key, found) + AROUND_DAYS)
            break;
    }
    return found;
}

double sl_daily_change(const struct sl_life_daily *d, uint64_t key, bool on, double hour)
{
    return on ? next_end(d, key, hour) : next_begin(d, key, hour);
}
