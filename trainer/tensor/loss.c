#include "trainer/tensor/loss.h"
#include "trainer/tensor/simd.h"

#include <math.h>

SL_CLONES void sl_cross_entropy(
    float *logits, const uint32_t *targets, uint32_t rows, uint32_t vocab, int backward, double *nll)
{
    for (uint32_t i = 0; i < rows; i++, logits += vocab) {
        float max = logits[0], sum = 0, wanted = logits[targets[i]];
#pragma omp simd reduction(max : max)
        for (uint32_t j = 0; j < vocab; j++)
            max = logits[j] > max ? logits[j] : max;
        if (!backward) {
#pragma omp simd reduction(+ : sum)
            for (uint32_t j = 0; j < vocab; j++)
                sum += sl_expf(logits[j] - max);
        } else {
#pragma omp simd reduction(+ : sum)
            for (uint32_t j = 0; j < vocab; j++) {
                logits[j] = sl_expf(logits[j] - max);
                sum += logits[j];
            }
            float inv = 1.0f / sum;
#pragma omp simd
            for (uint32_t j = 0; j < vocab; j++)
                logits[j] *= inv;
            logits[targets[i]] -= 1.0f;
        }
        nll[i] = log((double)sum) + ((double)max - (double)wanted);
    }
}
