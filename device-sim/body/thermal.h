/* A phone's heat: one node, C dT/dt = P - (T - ambient) / R, and a governor that steps the clock down when
 * it is too hot. Pure functions.
 *
 * The governor looks once a period and moves by one step, as Linux's step_wise does: down where the
 * temperature has reached `throttle_c` and still rises, up where it has fallen to `release_c`. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

static const uint64_t sl_thermal_period_ns = 1000000000; /* of the governor's looks */

struct sl_thermal {
    double ambient_c;
    double resistance_c_w; /* degrees per watt, chip to air */
    double capacity_j_c;   /* joules per degree; 0: there is no heat */
    double throttle_c, release_c;
};

static inline bool sl_thermal_on(const struct sl_thermal *t)
{
    return t->capacity_j_c > 0;
}

/* Where the temperature ends under that power, and where it is after so many seconds of it. */
double sl_thermal_settled(const struct sl_thermal *, double power_w);
double sl_thermal_after(const struct sl_thermal *, double from_c, double power_w, double seconds);

/* The step that the governor goes to from `step` of [0, last] at that temperature and power. */
uint32_t sl_thermal_step(
    const struct sl_thermal *, uint32_t step, uint32_t last, double temperature_c, double power_w);
/* Whether no look of the governor changes the step, however long that power lasts. */
bool sl_thermal_quiet(
    const struct sl_thermal *, uint32_t step, uint32_t last, double temperature_c, double power_w);
