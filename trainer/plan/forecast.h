/* Predicted against measured (rules P9): a device's steps are predicted from the beats so far, and when some
 * have gone by, what they took stands beside it. No arithmetic is shared between the two: the measurement is
 * the plain difference of the device's sums. Plain data, no allocation. */
#pragma once

#include "trainer/plan/profile.h"

enum { SL_FORECAST_STEPS = 8 }; /* in a window, at least: its ends are not quite those of steps */

struct sl_forecast {
    struct sl_profile_sums from; /* where the window began */
    double seen_s;               /* the newest anchor looked at */
    double step_s, energy_j;     /* predicted then */
    uint32_t cut;
    bool open, changed;
};

struct sl_forecast_result {
    uint32_t cut;
    bool changed; /* the cut was new when the prediction was made: of steps at other cuts alone */
    uint64_t steps;
    double predicted_s, measured_s; /* a step without the edge's part */
    double predicted_j, measured_j; /* from step to step */
    double period_s;                /* measured */
};

/* After each beat that the profile was given. True: a window is over, and its result is filled in. */
bool sl_forecast_beat(struct sl_forecast *, const struct sl_plan_profile *, const struct sl_profile_work *,
    struct sl_forecast_result *);
