/* A phone's energy and battery account. Joules per cause are power times time, so that the causes add up to
 * the total. */
#pragma once

#include <stdint.h>

struct sl_power {
    double compute_w, radio_tx_w, radio_rx_w, idle_w;
    double battery_mah, battery_v, battery_start; /* start: share of full, 0..1 */
};

/* Seconds since the phone woke up, by cause; the rest of `awake_s` is idle. */
struct sl_activity {
    double compute_s, tx_s, rx_s, awake_s;
};

struct sl_energy {
    double compute_j, tx_j, rx_j, idle_j, total_j;
    double battery; /* state of charge, 0..1 */
};

void sl_energy_account(const struct sl_power *, const struct sl_activity *, struct sl_energy *);
