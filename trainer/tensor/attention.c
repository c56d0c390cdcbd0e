#include "trainer/tensor/attention.h"
#include "trainer/tensor/isa/attention_memory.h"
#include "trainer/tensor/isa/isa.h"
#include "trainer/tensor/parallel.h"

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
