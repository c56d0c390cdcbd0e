/* Merging in asynchronous gangs (rules L4, L8): copies come one by one, as they are ready, rather than all at
 * a boundary.
 *
 *     G <- G + sum_c n_c / N_c (W_c - G_v(c))
 *
 * n_c are copy c's predicted tokens since the version v(c) that it started from, N_c those of the whole
 * training since then. Every token passes through one copy of every block, the edge's or a device's, so n_c /
 * N_c is the weight that c has in the mean over the copies of a block, taken over c's own time. Copies in
 * step get what sl_aggregate gives them; a copy that comes late has less of a say the later it comes; and a
 * block with a single copy takes that copy's weights unchanged. */
#pragma once

#include "trainer/pipeline/aggregate.h"

/* Changes g [n_layers, block] in place. of[c]: N_c. `scratch`: [block] doubles. */
void sl_merge(float *g, uint32_t n_layers, size_t block, const struct sl_copy *, const uint64_t *of,
    uint32_t n_copies, double *scratch);
