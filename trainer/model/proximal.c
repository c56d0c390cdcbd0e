/* The stability term by Gram matrices of rank x rank: ||B A||^2 = <B'B, A A'>, its gradients 2 B (A A') and
 * 2 (B'B) A; the product is never formed. Sums in double, in the order of the elements. */
#include "trainer/model/proximal.h"
#include "trainer/model/model_internal.h"

#include <string.h>

double sl_proximal_alpha(const struct sl_model_config *config, const struct sl_lora_config *lora)
{
    double all = 0, trained = (double)sl_adapter_block_size(config, lora);
    for (unsigned t = sl_family_first_target(config->family); t < sl_family_end_target(config->family); t++) {
        uint32_t in, out;
        sl_target_dims(config, t, &in, &out);
        all += (double)in * out;
    }
    return trained < all ? trained / all : 1;
}

double sl_proximal_strength(
    const struct sl_model_config *config, const struct sl_lora_config *lora, double mu)
{
    return mu > 0 ? mu * (1 - sl_proximal_alpha(config, lora)) : 0;
}

/* A A' of A [r, in]. */
static void gram_of_a(const float *a, uint32_t r, uint32_t in, double *gram)
{
    for (uint32_t i = 0; i < r; i++)
        for (uint32_t j = 0; j <= i; j++) {
            double sum = 0;
            for (uint32_t k = 0; k < in; k++)
                sum += (double)a[(size_t)i * in + k] * a[(size_t)j * in + k];
            gram[(size_t)i * r + j] = gram[(size_t)j * r + i] = sum;
        }
}

/* B'B of B [out, r]. */
static void gram_of_b(const float *b, uint32_t r, uint32_t out, double *gram)
{
    memset(gram, 0, (size_t)r * r * sizeof *gram);
    for (uint32_t o = 0; o < out; o++, b += r)
        for (uint32_t i = 0; i < r; i++)
            for (uint32_t j = 0; j < r; j++)
                gram[(size_t)i * r + j] += (double)b[i] * b[j];
}

double sl_proximal_add(struct sl_adapter *adapter, uint32_t layer, const float *trained, double strength,
    double tokens, float *grad_sum)
{
    struct sl_block all = sl_adapter_block_all(adapter, layer);
    if (strength == 0 || !all.data)
        return 0;
    const struct sl_lora_config *lora = sl_adapter_lora(adapter);
    size_t frozen = all.n - sl_adapter_block(adapter, layer).n; /* floats of A before the trained ones */
    uint32_t r = lora->rank;
    double scale = (double)lora->alpha / r, *aa = sl_adapter_grams(adapter), *bb = aa + (size_t)r * r;
    double pull = 2 * strength * scale * scale * tokens, value = 0;

    for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
        const float *a = sl_adapter_a(adapter, layer, t), *b = sl_adapter_b(adapter, layer, t);
        uint32_t in, out;
        if (!a)
            continue;
        size_t a_at = (size_t)(a - all.data), b_at = (size_t)(b - all.data) - frozen;
        if (trained && !frozen)
            a = trained + a_at;
        if (trained)
            b = trained + b_at;
        sl_target_dims(sl_adapter_shape(adapter), t, &in, &out);
        gram_of_a(a, r, in, aa);
        gram_of_b(b, r, out, bb);
        for (size_t i = 0; i < (size_t)r * r; i++)
            value += aa[i] * bb[i];
        for (uint32_t o = 0; grad_sum && o < out; o++)
            for (uint32_t i = 0; i < r; i++) {
                double sum = 0;
                for (uint32_t j = 0; j < r; j++)
                    sum += b[(size_t)o * r + j] * aa[(size_t)j * r + i];
                grad_sum[b_at + (size_t)o * r + i] += (float)(pull * sum);
            }
        for (uint32_t i = 0; grad_sum && !frozen && i < r; i++)
            for (uint32_t k = 0; k < in; k++) {
                double sum = 0;
                for (uint32_t j = 0; j < r; j++)
                    sum += bb[(size_t)i * r + j] * a[(size_t)j * in + k];
                grad_sum[a_at + (size_t)i * in + k] += (float)(pull * sum);
            }
    }
    return strength * scale * scale * value;
}
