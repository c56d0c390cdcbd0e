/* The exact optimum of a small instance under the physical objective (rules P2, P4), sharing no code with the
 * planner but the objective's scales: each association and each choice of cuts is a geometric program, solved
 * as one by a log-barrier method with exact second derivatives over all users' variables and the time bound
 * together, where the planner splits it up by prices. Least power is not among its constraints; instances
 * have one that does not bind. */
#pragma once

#include "trainer/plan/scenario.h"

enum { PHYSICAL_USERS_MAX = 5 };
struct physical_exact {
    double objective;
    uint32_t alpha[PHYSICAL_USERS_MAX], server[PHYSICAL_USERS_MAX];
    double power_w[PHYSICAL_USERS_MAX], bandwidth_hz[PHYSICAL_USERS_MAX], f_hz[PHYSICAL_USERS_MAX],
        f_edge_hz[PHYSICAL_USERS_MAX];
};
/* out->alpha and out->server are given. Returns the least objective, which is out->objective too; INFINITY
 * where no plan is feasible, or where it is surely above give_up. */
double physical_exact_inner(const struct sl_plan_scenario *, double give_up, struct physical_exact *out);
/* Over all associations and cuts. */
void physical_exact_optimum(const struct sl_plan_scenario *, struct physical_exact *out);

/* Device to edge layer cost log-uniform in [0.3, 3] at equal shares; every third user's link is measured. */
struct sl_plan_scenario *physical_instance(uint64_t seed, uint32_t users, uint32_t servers, uint32_t layers);
