/* Who has what share of the edge's work (share.h): a plan's shares, and what a message costs its device. */
#include "trainer/pipeline/trainer_internal.h"

void sl_trainer_set_share(struct sl_trainer *t, uint32_t device, double share)
{
    if (device >= t->config.gang.max_devices || !(share >= 0) || share > 1)
        return;
    t->n_shares += (share > 0) - (t->devices[device].share > 0);
    t->devices[device].share = share;
}

/* Without a plan all have the same right to have their rows taken, whatever their cuts: else who has a deep
 * cut would be asked for more steps. So in synchronous gangs, whose members all wait for the last one. With a
 * plan it is the work that counts, and who is not in the plan has an equal part of all. */
uint64_t sl_trainer_cost(const struct sl_trainer *t, const struct device *d, uint32_t rows)
{
    uint32_t n = t->config.gang.n_devices ? t->config.gang.n_devices : t->config.gang.max_devices;
    bool planned = t->config.gang.async && t->n_shares;
    double share = planned && d->share > 0 ? d->share : 1.0 / n;

    return sl_share_price(share) * rows * (t->n_layers - (planned ? d->cut : t->config.min_cut));
}
