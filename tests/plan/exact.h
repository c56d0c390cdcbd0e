/* The exact optimum of a small instance under the printed objective (rules P4), sharing no code with the
 * planner: the formulas of arXiv 2409.20247 written out again; a table of every server and subset of users,
 * each the least over all cuts of an inner optimum found by bisection on the first user's share; then dynamic
 * programming over subsets. */
#pragma once

#include "trainer/plan/scenario.h"

struct exact {
    double objective;
    uint32_t alpha[8], server[8];
};
/* At most 8 users. */
void exact_optimum(const struct sl_plan_scenario *, struct exact *);
/* One server, given users and cuts: bandwidth and clock split by nested bisection. */
double exact_server(const struct sl_plan_scenario *, uint32_t server, const uint32_t *user,
    const uint32_t *alpha, uint32_t n);
