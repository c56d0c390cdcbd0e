/* The published objective (arXiv 2409.20247; papers.md A, rules P3) as the search asks for it. For given cuts
 * and association everything else has its optimum in closed form or by one multiplier (split.h): device clock
 * f_n = min(f_max, (w_t / (2 kappa w_e))^(1/3)), whatever the cut; power         p_min: the uplink's energy s
 * p / r rises with p, and its delay is not in the objective; bandwidth     one multiplier per server;   edge
 * clock   one multiplier per server. With the cut relaxed the products (layers - alpha) B(f_edge) are left:
 * the paper's auxiliaries q = B / (2 (layers - alpha)) make them sums (sl_printed_relax). */
#pragma once

#include "trainer/plan/value.h"

struct sl_printed;
/* NULL: out of memory. The scenario must outlive it. */
struct sl_printed *sl_printed_create(const struct sl_plan_scenario *);
void sl_printed_free(struct sl_printed *);
struct sl_plan_value sl_printed_value(struct sl_printed *);
double sl_printed_f_hz(const struct sl_plan_scenario *, uint32_t user);

/* Fractional programming on one server: cuts relaxed to [least, most], users given. Starts from the members'
 * alpha and shares them out anew; the objective never rises. trace: its value after each iteration, at most
 * cap; *residual: relative stationarity left (KKT). Returns the iterations. */
uint32_t sl_printed_relax(struct sl_printed *, uint32_t server, struct sl_plan_member *, uint32_t n,
    double *trace, uint32_t cap, double *residual);
