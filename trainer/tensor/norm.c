#include "trainer/tensor/norm.h"
#include "trainer/tensor/simd.h"

#include <math.h>

SL_CLONES void sl_rmsnorm_forward(const float *x, const float *w, float eps, uint32_t rows, uint32_t d,
    float *y, float *rstd, float *meansq)
{
    for (uint32_t i = 0; i < rows; i++, x += d, y += d) {
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (uint32_t j = 0; j < d; j++)
            sum += x[j] * x[j];
        float ms = sum / (float)d;
        float r = 1.0f / sqrtf(ms + eps);
        meansq[i] = ms;
        rstd[i] = r;
#pragma omp simd
        for (uint32_t j = 0; j < d; j++)
            y[j] = x[j] * r * w[j];
    }
}

SL_CLONES void sl_rmsnorm_backward(const float *dy, const float *x, const float *w, const float *rstd,
    uint32_t rows, uint32_t d, float *dx, float *dw)
{
    for (uint32_t i = 0; i < rows; i++, x += d, dy += d, dx += d) {
        float dot = 0, r = rstd[i];
#pragma omp simd reduction(+ : dot)
        for (uint32_t j = 0; j < d; j++)
            dot += dy[j] * w[j] * x[j];
        float c = dot * r * r * r / (float)d;
#pragma omp simd
        for (uint32_t j = 0; j < d; j++)
            dx[j] += dy[j] * w[j] * r - x[j] * c;
        if (!dw)
            continue;
#pragma omp simd
        for (uint32_t j = 0; j < d; j++)
            dw[j] += dy[j] * x[j] * r;
    }
}

SL_CLONES void sl_layernorm_forward(const float *x, const float *w, const float *b, float eps, uint32_t rows,
    uint32_t d, float *y, float *mean, float *rstd, float *meansq)
{
    for (uint32_t i = 0; i < rows; i++, x += d, y += d) {
        float sum = 0, var = 0;
#pragma omp simd reduction(+ : sum)
        for (uint32_t j = 0; j < d; j++)
            sum += x[j];
        float m = sum / (float)d;
#pragma omp simd reduction(+ : var)
        for (uint32_t j = 0; j < d; j++)
            var += (x[j] - m) * (x[j] - m);
        var /= (float)d;
        float r = 1.0f / sqrtf(var + eps);
        mean[i] = m;
        rstd[i] = r;
        meansq[i] = var + m * m;
#pragma omp simd
        for (uint32_t j = 0; j < d; j++)
            y[j] = (x[j] - m) * r * w[j] + b[j];
    }
}

SL_CLONES void sl_layernorm_backward(const float *dy, const float *x, const float *w, const float *mean,
    const float *rstd, uint32_t rows, uint32_t d, float *dx, float *dw, float *db)
{
    for (uint32_t i = 0; i < rows; i++, x += d, dy += d, dx += d) {
        float sum = 0, dot = 0, m = mean[i], r = rstd[i];
#pragma omp simd reduction(+ : sum, dot)
        for (uint32_t j = 0; j < d; j++) {
            float g = dy[j] * w[j];
            sum += g;
            dot += g * (x[j] - m);
        }
        float a = sum / (float)d, c = dot * r * r / (float)d;
#pragma omp simd
        for (uint32_t j = 0; j < d; j++)
            dx[j] += r * (dy[j] * w[j] - a - (x[j] - m) * c);
        if (!dw)
            continue;
#pragma omp simd
        for (uint32_t j = 0; j < d; j++) {
            dw[j] += dy[j] * (x[j] - m) * r;
            db[j] += dy[j];
        }
    }
}
