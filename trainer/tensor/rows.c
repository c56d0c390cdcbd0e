#include "trainer/tensor/rows.h"
#include "trainer/tensor/simd.h"

SL_CLONES void sl_rows_bias(const float *x, const float *bias, uint32_t rows, uint32_t d, float *y)
{
    for (uint32_t i = 0; i < rows; i++, y += d) {
        if (!x) {
            memcpy(y, bias, d * sizeof *y);
            continue;
        }
        const float *row = x + (size_t)i * d;
#pragma omp simd
        for (uint32_t j = 0; j < d; j++)
            y[j] = row[j] + bias[j];
    }
}

SL_CLONES void sl_rows_sum(const float *x, uint32_t rows, uint32_t d, float *sum)
{
    for (uint32_t i = 0; i < rows; i++, x += d)
#pragma omp simd
        for (uint32_t j = 0; j < d; j++)
            sum[j] += x[j];
}

SL_CLONES void sl_add(const float *x, size_t n, float *y)
{
#pragma omp simd
    for (size_t j = 0; j < n; j++)
        y[j] += x[j];
}

/* x - x is 0 for a finite x and NaN otherwise: a sum that vectorises. */
SL_CLONES bool sl_all_finite(const float *x, size_t n)
{
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < n; j++)
        sum += x[j] - x[j];
    return sum == 0;
}
