#include "trainer/tensor/rope.h"
#include "trainer/tensor/simd.h"

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

SL_CLONES void sl_rope(float *row, uint32_t n_heads, uint32_t head_dim, const float *table_row, int backward)
{
    uint32_t half = head_dim / 2;
    float sign = backward ? -1.0f : 1.0f;
    const float *cosine = table_row, *sine = table_row + half;
    for (uint32_t h = 0; h < n_heads; h++, row += head_dim) {
        float *a = row, *b = row + half;
#pragma omp simd
        for (uint32_t j = 0; j < half; j++) {
            float s = sign * sine[j], u = a[j], v = b[j];
            a[j] = u * cosine[j] - v * s;
            b[j] = v * cosine[j] + u * s;
        }
    }
}
