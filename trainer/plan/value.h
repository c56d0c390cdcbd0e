/* What the search over associations and cuts asks an objective: the value of one server with given users, and
 * what a user would cost at a server's prices. Two objectives answer (printed.h, physical.h).
 *
 * Prices are the multipliers of the server's sums. With them L(user) = min over the user's own variables of
 * its cost plus price times share is a bound both ways: adding a user costs at least L at the prices before,
 * removing one saves at most L. So a move whose L do not promise a gain is none (weak duality), and the sum
 * of L over users, less price times capacity, bounds the optimum from below. */
#pragma once

#include "trainer/plan/plan.h"

struct sl_plan_prices {
    double bandwidth, clock; /* cost saved by a further Hz of each */
};
struct sl_plan_member {
    uint32_t user;
    double alpha, x;                               /* x: how much of it is there, 0..1 */
    double power_w, bandwidth_hz, f_hz, f_edge_hz; /* out */
};
struct sl_plan_value {
    void *ctx;
    const struct sl_plan_scenario *scenario;
    /* INFINITY: this server cannot serve these users together. A value that is at least `enough` may be told
     * as any such one: the search for it ends there, and prices and shares are of no use. */
    double (*server)(void *ctx, uint32_t server, struct sl_plan_member *, uint32_t n, double enough,
        struct sl_plan_prices *);
    double (*user)(void *ctx, uint32_t server, uint32_t user, double alpha, const struct sl_plan_prices *);
    /* The least of user() over whole cuts from..to, and the cut. Of `enough` or more: likewise. */
    double (*best)(void *ctx, uint32_t server, uint32_t user, uint32_t from, uint32_t to,
        const struct sl_plan_prices *, double enough, uint32_t *alpha);
    void (*layers)(void *ctx, uint32_t user, uint32_t *least, uint32_t *most); /* the cuts that are allowed */
};
