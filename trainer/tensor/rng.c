#include "trainer/tensor/rng.h"

#include <math.h>

float sl_rng_normal(uint64_t key, uint64_t i)
{
    double u = ((double)(sl_rng_u64(key, 2 * i) >> 11) + 1.0) * 0x1p-53; /* (0, 1]: the logarithm is finite */
    double v = (double)(sl_rng_u64(key, 2 * i + 1) >> 11) * 0x1p-53;
    return (float)(sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v));
}
