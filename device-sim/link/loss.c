#include "device-sim/link/loss.h"

#include "trainer/tensor/rng.h"

#include <errno.h>

/* Random numbers of a packet. */
enum { CHANGE, LOSE, DRAWS };

static bool is_probability(double p)
{
    return p >= 0 && p <= 1;
}

static bool happens(const struct sl_loss *l, uint64_t draw, double p)
{
    return (double)(sl_rng_u64(l->key, draw) >> 11) * 0x1p-53 < p;
}

int sl_loss_init(struct sl_loss *l, const struct sl_loss_params *p, uint64_t key)
{
    if (!is_probability(p->good) || !is_probability(p->bad) || !is_probability(p->good_to_bad) ||
        !is_probability(p->bad_to_good) || (p->good_to_bad > 0) != (p->bad_to_good > 0))
        return -EINVAL;
    *l = (struct sl_loss){.good = p->good,
        .bad = p->bad,
        .good_to_bad = p->good_to_bad,
        .bad_to_good = p->bad_to_good,
        .key = sl_rng_key(key, "loss")};
    if (p->good_to_bad > 0)
        l->is_bad = happens(l, UINT64_MAX - 1, p->good_to_bad / (p->good_to_bad + p->bad_to_good));
    return 0;
}

bool sl_loss_next(struct sl_loss *l)
{
    uint64_t draw = DRAWS * l->i++;

    if (l->good_to_bad > 0 && happens(l, draw + CHANGE, l->is_bad ? l->bad_to_good : l->good_to_bad))
        l->is_bad = !l->is_bad;
    return happens(l, draw + LOSE, l->is_bad ? l->bad : l->good);
}

double sl_loss_mean(const struct sl_loss_params *p)
{
    double sum = p->good_to_bad + p->bad_to_good;

    return sum > 0 ? (p->good_to_bad * p->bad + p->bad_to_good * p->good) / sum : p->good;
}
