#include "device-sim/link/pie.h"

#include "trainer/tensor/rng.h"

/* RFC 8033 4.2: weights in 1/s, the step's cap and the decay; 5.4: bounds of the de-randomisation. */
static const double alpha = 0.125, beta = 1.25;
static const double step_cap = 0.02, step_cap_above = 0.1, decay = 0.98;
static const double no_drop_below = 0.85, drop_above = 8.5, low_prob = 0.2;

void sl_pie_init(struct sl_pie *p, uint64_t target_ns, uint64_t key)
{
    *p = (struct sl_pie){.target_ns = target_ns, .key = key, .burst_ns = SL_PIE_MAX_BURST_NS};
}

/* RFC 8033 4.2: smaller steps while the probability is small, so that they stay small against it. */
static double scale(double prob)
{
    static const struct {
        double below, factor;
    } steps[] = {{1e-6, 1.0 / 2048}, {1e-5, 1.0 / 512}, {1e-4, 1.0 / 128}, {1e-3, 1.0 / 32}, {1e-2, 1.0 / 8},
        {0.1, 0.5}};

    for (unsigned i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (prob < steps[i].below)
            return steps[i].factor;
    return 1;
}

static double seconds(uint64_t a_ns, uint64_t b_ns)
{
    return ((double)a_ns - (double)b_ns) * 1e-9;
}

static bool calm(const struct sl_pie *p)
{
    return p->drop_prob == 0 && p->qdelay_ns < p->target_ns / 2 && p->qdelay_old_ns < p->target_ns / 2;
}

static void update(struct sl_pie *p)
{
    double step =
        (alpha * seconds(p->qdelay_ns, p->target_ns) + beta * seconds(p->qdelay_ns, p->qdelay_old_ns)) *
        scale(p->drop_prob);

    if (p->drop_prob >= step_cap_above && step > step_cap)
        step = step_cap;
    p->drop_prob += step;
    if (p->qdelay_ns == 0 && p->qdelay_old_ns == 0)
        p->drop_prob *= decay;
    p->drop_prob = p->drop_prob < 0 ? 0 : p->drop_prob > 1 ? 1 : p->drop_prob;
    p->burst_ns -= p->burst_ns < SL_PIE_UPDATE_NS ? p->burst_ns : SL_PIE_UPDATE_NS;
    if (calm(p))
        p->burst_ns = SL_PIE_MAX_BURST_NS;
    p->qdelay_old_ns = p->qdelay_ns;
}

/* All updates due by now. A queue that has come to rest is not walked through the time it rested. */
static void catch_up(struct sl_pie *p, uint64_t now_ns)
{
    if (p->next_update_ns == 0)
        p->next_update_ns = now_ns + SL_PIE_UPDATE_NS;
    while (p->next_update_ns <= now_ns) {
        update(p);
        p->next_update_ns += SL_PIE_UPDATE_NS;
        if (calm(p) && p->qdelay_ns == 0 && p->next_update_ns <= now_ns)
            p->next_update_ns += (now_ns - p->next_update_ns) / SL_PIE_UPDATE_NS * SL_PIE_UPDATE_NS;
    }
}

/* RFC 8033 4.1 and 5.4. */
static bool drop_early(struct sl_pie *p, uint64_t queued_bytes)
{
    if ((p->qdelay_old_ns < p->target_ns / 2 && p->drop_prob < low_prob) ||
        queued_bytes <= 2 * SL_PIE_MEAN_PACKET_BYTES)
        return false;
    if (p->drop_prob == 0)
        p->accu_prob = 0;
    p->accu_prob += p->drop_prob;
    if (p->accu_prob < no_drop_below)
        return false;
    if (p->accu_prob >= drop_above)
        return true;
    return (double)(sl_rng_u64(p->key, p->draws++) >> 11) * 0x1p-53 < p->drop_prob;
}

bool sl_pie_drops(struct sl_pie *p, uint64_t queued_bytes, uint64_t now_ns)
{
    catch_up(p, now_ns);
    if (p->burst_ns != 0 || !drop_early(p, queued_bytes))
        return false;
    p->accu_prob = 0;
    return true;
}

void sl_pie_full(struct sl_pie *p, uint64_t now_ns)
{
    catch_up(p, now_ns);
    p->accu_prob = 0;
}

void sl_pie_served(struct sl_pie *p, uint64_t sojourn_ns, uint64_t left_bytes, uint64_t now_ns)
{
    catch_up(p, now_ns);
    p->qdelay_ns = left_bytes != 0 ? sojourn_ns : 0;
}
