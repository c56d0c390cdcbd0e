/* AdamW (arXiv 1711.05101, in PyTorch's order of operations) and SGD. */
#include "trainer/model/optim.h"
#include "trainer/tensor/simd.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int sl_moments_create(const struct sl_optim_config *config, size_t n, struct sl_moments *moments)
{
    *moments = (struct sl_moments){0};
    if (config->kind == SL_SGD)
        return 0;
    moments->m = calloc(n ? n : 1, sizeof(float));
    moments->v = calloc(n ? n : 1, sizeof(float));
    if (moments->m && moments->v)
        return 0;
    sl_moments_free(moments);
    return -ENOMEM;
}

void sl_moments_free(struct sl_moments *moments)
{
    free(moments->m);
    free(moments->v);
    *moments = (struct sl_moments){0};
}

void sl_moments_reset(struct sl_moments *moments, size_t n)
{
    moments->t = 0;
    if (!moments->m)
        return;
    memset(moments->m, 0, n * sizeof(float));
    memset(moments->v, 0, n * sizeof(float));
}

SL_CLONES static void sgd(float *w, const float *grad, size_t n, float scale, float lr, float decay)
{
#pragma omp simd
    for (size_t i = 0; i < n; i++)
        w[i] -= lr * (grad[i] * scale + decay * w[i]);
}

struct adamw {
    float scale, beta1, beta2, keep; /* keep: 1 - lr·weight_decay */
    float step;                      /* lr / (1 - beta1^t) */
    float inv_sqrt_c2;               /* 1/sqrt(1 - beta2^t) */
    float eps;
};

SL_CLONES static void adamw(const struct adamw *k, float *w, const float *grad, float *m, float *v, size_t n)
{
    float scale = k->scale, b1 = k->beta1, b2 = k->beta2, keep = k->keep, step = k->step, eps = k->eps;
    float inv = k->inv_sqrt_c2;
#pragma omp simd
    for (size_t i = 0; i < n; i++) {
        float g = grad[i] * scale;
        m[i] = b1 * m[i] + (1 - b1) * g;
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        w[i] = w[i] * keep - step * m[i] / (sqrtf(v[i]) * inv + eps);
    }
}

void sl_optim_step(const struct sl_optim_config *c, struct sl_moments *moments, float *w,
    const float *grad_sum, size_t n, double tokens, float lr)
{
    float scale = (float)(1.0 / tokens);
    moments->t++;
    if (c->kind == SL_SGD) {
        sgd(w, grad_sum, n, scale, lr, c->weight_decay); /* coupled decay, as torch.optim.SGD */
        return;
    }
    double t = (double)moments->t;
    struct adamw k = {.scale = scale,
        .beta1 = c->beta1,
        .beta2 = c->beta2,
        .keep = (float)(1.0 - (double)lr * c->weight_decay),
        .step = (float)(lr / (1.0 - pow(c->beta1, t))),
        .inv_sqrt_c2 = (float)(1.0 / sqrt(1.0 - pow(c->beta2, t))),
        .eps = c->eps};
    adamw(&k, w, grad_sum, moments->m, moments->v, n);
}

void sl_optim_apply(const struct sl_optim_config *c, struct sl_moments *moments, float *w, float *grad_sum,
    size_t n, double tokens, uint64_t global_step)
{
    double lr = (double)c->lr * sl_lr_share(&c->schedule, global_step ? global_step - 1 : 0);

    sl_clip(grad_sum, n, tokens, c->clip);
    sl_optim_step(c, moments, w, grad_sum, n, tokens, (float)lr);
}

void sl_optim_prox(const struct sl_optim_config *c, float *grad_sum, const float *w, const float *anchor,
    size_t n, double tokens)
{
    if (c->fedprox_mu == 0)
        return;
    float scale = (float)(c->fedprox_mu * tokens);
    for (size_t i = 0; i < n; i++)
        grad_sum[i] += scale * (w[i] - anchor[i]);
}

void sl_clip(float *grad, size_t n, double tokens, double clip)
{
    if (clip <= 0)
        return;
    double square = 0;
    for (size_t i = 0; i < n; i++)
        square += (double)grad[i] * grad[i];
    double norm = sqrt(square) / tokens;
    if (norm <= clip)
        return;
    float factor = (float)(clip / norm);
    for (size_t i = 0; i < n; i++)
        grad[i] *= factor;
}
