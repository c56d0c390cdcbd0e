#include "device-sim/body/thermal.h"

#include <math.h>

double sl_thermal_settled(const struct sl_thermal *t, double power_w)
{
    return t->ambient_c + power_w * t->resistance_c_w;
}

double sl_thermal_after(const struct sl_thermal *t, double from_c, double power_w, double seconds)
{
    double settled = sl_thermal_settled(t, power_w);

    return settled + (from_c - settled) * exp(-seconds / (t->resistance_c_w * t->capacity_j_c));
}

uint32_t sl_thermal_step(
    const struct sl_thermal *t, uint32_t step, uint32_t last, double temperature_c, double power_w)
{
    if (temperature_c >= t->throttle_c && sl_thermal_settled(t, power_w) > temperature_c)
        return step ? step - 1 : 0;
    return temperature_c <= t->release_c && step < last ? step + 1 : step;
}

bool sl_thermal_quiet(
    const struct sl_thermal *t, uint32_t step, uint32_t last, double temperature_c, double power_w)
{
    double settled = sl_thermal_settled(t, power_w);
    bool rises = settled > temperature_c;

    /* The temperature moves from here to where it settles, and not beyond. */
    bool down = step > 0 && rises && settled >= t->throttle_c;
    bool up = step < last && (rises ? temperature_c : settled) <= t->release_c;
    return !down && !up;
}
