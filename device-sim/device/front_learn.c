/* What a phone does with its gradients: adds them up, and steps or lets the edge step (rules L2, L4). */
#include "device-sim/device/front_internal.h"
#include "trainer/model/proximal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int sl_front_create_sums(struct sl_front *f)
{
    if (f->cfg.accumulate == 0)
        f->cfg.accumulate = 1;
    f->sum = calloc(f->block_floats * f->cfg.cut, sizeof(float));
    if (f->cfg.optim.fedprox_mu > 0)
        f->anchor = calloc(f->block_floats * f->cfg.cut, sizeof(float));
    return f->sum && (f->anchor || f->cfg.optim.fedprox_mu == 0) ? 0 : -ENOMEM;
}

void sl_front_forget_gradients(struct sl_front *f)
{
    if (f->sum)
        memset(f->sum, 0, f->block_floats * f->cfg.cut * sizeof(float));
    f->sum_tokens = 0;
}

bool sl_front_pushes_gradients(const struct sl_front *f)
{
    return f->cfg.gradients;
}

void sl_front_get_gradients(const struct sl_front *f, float *out)
{
    if (f->sum)
        memcpy(out, f->sum, sl_front_floats(f) * sizeof(float));
    else /* hollow */
        memset(out, 0, sl_front_floats(f) * sizeof(float));
}

/* A phone that missed the gang that ended its round steps with the next one that it takes part in. */
static bool round_is_over(const struct sl_front *f, const struct sl_front_step *step)
{
    return step->boundary || step->global_step % f->cfg.accumulate == 0 ||
           (step->global_step - 1) / f->cfg.accumulate != f->sum_round;
}

void sl_front_learn(struct sl_front *f, uint32_t rows, const struct sl_front_step *step)
{
    if (f->sum_tokens == 0)
        f->sum_round = (step->global_step - 1) / f->cfg.accumulate;
    f->sum_tokens += rows;
    for (uint32_t l = 0; l < f->cfg.cut; l++) {
        struct sl_block b = sl_adapter_block(f->adapter, l);
        float *sum = f->sum + l * f->block_floats;
        for (size_t i = 0; i < b.n; i++)
            sum[i] += b.grad[i];
    }
    if (f->cfg.gradients || !round_is_over(f, step))
        return;
    for (uint32_t l = 0; l < f->cfg.cut; l++) {
        struct sl_block b = sl_adapter_block(f->adapter, l);
        float *sum = f->sum + l * f->block_floats;
        if (f->anchor)
            sl_optim_prox(
                &f->cfg.optim, sum, b.data, f->anchor + l * f->block_floats, b.n, (double)f->sum_tokens);
        sl_proximal_add(f->adapter, l, NULL, f->cfg.optim.proximal, (double)f->sum_tokens, sum);
        sl_optim_apply(
            &f->cfg.optim, &f->moments[l], b.data, sum, b.n, (double)f->sum_tokens, step->global_step);
    }
    sl_front_forget_gradients(f);
}
