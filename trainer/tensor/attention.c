#include "trainer/tensor/attention.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/isa/attention_memory.h"
#include "trainer/tensor/isa/isa.h"
#include "trainer/tensor/parallel.h"
#include "trainer/tensor/simd.h"

#include <math.h>

enum { TILE = 64 }; /* query rows at a time: two tiles of 64 x 256 scores stay in L2 */

size_t sl_attention_scratch(uint32_t max_len)
{
    return 2 * (size_t)TILE * max_len;
}

/* Row i of a tile sees keys 0..first+i. Scores become probabilities, zero where the row may not look. */
SL_CLONES static void softmax_tile(
    float *s, uint32_t rows, uint32_t first, uint32_t n_keys, float *lse, uint32_t ld_lse)
{
    for (uint32_t i = 0; i < rows; i++, s += n_keys) {
        uint32_t n = first + i + 1;
        float max = s[0], sum = 0;
#pragma omp simd reduction(max : max)
        for (uint32_t j = 0; j < n; j++)
            max = s[j] > max ? s[j] : max;
#pragma omp simd reduction(+ : sum)
        for (uint32_t j = 0; j < n; j++) {
            s[j] = sl_expf(s[j] - max);
            sum += s[j];
        }
        float inv = 1.0f / sum;
#pragma omp simd
        for (uint32_t j = 0; j < n; j++)
            s[j] *= inv;
        memset(s + n, 0, (n_keys - n) * sizeof *s);
        lse[(size_t)i * ld_lse] = max + logf(sum);
    }
}

/* p: scores in, probabilities out. dp: gradient of the probabilities in, of the scaled scores out. */
SL_CLONES static void softmax_tile_backward(float *p, float *dp, uint32_t rows, uint32_t first,
    uint32_t n_keys, const float *lse, uint32_t ld_lse, const float *out, const float *dout, uint32_t ld_out,
    uint32_t head_dim, float scale)
{
    for (uint32_t i = 0; i < rows; i++, p += n_keys, dp += n_keys, out += ld_out, dout += ld_out) {
        uint32_t n = first + i + 1;
        float l = lse[(size_t)i * ld_lse], dot = 0;
#pragma omp simd reduction(+ : dot)
        for (uint32_t j = 0; j < head_dim; j++)
            dot += out[j] * dout[j]; /* = sum over keys of p·dp (arXiv 2205.14135, appendix B) */
#pragma omp simd
        for (uint32_t j = 0; j < n; j++) {
            p[j] = sl_expf(p[j] - l);
            dp[j] = p[j] * (dp[j] - dot) * scale;
        }
        memset(p + n, 0, (n_keys - n) * sizeof *p);
        memset(dp + n, 0, (n_keys - n) * sizeof *dp);
    }
}

void sl_attention_forward(const struct sl_attention_dims *dims, const float *qkv, uint32_t len, float *out,
    float *lse, float *scratch)
{
    uint32_t hd = dims->head_dim, heads = dims->n_heads, kv = dims->n_kv_heads;
    uint32_t ld = (heads + 2 * kv) * hd, ld_out = heads * hd, group = heads / kv;
    float scale = 1.0f / sqrtf((float)hd);
    for (uint32_t h = 0; h < heads; h++) {
        const float *q = qkv + h * hd, *k = qkv + (heads + h / group) * hd, *v = k + kv * hd;
        for (uint32_t i = 0; i < len; i += TILE) {
            uint32_t rows = len - i < TILE ? len - i : TILE, keys = i + rows;
            sl_gemm(true, rows, keys, hd, scale, q + (size_t)i * ld, ld, k, ld, 0, scratch, keys);
            softmax_tile(scratch, rows, i, keys, lse + (size_t)i * heads + h, heads);
            sl_gemm(
                false, rows, hd, keys, 1, scratch, keys, v, ld, 0, out + (size_t)i * ld_out + h * hd, ld_out);
        }
    }
}

