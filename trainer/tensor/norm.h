/* RMSNorm (arXiv 1910.07467) and LayerNorm (arXiv 1607.06450) over dense rows [rows, d], with their
 * gradients. Arithmetic in f32 on values as they are stored. Pure functions, on the process's threads
 * (parallel.h). */
#pragma once

#include "trainer/tensor/view.h"

struct sl_norm {
    bool centred; /* LayerNorm; else RMSNorm */
    uint32_t d;
    float eps;
    const float *w, *b; /* [d]; b: LayerNorm only */
};

/* What backward needs of each row: [rows]; mean: LayerNorm only. */
struct sl_norm_stats {
    float *mean, *rstd;
};

/* s = x (+ add); y = (s - mean)·rstd·w + b, rstd = 1/sqrt(var + eps); RMSNorm: y = s·rstd·w,
 * rstd = 1/sqrt(mean(s²) + eps). add.p may be NULL. sum.p may be NULL where add.p is; else s is stored there
 * (widened or rounded: the statistics are of what is stored), and sum may be x or add itself. x may be a
 * received message in place, and meansq [rows] (may be NULL), the mean of s², is what the entry check wants
 * (rules T15): not finite where any element is not. */
void sl_norm_forward(const struct sl_norm *, struct sl_src x, struct sl_src add, uint32_t rows,
    struct sl_dst sum, struct sl_dst y, struct sl_norm_stats, float *meansq);

/* dx = residual + the gradient through y; x: the s of forward. residual.p may be NULL (zero) or dx's own
 * memory. dx_bf16 [rows, d] may be NULL: dx once more, rounded, as the next product's operand. dw and db [d]
 * are added to; NULL where the weights are frozen. */
void sl_norm_backward(const struct sl_norm *, struct sl_src dy, struct sl_src x, struct sl_norm_stats,
    struct sl_src residual, uint32_t rows, struct sl_dst dx, sl_bf16 *dx_bf16, float *dw, float *db);
