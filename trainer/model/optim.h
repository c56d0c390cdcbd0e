/* Optimisers on one block's vector. Pure state, no allocation in a step. */
#pragma once

#include "trainer/model/schedule.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sl_optim_kind { SL_ADAMW, SL_SGD };

struct sl_optim_config {
    enum sl_optim_kind kind;
    float lr, beta1, beta2, eps, weight_decay; /* AdamW as PyTorch: decoupled decay; defaults 0.9, 0.999,
                                                * 1e-8, 0. SGD: decay coupled, as torch.optim.SGD */
    struct sl_lr_schedule schedule;            /* of lr; all zero: constant */
    double clip;                               /* bound on the norm of a block's mean gradient; 0: none */
    double fedprox_mu;                         /* of sl_optim_prox; 0: none */
    double proximal;                           /* mu (1 - alpha) of sl_proximal_add; 0: none */
};

/* Moments of one vector of n parameters; `m`, `v` are NULL for SGD. */
struct sl_moments {
    float *m, *v;
    uint64_t t; /* steps done */
};

int sl_moments_create(const struct sl_optim_config *, size_t n, struct sl_moments *);
void sl_moments_free(struct sl_moments *);
void sl_moments_reset(struct sl_moments *, size_t n); /* as created */

/* w <- w - update of (grad_sum / tokens). `tokens`: predicted tokens that the gradient sums over (rules L2).
 */
void sl_optim_step(const struct sl_optim_config *, struct sl_moments *, float *w, const float *grad_sum,
    size_t n, double tokens, float lr);

/* What devices, the edge and sluice-train all do with a block's gradient sum (rules L2): clipped by itself,
 * so that it does not depend on the cut, then a step at the rate of global step number `global_step` (from
 * 1). Changes grad_sum where it clips. */
void sl_optim_apply(const struct sl_optim_config *, struct sl_moments *, float *w, float *grad_sum, size_t n,
    double tokens, uint64_t global_step);

/* FedProx (Li et al., arXiv 1812.06127): adds the gradient of tokens * mu/2 |w - anchor|^2, so that the mean
 * gradient gets mu (w - anchor). The anchor is the version of the global adapter that w started from. */
void sl_optim_prox(const struct sl_optim_config *, float *grad_sum, const float *w, const float *anchor,
    size_t n, double tokens);

/* Scales the gradient so that the norm of grad / tokens is at most `clip` (0: no clipping). */
void sl_clip(float *grad, size_t n, double tokens, double clip);
