#include "device-sim/device/energy.h"

enum { COULOMB_PER_MAH_X10 = 36 }; /* 1 mAh = 3.6 C */

void sl_energy_account(const struct sl_power *p, const struct sl_activity *a, struct sl_energy *e)
{
    double capacity_j = p->battery_mah * COULOMB_PER_MAH_X10 / 10.0 * p->battery_v;
    /* Receiving may overlap with sending; a phone is idle only while it does nothing at all. */
    double idle_s = a->awake_s - a->compute_s - a->tx_s - a->rx_s;

    e->compute_j = p->compute_w * a->compute_s;
    e->tx_j = p->radio_tx_w * a->tx_s;
    e->rx_j = p->radio_rx_w * a->rx_s;
    e->idle_j = p->idle_w * (idle_s > 0 ? idle_s : 0);
    e->total_j = e->compute_j + e->tx_j + e->rx_j + e->idle_j;
    e->battery = capacity_j > 0 ? p->battery_start - e->total_j / capacity_j : p->battery_start;
    if (e->battery < 0)
        e->battery = 0;
}
