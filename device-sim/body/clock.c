#include "device-sim/body/clock.h"

double sl_clock_kappa(double power_w, double hz)
{
    return power_w / (hz * hz * hz);
}

void sl_clock_cubic(struct sl_clock *c, double kappa)
{
    for (uint32_t i = 0; i < c->n_steps; i++)
        c->power_w[i] = kappa * c->hz[i] * c->hz[i] * c->hz[i];
}

uint32_t sl_clock_step_below(const struct sl_clock *c, double hz)
{
    const double rounding = 1 + 1e-9; /* a clock that was written in GHz is itself again */
    uint32_t step = c->n_steps - 1;

    if (hz > 0)
        while (step > 0 && c->hz[step] > hz * rounding)
            step--;
    return step;
}

double sl_clock_flops(const struct sl_clock *c, uint32_t step)
{
    return c->flops * c->hz[step] / c->hz[c->n_steps - 1];
}
