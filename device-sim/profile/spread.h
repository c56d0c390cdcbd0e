/* A bag of numbers and its quantiles. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct sl_spread {
    double *v;
    size_t n, cap;
    double sum;
    bool sorted;
};
int sl_spread_add(struct sl_spread *, double); /* -ENOMEM */
/* The smallest value that at least a share q of them does not exceed; NaN: there are none. */
double sl_spread_quantile(struct sl_spread *, double q);
double sl_spread_mean(const struct sl_spread *); /* NaN: there are none */
void sl_spread_free(struct sl_spread *);
