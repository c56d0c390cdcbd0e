/* A phone's clock: DVFS steps, what each computes and what each draws. Pure functions. */
#pragma once

#include <stdint.h>

enum { SL_CLOCK_STEPS_MAX = 16 };

/* Steps rise; the last is the full clock. Power is the whole chip's while it computes. */
struct sl_clock {
    uint32_t n_steps;
    double hz[SL_CLOCK_STEPS_MAX];
    double power_w[SL_CLOCK_STEPS_MAX];
    double flops; /* effective FLOP/s at the full clock */
};

/* kappa, W/Hz^3, so that kappa f^3 is that power (rules P6; the paper's power model). */
double sl_clock_kappa(double power_w, double hz);
/* Every step's power becomes kappa f^3. */
void sl_clock_cubic(struct sl_clock *, double kappa);
/* The highest step whose clock is not above hz; the lowest where all are; the last where hz is 0. */
uint32_t sl_clock_step_below(const struct sl_clock *, double hz);
/* Effective FLOP/s of a step: in proportion to its clock. */
double sl_clock_flops(const struct sl_clock *, uint32_t step);