void sl_attention_backward(const struct sl_attention_dims *dims, const float *qkv, const float *out,
    const float *lse, const float *dout, uint32_t len, float *dqkv, float *scratch)
{
    uint32_t hd = dims->head_dim, heads = dims->n_heads, kv = dims->n_kv_heads;
    uint32_t ld = (heads + 2 * kv) * hd, ld_out = heads * hd, group = heads / kv;
    float scale = 1.0f / sqrtf((float)hd);
    float *p = scratch, *dp = scratch + (size_t)TILE * len;
    for (uint32_t i = 0; i < len; i++) /* keys and values add up over tiles and over the heads of a group */
        memset(dqkv + (size_t)i * ld + heads * hd, 0, 2 * (size_t)kv * hd * sizeof *dqkv);
    for (uint32_t h = 0; h < heads; h++) {
        uint32_t k_at = (heads + h / group) * hd, v_at = k_at + kv * hd;
        const float *k = qkv + k_at, *v = qkv + v_at;
        for (uint32_t i = 0; i < len; i += TILE) {
            uint32_t rows = len - i < TILE ? len - i : TILE, keys = i + rows;
            const float *q = qkv + (size_t)i * ld + h * hd;
            const float *o = out + (size_t)i * ld_out + h * hd, *g = dout + (size_t)i * ld_out + h * hd;
            sl_gemm(true, rows, keys, hd, scale, q, ld, k, ld, 0, p, keys);
            sl_gemm(true, rows, keys, hd, 1, g, ld_out, v, ld, 0, dp, keys);
            softmax_tile_backward(
                p, dp, rows, i, keys, lse + (size_t)i * heads + h, heads, o, g, ld_out, hd, scale);
            sl_gemm(false, rows, hd, keys, 1, dp, keys, k, ld, 0, dqkv + (size_t)i * ld + h * hd, ld);
            sl_gemm_at(keys, hd, rows, 1, p, keys, g, ld_out, 1, dqkv + v_at, ld);
            sl_gemm_at(keys, hd, rows, 1, dp, keys, q, ld, 1, dqkv + k_at, ld);
        }
    }
}

static size_t thread_floats(const struct sl_attention *a, uint32_t len)
{
    struct attend_memory m;
    uint32_t width = (a->head_dim + ATTEND_WIDEST - 1) / ATTEND_WIDEST * ATTEND_WIDEST;
    size_t forward = attend_carve(NULL, len, width, 0, &m), backward = attend_carve(NULL, len, width, 1, &m);
    return forward > backward ? forward : backward;
}

size_t sl_attend_scratch(const struct sl_attention *a, uint32_t max_len)
{
    return sl_parallel_threads() * thread_floats(a, max_len) * sizeof(float);
}

/* Work is cut into (sequence, key/value head), numbered sequence by sequence. */
struct attend_work {
    const struct sl_attention *a;
    const uint32_t *lens;
    struct sl_src qkv, out, dout;
    struct sl_dst to; /* out, or dqkv */
    float *lse;
    bool backward;
    float *scratch;
    size_t thread_floats;
};

static void attend_range(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct attend_work *w = ctx;
    const struct sl_attention *a = w->a;
    const struct sl_attention_kernels *k = sl_attention_kernels();
    size_t ld = (size_t)(a->n_heads + 2 * a->n_kv_heads) * a->head_dim, row = 0;
    size_t ld_out = (size_t)a->n_heads * a->head_dim;
    float *scratch = w->scratch + thread * w->thread_floats;
    for (uint32_t task = 0, s = 0; task < first + n; s++) {
        for (uint32_t h = 0; h < a->n_kv_heads && task < first + n; h++, task++) {
            if (task < first)
                continue;
            struct sl_src qkv = sl_src_at(w->qkv, row * ld);
            float *lse = w->lse + row * a->n_heads;
            if (w->backward)
                k->backward(a, qkv, sl_src_at(w->out, row * ld_out), lse, sl_src_at(w->dout, row * ld_out),
                    w->lens[s], h, sl_dst_at(w->to, row * ld), scratch);
            else
                k->forward(a, qkv, w->lens[s], h, sl_dst_at(w->to, row * ld_out), lse, scratch);
        }
        row += w->lens[s];
    }
}

static void attend(struct attend_work *w, uint32_t n_seqs)
{
    uint32_t longest = 0;
    for (uint32_t s = 0; s < n_seqs; s++)
        longest = w->lens[s] > longest ? w->lens[s] : longest;
    w->thread_floats = thread_floats(w->a, longest);
    sl_parallel(n_seqs * w->a->n_kv_heads, 1, attend_range, w);
}

void sl_attend_forward(const struct sl_attention *a, const uint32_t *lens, uint32_t n_seqs, struct sl_src qkv,
    struct sl_dst out, float *lse, void *scratch)
{
    struct attend_work w = {.a = a, .lens = lens, .qkv = qkv, .to = out, .lse = lse, .scratch = scratch};
    attend(&w, n_seqs);
}

void sl_attend_backward(const struct sl_attention *a, const uint32_t *lens, uint32_t n_seqs,
    struct sl_src qkv, struct sl_src out, const float *lse, struct sl_src dout, struct sl_dst dqkv,
    void *scratch)
{
    struct attend_work w = {.a = a,
        .lens = lens,
        .qkv = qkv,
        .out = out,
        .dout = dout,
        .to = dqkv,
        .lse = (float *)lse,
        .backward = true,
        .scratch = scratch};
    attend(&w, n_seqs);
}
