/* What happens to a packet of one link after its service: it may be lost, and arrive later or out of turn. */
#pragma once

#include "device-sim/link/jitter.h"
#include "device-sim/link/loss.h"

struct sl_impairment_params {
    struct sl_loss_params loss;
    struct sl_jitter_params jitter;
};

struct sl_impairment {
    struct sl_loss loss;
    struct sl_jitter jitter;
};

static inline int sl_impairment_init(
    struct sl_impairment *m, const struct sl_impairment_params *p, uint64_t key)
{
    int rc = sl_loss_init(&m->loss, &p->loss, key);

    return rc ? rc : sl_jitter_init(&m->jitter, &p->jitter, key);
}
