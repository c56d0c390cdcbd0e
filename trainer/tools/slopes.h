/* Statistics of measured stability: means of cells, and the slopes of log beta over the cells, with intervals
 * from a bootstrap clustered on data sets (rules P7).
 *
 * A cell is a pair of k (samples of a data set) and alpha (trainable share). Every data set is measured in
 * every cell, so a resample draws whole data sets, the same ones for all cells: what two cells or two swaps
 * of one data set have in common is kept. Pure functions. */
#pragma once

#include <stdint.h>

struct sl_slope_cell {
    double k, rest; /* rest: 1 - alpha; 0 leaves the cell out of the slopes */
};

/* [sets] data sets of swaps each: `sum[set * n_cells + cell]` is the sum of |loss difference| over the set's
 * swaps. */
struct sl_slope_data {
    const struct sl_slope_cell *cells;
    uint32_t n_cells, n_sets;
    const double *sum;
    const uint32_t *swaps; /* [sets] */
};

/* NaN: not to be had (too few sets for an interval, a slope without two different values, a beta of 0). */
struct sl_estimate {
    double value, low, high;
};

struct sl_slopes {
    struct sl_estimate *beta;   /* [cells], the caller's */
    struct sl_estimate k, rest; /* of log beta on log k and on log(1 - alpha), each with the other held */
    uint32_t cells_used;
};

/* Fewer data sets give no interval (rules P7). */
enum { SL_SLOPES_MIN_SETS = 10 };

/* The 95 % intervals are percentiles of `draws` resamples, widened as Hesterberg (arXiv 1411.5279) does so
 * that they do not come out short with few clusters: by sqrt(n / (n - 1)) and Student's t in place of the
 * normal quantile. `draws` of 0: values alone. 0, or -ENOMEM. */
int sl_slopes_fit(const struct sl_slope_data *, uint32_t draws, uint64_t seed, struct sl_slopes *);
