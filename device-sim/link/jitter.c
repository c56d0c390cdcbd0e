#include "device-sim/link/jitter.h"

#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>

/* Random numbers of a packet. */
enum { DELAY, HOLD_BACK, DRAWS };

/* Uniform in (0, 1]: a logarithm of it is finite, at most 36.7 in size. */
static double draw(const struct sl_jitter *j, unsigned which)
{
    return (double)((sl_rng_u64(j->key, DRAWS * j->i + which) >> 11) + 1) * 0x1p-53;
}

int sl_jitter_init(struct sl_jitter *j, const struct sl_jitter_params *p, uint64_t key)
{
    if (!(p->reorder >= 0 && p->reorder <= 1))
        return -EINVAL;
    *j = (struct sl_jitter){.params = *p, .key = sl_rng_key(key, "jitter")};
    return 0;
}

uint64_t sl_jitter_arrival(struct sl_jitter *j, uint64_t due_ns)
{
    const struct sl_jitter_params *p = &j->params;
    uint64_t at = due_ns;

    if (p->mean_ns == 0 && p->reorder == 0)
        return at;
    if (p->mean_ns != 0)
        at += (uint64_t)(-log(draw(j, DELAY)) * (double)p->mean_ns);
    bool held_back = p->reorder > 0 && draw(j, HOLD_BACK) <= p->reorder;
    j->i++;
    if (at < j->latest_ns)
        at = j->latest_ns;
    if (held_back)
        return at + p->reorder_by_ns;
    j->latest_ns = at;
    return at;
}
