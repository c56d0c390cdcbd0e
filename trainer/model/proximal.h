/* The stability term (rules P8): mu (1 - alpha) sum over adapted matrices of ||(lora_alpha / rank) B A||^2,
 * squared Frobenius norms. w0 is the base model: the term is the squared way that the weights have gone from
 * it, and unlike ||A - A0||^2 it does not change where B and A are scaled against each other.
 *
 * It is added to the MEAN loss of a predicted token, so a gradient sum over `tokens` gets tokens times its
 * gradient, and whoever divides by them gets it once (rules L2). */
#pragma once

#include "trainer/model/lora.h"

/* alpha: the share of the blocks' linear parameters that trains, of `lora` on all blocks: a number of the run
 * that no cut changes (rules P1). In [0, 1]. */
double sl_proximal_alpha(const struct sl_model_config *, const struct sl_lora_config *);
/* mu (1 - alpha): what sl_optim_config's `proximal` takes. 0 where mu is. */
double sl_proximal_strength(const struct sl_model_config *, const struct sl_lora_config *, double mu);

/* Adds tokens times the term's gradient for one block to grad_sum [trainable floats of a block]; NULL: only
 * the value. `trained`: the block's trainable vector where it is not in the adapter, else NULL; a frozen A is
 * the adapter's. Returns strength times the block's sum of squares; 0, and touches nothing, if strength is 0.
 */
double sl_proximal_add(struct sl_adapter *, uint32_t layer, const float *trained, double strength,
    double tokens, float *grad_sum);
