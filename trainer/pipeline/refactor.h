/* Aggregation with `how: svd` (rules L4, L5): not the factors are averaged but their products. For each
 * adapted layer of each block
 *
 *     M = G + sum_c n_c (B_c A_c - P_c) / sum_c n_c,        P_c: what copy c started from
 *
 * is re-factored to G's rank by truncated SVD (lowrank.h). Components come in descending order, so the first
 * r of them are the best factors of rank r: a device of lower rank starts from those (factors.h), which makes
 * P_c the first r components of the G that it started from, and ranks mix. A singular value s is shared
 * evenly, sqrt s to each factor, but a row of A has at least the norm that LoRA's initialisation gives it on
 * average (1/sqrt 3): a component that is nearly nought still learns.
 *
 * A block with a single copy of G's rank that started from the present G takes its weights unchanged, as in
 * sl_aggregate, unless ranks are mixed: then it is re-factored too, since its components have no order. */
#pragma once

#include "trainer/pipeline/aggregate.h"

struct sl_refactor_config {
    const struct sl_model_config *model;
    const struct sl_lora_config *lora; /* of G */
    bool mixed_ranks;
    bool compare; /* also what averaging the factors would have made; not with mixed ranks */
};
struct sl_refactor_errors { /* as shares of the round's update of B A, in the Frobenius norm */
    double svd;             /* what the truncation lost */
    double factors;         /* mean(B) mean(A) against the mean of the products; 0 where not compared */
};

/* Changes g [n_layers, block] in place; `changed` [n_layers]: blocks that were re-factored, whose moments are
 * to be reset. -ENOMEM; -EDOM: not finite. After a failure g is not whole. */
int sl_refactor(const struct sl_refactor_config *, float *g, const struct sl_copy *, uint32_t n_copies,
    bool *changed, struct sl_refactor_errors *);
