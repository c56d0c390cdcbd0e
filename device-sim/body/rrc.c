#include "device-sim/body/rrc.h"

#include "trainer/tensor/rng.h"

#include <math.h>
#include <string.h>

static const double ns_per_s = 1e9;
static const double normal_p95 = 1.6448536269514722; /* quantile of the standard normal */
enum { DRAW_PAGING_PHASE = 0, DRAW_PROMOTIONS = 1 }; /* first counters */

void sl_rrc_fit(struct sl_rrc_config *c, double median_s, double p95_s)
{
    c->mu = median_s > 0 ? log(median_s * ns_per_s) : -INFINITY;
    c->sigma = median_s > 0 ? log(p95_s / median_s) / normal_p95 : 0;
}

const char *sl_rrc_state_name(enum sl_rrc_state s)
{
    static const char *const names[] = {"idle", "promoting", "active", "tail"};

    return names[s];
}

void sl_rrc_init(struct sl_rrc *r, const struct sl_rrc_config *c, uint64_t key)
{
    memset(r, 0, sizeof(*r));
    r->cfg = c;
    r->key = key;
    if (c->paging_ns)
        r->paging_phase_ns = sl_rng_u64(key, DRAW_PAGING_PHASE) % c->paging_ns;
}

/* The first time at or after `at` that is a multiple of the cycle from `from` on. */
static uint64_t next_multiple(uint64_t from, uint64_t cycle, uint64_t at)
{
    if (at <= from)
        return from;
    return from + (at - from + cycle - 1) / cycle * cycle;
}

static uint64_t promote(struct sl_rrc *r, uint64_t begin_ns)
{
    double z = (double)sl_rng_normal(r->key, DRAW_PROMOTIONS + r->promotions);
    double delay = exp(r->cfg->mu + r->cfg->sigma * z);

    r->promotion_ns += r->ready_ns - r->begin_ns;
    r->connected_ns += r->release_ns - r->ready_ns;
    r->begin_ns = begin_ns;
    r->ready_ns = begin_ns + (uint64_t)delay;
    r->release_ns = r->ready_ns + r->cfg->inactivity_ns;
    r->promotions++;
    return r->ready_ns;
}

uint64_t sl_rrc_use(struct sl_rrc *r, uint64_t now_ns)
{
    if (!r->cfg->inactivity_ns)
        return now_ns;
    if (now_ns >= r->release_ns)
        return promote(r, now_ns);
    if (now_ns < r->ready_ns)
        return r->ready_ns;
    sl_rrc_carried(r, now_ns);
    return now_ns;
}

uint64_t sl_rrc_page(struct sl_rrc *r, uint64_t now_ns)
{
    const struct sl_rrc_config *c = r->cfg;
    uint64_t last, heard = now_ns;

    if (!c->inactivity_ns)
        return now_ns;
    if (now_ns >= r->release_ns)
        return promote(r, c->paging_ns ? next_multiple(r->paging_phase_ns, c->paging_ns, now_ns) : now_ns);
    if (now_ns < r->ready_ns)
        return r->ready_ns;
    last = r->release_ns - c->inactivity_ns; /* may lie ahead: where an earlier packet is being waited for */
    if (now_ns < last)
        return last;
    if (c->drx_cycle_ns && now_ns - last > c->drx_after_ns)
        heard = next_multiple(last + c->drx_after_ns, c->drx_cycle_ns, now_ns);
    sl_rrc_carried(r, heard);
    return heard;
}

void sl_rrc_times(const struct sl_rrc *r, uint64_t now_ns, uint64_t *promotion_ns, uint64_t *connected_ns)
{
    uint64_t ready = now_ns < r->ready_ns ? now_ns : r->ready_ns;
    uint64_t release = now_ns < r->release_ns ? now_ns : r->release_ns;

    *promotion_ns = r->promotion_ns + (ready > r->begin_ns ? ready - r->begin_ns : 0);
    *connected_ns = r->connected_ns + (release > r->ready_ns ? release - r->ready_ns : 0);
}

enum sl_rrc_state sl_rrc_state(const struct sl_rrc *r, uint64_t now_ns)
{
    const struct sl_rrc_config *c = r->cfg;

    if (!c->inactivity_ns)
        return SL_RRC_ACTIVE;
    if (now_ns >= r->release_ns || now_ns < r->begin_ns)
        return SL_RRC_IDLE;
    if (now_ns < r->ready_ns)
        return SL_RRC_PROMOTING;
    return now_ns + c->inactivity_ns <= r->release_ns + c->drx_after_ns ? SL_RRC_ACTIVE : SL_RRC_TAIL;
}
