#include "device-sim/link/outage.h"

#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>

static uint64_t exponential(uint64_t mean_ns, uint64_t key, uint64_t i)
{
    return (uint64_t)(-log(sl_rng_open(key, i)) * (double)mean_ns);
}

static void next_outage(struct sl_outage *o)
{
    const struct sl_outage_params *p = &o->params;

    if (p->regular) {
        o->start_ns = p->zero_ns + ++o->i * p->every_ns - p->for_ns;
        o->end_ns = o->start_ns + p->for_ns;
        return;
    }
    o->start_ns = o->end_ns + exponential(p->every_ns, o->key, 2 * o->i);
    o->end_ns = o->start_ns + exponential(p->for_ns, o->key, 2 * o->i + 1);
    o->i++;
}

int sl_outage_init(struct sl_outage *o, const struct sl_outage_params *p, uint64_t key)
{
    *o = (struct sl_outage){.params = *p, .key = sl_rng_key(key, "outage"), .end_ns = p->zero_ns};
    if (p->every_ns == 0)
        return 0;
    if (p->for_ns == 0 || (p->regular && p->for_ns >= p->every_ns))
        return -EINVAL;
    next_outage(o);
    return 0;
}

uint64_t sl_outage_clear(struct sl_outage *o, uint64_t now_ns)
{
    if (o->params.every_ns == 0)
        return now_ns;
    while (now_ns >= o->end_ns)
        next_outage(o);
    return now_ns >= o->start_ns ? o->end_ns : now_ns;
}
