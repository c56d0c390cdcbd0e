/* Muon (K. Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/): the momentum of a weight matrix
 * is made nearly orthogonal by five Newton-Schulz iterations before it is applied, so that every direction of
 * it moves alike. The update is scaled to the size of AdamW's (arXiv 2502.16982: 0.2 sqrt(max(rows, cols))
 * per unit of learning rate), so both can share a rate. For matrices inside the blocks; embeddings and
 * vectors go to AdamW. One owner. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct sl_muon {
    uint32_t rows, cols;
    float *momentum; /* [rows, cols] */
    float *work;     /* scratch of this matrix's step */
};

int sl_muon_create(uint32_t rows, uint32_t cols, struct sl_muon *); /* 0 or -ENOMEM */
void sl_muon_free(struct sl_muon *);
/* w [rows, cols]; grad_sum sums over `tokens` predicted tokens (rules L2); decoupled weight decay. */
void sl_muon_step(
    struct sl_muon *, float *w, const float *grad_sum, double tokens, float lr, float weight_decay);
/* x [rows, cols] of Frobenius norm at most 1 becomes nearly U V' of its singular value decomposition:
 * singular values between about 0.7 and 1.2 where they were not tiny. scratch: rows*cols + 2*min(rows,
 * cols)^2 floats. */
void sl_muon_orthogonalise(float *x, uint32_t rows, uint32_t cols, float *scratch);
