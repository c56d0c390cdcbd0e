/* The physical objective (rules P2) as the search asks for it, at a given time bound tau on everybody's step:
 *
 *   w_e sum phi E / E0 + w_s sum beta / beta0,   T <= tau, deadlines, energy bounds, shares that add up
 *
 * For given cuts and association this is convex in the logarithms of clock, times and shares (a geometric
 * program: transmission costs t p = (N S ln2 / g) (e^x - 1)/x with x = S ln2 / (t b), a posynomial series).
 * With prices on the two sums of a server each user is alone, with one multiplier on its time; the prices are
 * the root of two sums. sl_physical_tau then finds tau, the derivative being w_t / tau0 less the users'
 * multipliers. */
#pragma once

#include "trainer/plan/value.h"

struct sl_physical;
struct sl_physical *sl_physical_create(const struct sl_plan_scenario *); /* NULL: out of memory */
void sl_physical_free(struct sl_physical *);
struct sl_plan_value sl_physical_value(struct sl_physical *);

void sl_physical_set_tau(struct sl_physical *, double tau_s);
double sl_physical_tau_cost(const struct sl_physical *); /* w_t tau / tau0 */
/* The best tau for an association and cuts, which it sets, and the whole objective there. INFINITY:
 * infeasible. */
double sl_physical_tau(struct sl_physical *, const uint32_t *server, const uint32_t *alpha);
