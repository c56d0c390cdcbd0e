/* Who is served by whom, the cuts being given: the published method's second block (arXiv 2409.20247; rules
 * P5). The association is relaxed to x in [0, 1] and kept integral by the exact penalty rho * sum x (1 - x).
 * The relaxed value of a server, sum x cost(share) under sum x share = capacity, is convex in x (a
 * perspective), and its slope in x is the user's cost at the server's prices; so the whole is a difference of
 * convex functions. CCCP linearises: an assignment problem (with slots: a transportation problem, solved
 * exactly), then a step towards its answer that does not raise the penalised surrogate; rho rises until x is
 * integral. */
#pragma once

#include "trainer/plan/value.h"

struct sl_associate_trace {
    double *value; /* the penalised surrogate after each step, of which each continuation begins anew */
    uint32_t *round;
    uint32_t n, cap;
};
/* server: [n_users], in (SL_PLAN_NOBODY: user takes no part) and out; alpha: [n_users]. start: whether
 * `server` is where to start (softened to 0.9), or only tells who takes part (then x = 1/M). -ENOMEM,
 * -ENOSPC: fewer places than users. */
int sl_associate(const struct sl_plan_value *, const double *alpha, bool start, uint32_t *server,
    struct sl_associate_trace *);

/* The assignment of least cost with each server's room: cost [n_users][n_servers], INFINITY where it cannot
 * serve. Users whose server is SL_PLAN_NOBODY on entry are left out. Successive shortest paths; exact.
 * Returns how many found no place (their server is then SL_PLAN_NOBODY; as few as can be), or -ENOMEM. */
int sl_assign(const struct sl_plan_scenario *, const double *cost, uint32_t *server);
