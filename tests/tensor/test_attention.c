/* Attention against plain loops in double. */
#include "tests/tensor/twin.h"
#include "trainer/tensor/attention.h"

#include <math.h>
#include <stdlib.h>

/* Probabilities of one head's row i over keys 0..i. */
static void probabilities(const float *q, const float *k, uint32_t ld, uint32_t hd, uint32_t i, double *p)
{
    double sum = 0;
    for (uint32_t j = 0; j <= i; j++) {
        double s = 0;
        for (uint32_t e = 0; e < hd; e++)
            s += (double)q[(size_t)i * ld + e] * k[(size_t)j * ld + e];
        p[j] = exp(s / sqrt(hd));
        sum += p[j];
    }
    for (uint32_t j = 0; j <= i; j++)
        p[j] /= sum;
}

struct twin {
    double *out, *dqkv, *p;
};

static void twin_head(const struct sl_attention_dims *dims, const float *qkv, const float *dout, uint32_t len,
    uint32_t h, struct twin *t)
{
    uint32_t hd = dims->head_dim, ld = (dims->n_heads + 2 * dims->n_kv_heads) * hd,
             ld_out = dims->n_heads * hd;
    uint32_t k_at = (dims->n_heads + h / (dims->n_heads / dims->n_kv_heads)) * hd,
             v_at = k_at + dims->n_kv_heads * hd;
    for (uint32_t i = 0; i < len; i++) {
        double mean = 0, *dp = t->p + len;
        probabilities(qkv + h * hd, qkv + k_at, ld, hd, i, t->p);
        for (uint32_t j = 0; j <= i; j++) {
            dp[j] = 0;
            for (uint32_t e = 0; e < hd; e++) {
                double g = dout[(size_t)i * ld_out + h * hd + e], v = qkv[(size_t)j * ld + v_at + e];
                t->out[(size_t)i * ld_out + h * hd + e] += t->p[j] * v;
                t->dqkv[(size_t)j * ld + v_at + e] += t->p[j] * g;
                dp[j] += g * v;
            }
            mean += t->p[j] * dp[j];
        }
        for (uint32_t j = 0; j <= i; j++) {
            double ds = t->p[j] * (dp[j] - mean) / sqrt(hd);
            for (uint32_t e = 0; e < hd; e++) {
                t->dqkv[(size_t)i * ld + h * hd + e] += ds * qkv[(size_t)j * ld + k_at + e];
                t->dqkv[(size_t)j * ld + k_at + e] += ds * qkv[(size_t)i * ld + h * hd + e];
            }
        }
    }
}

static void check(uint32_t heads, uint32_t kv, uint32_t hd, uint32_t len)
{
    struct sl_attention_dims dims = {heads, kv, hd};
    size_t n = (size_t)len * (heads + 2 * kv) * hd, n_out = (size_t)len * heads * hd;
    float *qkv = twin_data("qkv", n, 2), *dout = twin_data("dout", n_out, 1),
          *out = malloc(n_out * sizeof *out);
    float *dqkv = malloc(n * sizeof *dqkv), *lse = malloc((size_t)len * heads * sizeof *lse);
    float *scratch = malloc(sl_attention_scratch(len) * sizeof *scratch);
    struct twin t = {
        calloc(n_out, sizeof(double)), calloc(n, sizeof(double)), calloc(2 * len, sizeof(double))};
    for (size_t i = 0; i < n; i++)
        dqkv[i] = NAN; /* backward overwrites */
    for (uint32_t h = 0; h < heads; h++)
        twin_head(&dims, qkv, dout, len, h, &t);
    sl_attention_forward(&dims, qkv, len, out, lse, scratch);
    sl_attention_backward(&dims, qkv, out, lse, dout, len, dqkv, scratch);
    twin_close(out, t.out, n_out, 2e-6, "out");
    twin_close(dqkv, t.dqkv, n, 5e-6, "gradient");
    free(qkv);
    free(dout);
    free(out);
    free(dqkv);
    free(lse);
    free(scratch);
    free(t.out);
    free(t.dqkv);
    free(t.p);
}

static void attention__agrees_with_plain_loops(void **state)
{
    check(1, 1, 16, 1);
    check(8, 4, 14, 7);
    check(6, 2, 32, 61);
    check(4, 4, 64, 129);
    check(2, 1, 128, 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention__agrees_with_plain_loops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
