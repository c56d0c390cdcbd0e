#include "trainer/tensor/act.h"
#include "trainer/tensor/simd.h"

#include <stddef.h>

SL_CLONES void sl_swiglu_forward(const float *gate_up, uint32_t rows, uint32_t ff, float *act)
{
    for (uint32_t i = 0; i < rows; i++, gate_up += 2 * (size_t)ff, act += ff) {
        const float *gate = gate_up, *up = gate_up + ff;
#pragma omp simd
        for (uint32_t j = 0; j < ff; j++)
            act[j] = gate[j] / (1.0f + sl_expf(-gate[j])) * up[j];
    }
}

SL_CLONES void sl_swiglu_backward(
    const float *gate_up, const float *dact, uint32_t rows, uint32_t ff, float *dgate_up)
{
    for (uint32_t i = 0; i < rows; i++, gate_up += 2 * (size_t)ff, dgate_up += 2 * (size_t)ff, dact += ff) {
        const float *gate = gate_up, *up = gate_up + ff;
        float *dgate = dgate_up, *dup = dgate_up + ff;
#pragma omp simd
        for (uint32_t j = 0; j < ff; j++) {
            float g = gate[j], sig = 1.0f / (1.0f + sl_expf(-g)), silu = g * sig;
            dgate[j] = dact[j] * up[j] * (sig + silu * (1.0f - sig));
            dup[j] = dact[j] * silu;
        }
    }
}

/* (1 + tanh z)/2 is the logistic function of 2z. */
static const float gelu_a = 2 * 0.7978845608028654f, gelu_b = 0.044715f;

SL_CLONES void sl_gelu_forward(const float *x, uint32_t rows, uint32_t ff, float *act)
{
    size_t n = (size_t)rows * ff;
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float z = gelu_a * (x[j] + gelu_b * x[j] * x[j] * x[j]);
        act[j] = x[j] / (1.0f + sl_expf(-z));
    }
}

SL_CLONES void sl_gelu_backward(const float *x, const float *dact, uint32_t rows, uint32_t ff, float *dx)
{
    size_t n = (size_t)rows * ff;
#pragma omp simd
    for (size_t j = 0; j < n; j++) {
        float z = gelu_a * (x[j] + gelu_b * x[j] * x[j] * x[j]);
        float sig = 1.0f / (1.0f + sl_expf(-z));
        float dz = gelu_a * (1.0f + 3 * gelu_b * x[j] * x[j]);
        dx[j] = dact[j] * (sig + x[j] * sig * (1.0f - sig) * dz);
    }
}
