/* The physical objective (rules P2) as the search asks for it, at a given time bound tau on everybody's step:
 *
 *   w_e sum phi E / E0 + w_s sum beta / beta0,   T <= tau, deadlines, energy bounds, shares that add up
 *
 * (E without what a phone draws all the time, which tau alone decides: idle_w is part of tau's own weight.)
 *
 * For given cuts and association this is convex in the logarithms of clock, times and shares (a geometric
 * program: allot.h). With prices on the two sums of a server each user is alone; the prices are the root of
 * two sums, found by Newton's steps on their logarithms. sl_physical_tau then finds tau, the derivative being
 * tau's weight, w_t / tau0 + w_e sum phi idle_w / E0, less the users' multipliers. Asynchronous: no tau, and
 * what T costs is in the servers' values.
 */
#pragma once

#include "trainer/plan/value.h"

struct sl_physical;
struct sl_physical *sl_physical_create(const struct sl_plan_scenario *); /* NULL: out of memory */
void sl_physical_free(struct sl_physical *);
struct sl_plan_value sl_physical_value(struct sl_physical *);

/* INFINITY: no bound. */
void sl_physical_set_tau(struct sl_physical *, double tau_s);
double sl_physical_get_tau(const struct sl_physical *);
double sl_physical_tau_cost(const struct sl_physical *); /* tau times its weight */
/* The best tau for an association and cuts, which it sets, and the whole objective there (what of deadlines
 * and energy bounds cannot be met is paid for at a price above any gain). *residual: what is left of the
 * slope in tau, relative; NULL allowed. */
double sl_physical_tau(struct sl_physical *, const uint32_t *server, const uint32_t *alpha, double *residual);
/* Each user's choice, to rounding, and what sl_physical_tau returns. prices: [n_servers], mu: [n_users]. */
double sl_physical_choose(struct sl_physical *, const uint32_t *server, const uint32_t *alpha,
    struct sl_plan_choice *choice, struct sl_plan_prices *prices, double *mu);
/* Weak duality: for any prices and any multipliers of time that add up to at most tau's weight the users'
 * least costs less what the prices charge for all there is. take: [n_users], SL_PLAN_NOBODY: not planned. */
double sl_physical_lower_bound(
    struct sl_physical *, const uint32_t *take, const struct sl_plan_prices *, const double *mu);
/* A deadline or an energy bound that a user could not meet if it had the best server to itself; NULL: none.
 */
const char *sl_physical_user_fault(struct sl_physical *, uint32_t user);
