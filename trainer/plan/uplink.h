/* The uplink of one user of the physical objective at given multipliers (allot.h): the bandwidth and the
 * power at which
 *
 *   (w p + mu) S / r(b, p) + (mu + w rx_w) D / b + lambda_b b,   r = b log2(1 + a p / b)
 *
 * is least, and how it answers to the multipliers, without which a search for them would creep. Where no
 * bound holds, y = ln(1 + SNR) has (y - 1) e^y + 1 = mu a / (w b), which leaves one unknown. A measured
 * uplink (r = efficiency * b) has a closed form. Pure; any thread. */
#pragma once

#include "trainer/plan/allot.h"

struct sl_uplink {
    double bandwidth_hz, power_w; /* in: a guess, 0: none */
    double rate_bps;
    /* Slopes in ln mu and in ln lambda_b, the rest held: of ln b, and of the time up and down. */
    double bandwidth_mu, bandwidth_price, time_mu, time_price;
};
void sl_uplink(
    const struct sl_allot_user *, double mu, double joule_weight, double price, struct sl_uplink *);
