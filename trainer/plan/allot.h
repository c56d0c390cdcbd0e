/* One user of the physical objective (rules P2) by itself: how its step's time is best divided among its
 * chip, its uplink, its downlink and its share of the edge, when a Hz of the server's bandwidth and of its
 * clock have a price.
 *
 *   min  w E + t T + lambda_b b + lambda_g g   subject to   T <= bound, E <= energy bound
 *   T = c / f + S / r(b, p) + D / b + fixed + c_e / g,   E = kappa f^2 c + p S / r + rx_w D / b
 *
 * In logarithms of f, b, g and of the SNR every term is convex. With a multiplier mu on T each variable is
 * alone: f = (mu / 2 w kappa)^(1/3), g = (mu c_e / lambda_g)^(1/2), and the uplink (uplink.h). mu is the root
 * of T(mu) = bound, which falls; where T cannot be met mu stops at mu_max, so that being late costs mu_max a
 * second: an exact penalty as long as mu_max is above the true multiplier. The energy bound raises w
 * likewise. Pure; any thread. */
#pragma once

#include "trainer/plan/value.h"

struct sl_allot_user {
    double device_cycles, kappa, f_min_hz, f_max_hz;
    double edge_cycles, g_min_hz, g_max_hz;
    double up_bit, p_min_w, p_max_w;
    double a_hz_per_w;      /* gain over noise density; unused where the uplink was measured */
    double up_bps_per_hz;   /* above 0: measured */
    double down_bit_per_hz; /* S_dn over the downlink's spectral efficiency; 0: its time is in fixed_s */
    double rx_w, b_min_hz, b_max_hz;
    double fixed_s, fixed_j; /* round trip, wake-up, a downlink that is not shared */
    double joule_weight;     /* w */
    double second_weight;    /* t */
    double time_max_s;       /* INFINITY: none */
    double mu_max;
    double deadline_s, deadline_mu_max; /* a later, harder bound; INFINITY: none */
    double energy_max_j;                /* INFINITY: none */
    double joule_weight_max;
};
struct sl_allot {
    double f_hz, power_w, bandwidth_hz, f_edge_hz;
    double time_s, energy_j;
    double mu;           /* in: a guess, 0: none; out: the multiplier of time, `second_weight` included */
    double joule_weight; /* in: a guess, 0: none; out: w, or what the energy bound has made of it */
    /* out: how bandwidth_hz [0] and f_edge_hz [1] answer to the logarithms of the prices of both, bounds
     * kept. */
    double slope_hz[2][2];
};
/* Returns the minimum, prices and penalties included; of `enough` or more any such value, and then `out` is
 * of no use but as a guess. */
double sl_allot(
    const struct sl_allot_user *, const struct sl_plan_prices *, double enough, struct sl_allot *out);
/* What sl_allot returns at least, by weak duality with out->mu as the multiplier of the bound on time: a
 * hundredth of its time. In sl_allot_user's cycles, bits and fixed time and energy it is concave. out: a
 * guess, too; scratch. */
double sl_allot_at_least(const struct sl_allot_user *, const struct sl_plan_prices *, struct sl_allot *out);
