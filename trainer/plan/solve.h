/* Solves a scenario: the proposed method, the published paper's comparisons, and what can be said of the
 * optimum. */
#pragma once

#include "trainer/plan/plan.h"

enum sl_plan_method {
    SL_PLAN_PROPOSED,    /* both blocks in turn, from several starts; cuts rounded; moves and swaps */
    SL_PLAN_ALTERNATING, /* cuts, shares, association in turn from a random start, each with the others held
                          */
    SL_PLAN_ALPHA_ONLY,  /* cuts alone: random association, equal shares, full clocks and power */
    SL_PLAN_RESOURCES_ONLY, /* shares, clocks and power alone: random association, middle cut */
    SL_PLAN_GREEDY,         /* association by rate; the rest as proposed */
    SL_PLAN_RANDOM,         /* association at random; the rest as proposed */
    SL_PLAN_EDGE_ONLY,      /* the least cut for all (rules P3); the rest as proposed */
    SL_PLAN_LOCAL_ONLY, /* the greatest cut for all; printed: all layers, compares on delay and energy only */
    SL_PLAN_METHOD_COUNT
};
const char *sl_plan_method_name(enum sl_plan_method); /* "proposed", "alpha_only", ... */

enum { SL_PLAN_TRACE_MAX = 256 };
struct sl_plan_report {
    struct sl_plan_score score;
    uint32_t iterations; /* of the best start: steps of both blocks */
    uint32_t moves;      /* of its search */
    uint32_t starts;
    double trace[SL_PLAN_TRACE_MAX]; /* the objective after each iteration of the best start, cuts relaxed */
    double kkt_residual; /* relative, of the relaxed cuts and shares, before rounding; NAN: not relaxed */
    double lower_bound;  /* by weak duality; NAN: none */
    uint32_t unplanned;
};

/* plan->user: [n_users], filled in; users that cannot be planned have server SL_PLAN_NOBODY (why:
 * sl_plan_user_fault, or no server has room for them). seed: of the random starts. -EINVAL: the scenario has
 * a fault (sl_plan_scenario_fault), -ERANGE: no plan's cost is a finite number, -ENOMEM. */
int sl_plan_solve(const struct sl_plan_scenario *, enum sl_plan_objective, enum sl_plan_method, uint64_t seed,
    struct sl_plan *, struct sl_plan_report *);
/* Why a user is not planned, as one sentence. */
const char *sl_plan_why_not(const struct sl_plan_scenario *, enum sl_plan_objective, uint32_t user);
