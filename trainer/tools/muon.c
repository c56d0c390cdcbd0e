#include "trainer/tools/muon.h"

#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Momentum and the quintic's coefficients: Jordan et al. 2024. */
static const float momentum_decay = 0.95f, quintic[3] = {3.4445f, -4.7750f, 2.0315f};
enum { ITERATIONS = 5 };
/* Root mean square of AdamW's usual update: arXiv 2502.16982, section 2.2. */
static const float adamw_rms = 0.2f;

int sl_muon_create(uint32_t rows, uint32_t cols, struct sl_muon *muon)
{
    size_t n = (size_t)rows * cols, side = rows < cols ? rows : cols;
    *muon = (struct sl_muon){.rows = rows,
        .cols = cols,
        .momentum = calloc(n, sizeof(float)),
        .work = malloc((2 * n + 2 * side * side) * sizeof(float))};
    if (muon->momentum && muon->work)
        return 0;
    sl_muon_free(muon);
    return -ENOMEM;
}

void sl_muon_free(struct sl_muon *muon)
{
    free(muon->momentum);
    free(muon->work);
    *muon = (struct sl_muon){0};
}

void sl_muon_orthogonalise(float *x, uint32_t rows, uint32_t cols, float *scratch)
{
    bool tall = rows > cols;
    uint32_t side = tall ? cols : rows;
    size_t n = (size_t)rows * cols, n_side = (size_t)side * side;
    float *gram = scratch, *poly = gram + n_side, *next = poly + n_side;
    for (int i = 0; i < ITERATIONS; i++) {
        /* x <- a x + (b G + c G^2) x with G = x x'; for a tall x the same from the other side, with G = x' x.
         */
        if (tall)
            sl_gemm_at(side, side, rows, 1, x, cols, x, cols, 0, gram, side);
        else
            sl_gemm(true, side, side, cols, 1, x, cols, x, cols, 0, gram, side);
        for (size_t k = 0; k < n_side; k++)
            poly[k] = quintic[1] * gram[k];
        sl_gemm(false, side, side, side, quintic[2], gram, side, gram, side, 1, poly, side);
        for (size_t k = 0; k < n; k++)
            next[k] = quintic[0] * x[k];
        if (tall)
            sl_gemm(false, rows, cols, cols, 1, x, cols, poly, side, 1, next, cols);
        else
            sl_gemm(false, rows, cols, rows, 1, poly, side, x, cols, 1, next, cols);
        memcpy(x, next, n * sizeof *x);
    }
}

void sl_muon_step(
    struct sl_muon *muon, float *w, const float *grad_sum, double tokens, float lr, float weight_decay)
{
    size_t n = (size_t)muon->rows * muon->cols;
    float *x = muon->work, scale = (float)(1 / tokens);
    double square = 0;
    for (size_t i = 0; i < n; i++) {
        float g = grad_sum[i] * scale;
        muon->momentum[i] = momentum_decay * muon->momentum[i] + g;
        x[i] = g + momentum_decay * muon->momentum[i]; /* Nesterov's look ahead */
        square += (double)x[i] * x[i];
    }
    float to_unit = (float)(1 / (sqrt(square) + 1e-20));
    for (size_t i = 0; i < n; i++)
        x[i] *= to_unit;
    sl_muon_orthogonalise(x, muon->rows, muon->cols, x + n);
    float size = lr * adamw_rms * sqrtf((float)(muon->rows > muon->cols ? muon->rows : muon->cols));
    for (size_t i = 0; i < n; i++)
        w[i] -= size * x[i] + lr * weight_decay * w[i];
}
