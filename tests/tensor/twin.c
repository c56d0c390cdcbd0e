#include "tests/tensor/twin.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>

float *twin_data(const char *name, size_t n, float scale)
{
    uint64_t key = sl_rng_key(1, name);
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = scale * sl_rng_uniform(key, i);
    return x;
}

void twin_close(const float *ours, const double *twin, size_t n, double tolerance, const char *what)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += (ours[i] - twin[i]) * (ours[i] - twin[i]);
        norm += twin[i] * twin[i];
    }
    if (!(sqrt(diff) <= tolerance * sqrt(norm)))
        fail_msg("%s: %g of %g", what, sqrt(diff), sqrt(norm));
}
