/* RFC 8033's pseudocode of appendix A, as it stands there, in seconds: what device-sim/link/pie.c is compared
 * with. Its user calls plain_pie_update every T_UPDATE from the first packet on. */
#pragma once

#include "trainer/tensor/rng.h"

#include <stdbool.h>
#include <stdint.h>

struct plain_pie {
    double
        qdelay_ref; /* set by the user, like the key of the random numbers and burst_allowance = MAX_BURST */
    uint64_t key, draws;
    double burst_allowance;
    double drop_prob, accu_prob, qdelay_old, current_qdelay;
};
static const double PLAIN_T_UPDATE = 0.015, PLAIN_MAX_BURST = 0.150;

static inline bool plain_drop_early(struct plain_pie *p, uint64_t byte_length)
{
    if ((p->qdelay_old < p->qdelay_ref / 2 && p->drop_prob < 0.2) || byte_length <= 2 * 1024)
        return false;
    if (p->drop_prob == 0)
        p->accu_prob = 0;
    p->accu_prob += p->drop_prob;
    if (p->accu_prob < 0.85)
        return false;
    if (p->accu_prob >= 8.5)
        return true;
    double u = (double)(sl_rng_u64(p->key, p->draws++) >> 11) / 9007199254740992.0;
    if (u < p->drop_prob) {
        p->accu_prob = 0;
        return true;
    }
    return false;
}

/* Whether the packet joins the queue, which has room. */
static inline bool plain_enqueue(struct plain_pie *p, uint64_t byte_length)
{
    if (p->burst_allowance == 0 && plain_drop_early(p, byte_length)) {
        p->accu_prob = 0;
        return false;
    }
    return true;
}

static inline void plain_pie_update(struct plain_pie *p)
{
    double v = 0.125 * (p->current_qdelay - p->qdelay_ref) + 1.25 * (p->current_qdelay - p->qdelay_old);

    if (p->drop_prob < 0.000001)
        v /= 2048;
    else if (p->drop_prob < 0.00001)
        v /= 512;
    else if (p->drop_prob < 0.0001)
        v /= 128;
    else if (p->drop_prob < 0.001)
        v /= 32;
    else if (p->drop_prob < 0.01)
        v /= 8;
    else if (p->drop_prob < 0.1)
        v /= 2;
    if (p->drop_prob >= 0.1 && v > 0.02)
        v = 0.02;
    p->drop_prob += v;
    if (p->current_qdelay == 0 && p->qdelay_old == 0)
        p->drop_prob *= 0.98;
    if (p->drop_prob < 0)
        p->drop_prob = 0;
    if (p->drop_prob > 1)
        p->drop_prob = 1;
    p->burst_allowance -= PLAIN_T_UPDATE;
    if (p->burst_allowance < 1e-9)
        p->burst_allowance = 0;
    if (p->drop_prob == 0 && p->current_qdelay < p->qdelay_ref / 2 && p->qdelay_old < p->qdelay_ref / 2)
        p->burst_allowance = PLAIN_MAX_BURST;
    p->qdelay_old = p->current_qdelay;
}
