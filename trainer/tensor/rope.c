#include "trainer/tensor/rope.h"

#include <math.h>
#include <stddef.h>

void sl_rope_table(float theta, uint32_t positions, uint32_t head_dim, float *table)
{
    uint32_t half = head_dim / 2;
    for (uint32_t j = 0; j < half; j++) {
        float exponent = (float)(2 * j) / (float)head_dim;
        float inv_freq = 1.0f / (float)pow(theta, exponent);
        for (uint32_t p = 0; p < positions; p++) {
            float angle = (float)p * inv_freq;
            table[(size_t)p * head_dim + j] = (float)cos(angle);
            table[(size_t)p * head_dim + half + j] = (float)sin(angle);
        }
    }
}
