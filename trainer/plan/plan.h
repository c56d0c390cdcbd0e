/* A plan, and what it costs: the published objective (rules P3) and the physical one (rules P2). */
#pragma once

#include "trainer/plan/scenario.h"

enum { SL_PLAN_NOBODY = UINT32_MAX }; /* of a user's server: not planned */

struct sl_plan_choice {
    uint32_t alpha;  /* layers on the device */
    uint32_t server; /* or SL_PLAN_NOBODY */
    double power_w, bandwidth_hz, f_hz, f_edge_hz;
};
struct sl_plan {
    uint32_t n;
    struct sl_plan_choice *user; /* [n] */
};

struct sl_plan_cost {
    double delay_s, energy_j; /* printed: device, uplink energy and edge; no uplink delay, as published */
    double stability; /* 2 L^2 / (k (1 - alpha/layers)); INFINITY where all layers are on the device */
};
struct sl_plan_score {
    double objective, delay_s, energy_j,
        stability;    /* sums over planned users; physical: delay_s is the slowest's */
    double violation; /* the greatest relative one of any constraint; 0: feasible */
    uint32_t planned;
};

/* What a planned user's choice costs. Physical: energy_j without idle_w's, which depends on the others. */
void sl_plan_user_cost(const struct sl_plan_scenario *, enum sl_plan_objective, uint32_t user,
    const struct sl_plan_choice *, struct sl_plan_cost *);
/* Adds up a plan. cost: [n], or NULL; here energy_j has idle_w times the slowest's step in it, asynchronous
 * the user's own. The violation counts cut, power, clocks, shares, slots, and of the physical objective
 * deadline and energy. */
void sl_plan_score(const struct sl_plan_scenario *, enum sl_plan_objective, const struct sl_plan *,
    struct sl_plan_cost *cost, struct sl_plan_score *);

/* Scales of the physical objective (rules P2): middle cut, equal shares, best server, full clock and power.
 */
struct sl_plan_scales {
    double tau0_s, energy0_j, stability0;
};
void sl_plan_scales(const struct sl_plan_scenario *, struct sl_plan_scales *);
/* What a second costs for what the user draws all the time (idle_w). */
double sl_plan_idle_weight(const struct sl_plan_scenario *, const struct sl_plan_scales *, uint32_t user);
/* phi of rules P2: how dear a joule of this user is. */
double sl_plan_battery_weight(const struct sl_plan_scenario *, uint32_t user);
