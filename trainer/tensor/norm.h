/* RMSNorm (arXiv 1910.07467) and LayerNorm (arXiv 1607.06450) over rows [rows, d], with their gradients.
 * Backward adds to dx (the residual path) and, where dw is not NULL, to dw and db. Pure functions. */
#pragma once

#include <stdint.h>

/* y = x·rstd·w, rstd = 1/sqrt(mean(x²) + eps). meansq, rstd: [rows]. */
void sl_rmsnorm_forward(const float *x, const float *w, float eps, uint32_t rows, uint32_t d, float *y,
    float *rstd, float *meansq);
void sl_rmsnorm_backward(const float *dy, const float *x, const float *w, const float *rstd, uint32_t rows,
    uint32_t d, float *dx, float *dw);

/* y = (x - mean)·rstd·w + b. mean, rstd, meansq (of x itself, for the entry check): [rows]. */
void sl_layernorm_forward(const float *x, const float *w, const float *b, float eps, uint32_t rows,
    uint32_t d, float *y, float *mean, float *rstd, float *meansq);
void sl_layernorm_backward(const float *dy, const float *x, const float *w, const float *mean,
    const float *rstd, uint32_t rows, uint32_t d, float *dx, float *dw, float *db);
