/* Attention against plain loops in double. */
#include "tests/tensor/twin.h"
#include "trainer/tensor/attention.h"
#include "trainer/tensor/parallel.h"
#include "trainer/tensor/rope.h"

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

static void twin_head(const struct sl_attention *dims, const float *qkv, const float *dout, uint32_t len,
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

/* A batch of sequences in one storage, turned by their positions or not. */
struct batch {
    struct sl_attention a;
    uint32_t n_seqs, lens[4], rows, longest, ld, ld_out;
    float *rope;
    enum sl_precision precision;
};

static struct batch make_batch(uint32_t heads, uint32_t kv, uint32_t hd, uint32_t n, const uint32_t *lens,
    bool rope, enum sl_precision precision)
{
    struct batch b = {.a = {heads, kv, hd, NULL},
        .n_seqs = n,
        .ld = (heads + 2 * kv) * hd,
        .ld_out = heads * hd,
        .precision = precision};
    for (uint32_t i = 0; i < n; i++) {
        b.lens[i] = lens[i];
        b.rows += lens[i];
        b.longest = lens[i] > b.longest ? lens[i] : b.longest;
    }
    if (rope) {
        b.rope = malloc((size_t)b.longest * hd * sizeof *b.rope);
        sl_rope_table(100, b.longest, hd, b.rope);
        b.a.rope = b.rope;
    }
    return b;
}

/* Turns query and key heads of all rows, as Hugging Face does, or turns their gradients back. */
static void turn_rows(const struct batch *b, float *qkv, double *gradient)
{
    uint32_t hd = b->a.head_dim, half = hd / 2, turned = b->a.n_heads + b->a.n_kv_heads, row = 0;
    for (uint32_t s = 0; b->rope && s < b->n_seqs; s++) {
        for (uint32_t p = 0; p < b->lens[s]; p++, row++) {
            for (uint32_t i = 0; i < turned * half; i++) {
                uint32_t j = i % half;
                size_t u = (size_t)row * b->ld + i / half * hd + j, v = u + half;
                double c = b->rope[p * hd + j], sine = b->rope[p * hd + half + j];
                if (qkv) {
                    double x = qkv[u], y = qkv[v];
                    qkv[u] = (float)(x * c - y * sine);
                    qkv[v] = (float)(y * c + x * sine);
                } else {
                    double x = gradient[u], y = gradient[v];
                    gradient[u] = x * c + y * sine;
                    gradient[v] = y * c - x * sine;
                }
            }
        }
    }
}

static void check_batch(uint32_t heads, uint32_t kv, uint32_t hd, uint32_t n, const uint32_t *lens, bool rope,
    enum sl_precision precision)
{
    struct batch b = make_batch(heads, kv, hd, n, lens, rope, precision);
    size_t n_in = (size_t)b.rows * b.ld, n_out = (size_t)b.rows * b.ld_out;
    struct twin_matrix qkv = twin_matrix("qkv", n_in, 2, precision),
                       dout = twin_matrix("dout", n_out, 1, precision), out = twin_empty(n_out, precision),
                       dqkv = twin_empty(n_in, precision);
    float *lse = malloc((size_t)b.rows * heads * sizeof *lse);
    void *scratch = aligned_alloc(64, (sl_attend_scratch(&b.a, b.longest) + 63) / 64 * 64);
    struct twin t = {
        calloc(n_out, sizeof(double)), calloc(n_in, sizeof(double)), calloc(2 * b.longest, sizeof(double))};
    struct twin at = t;
    turn_rows(&b, qkv.value, NULL);
    const float *in = qkv.value, *g = dout.value;
    for (uint32_t s = 0; s < n; s++) {
        for (uint32_t h = 0; h < heads; h++)
            twin_head(&b.a, in, g, lens[s], h, &at);
        in += (size_t)lens[s] * b.ld;
        g += (size_t)lens[s] * b.ld_out;
        at.out += (size_t)lens[s] * b.ld_out;
        at.dqkv += (size_t)lens[s] * b.ld;
    }
    turn_rows(&b, NULL, t.dqkv);
    sl_attend_forward(&b.a, lens, n, twin_src(&qkv), twin_dst(&out), lse, scratch);
    sl_attend_backward(
        &b.a, lens, n, twin_src(&qkv), twin_src(&out), lse, twin_src(&dout), twin_dst(&dqkv), scratch);
    /* In bf16 turned queries, probabilities and their gradients are rounded for the products, too. */
    bool bf16 = precision == SL_PRECISION_BF16;
    twin_matrix_close(&out, t.out, bf16 ? 4e-3 : 2e-6, "out");
    twin_matrix_close(&dqkv, t.dqkv, bf16 ? 8e-3 : 5e-6, "gradient");
    void *all[] = {lse, scratch, t.out, t.dqkv, t.p, b.rope};
    for (unsigned i = 0; i < 6; i++)
        free(all[i]);
    twin_free(&qkv);
    twin_free(&dout);
    twin_free(&out);
    twin_free(&dqkv);
}

static void check_batches(void)
{
    for (unsigned i = 0; i < 4; i++) {
        bool rope = i & 1;
        enum sl_precision p = i & 2 ? SL_PRECISION_BF16 : SL_PRECISION_F32;
        check_batch(1, 1, 16, 1, (uint32_t[]){1}, rope, p);
        check_batch(8, 4, 14, 3, (uint32_t[]){7, 1, 9}, rope, p);
        check_batch(6, 2, 32, 2, (uint32_t[]){61, 64}, rope, p);
        check_batch(2, 2, 40, 2, (uint32_t[]){12, 129}, rope, p);
        check_batch(4, 1, 80, 1, (uint32_t[]){67}, rope, p);
        check_batch(2, 1, 96, 1, (uint32_t[]){130}, rope, p);
        check_batch(1, 1, 64, 1, (uint32_t[]){1100}, rope, p);
        check_batch(2, 1, 128, 4, (uint32_t[]){200, 1, 65, 7}, rope, p);
    }
}

static void attend__agrees_with_plain_loops_in_every_storage_and_instruction_set(void **state)
{
    twin_every_isa(check_batches);
}

/* Sequences and heads are divided over the threads; each is computed as it is alone. */
static void attend__is_the_same_to_the_bit_with_two_threads(void **state)
{
    enum { HEADS = 4, KV = 2, HD = 40, ROWS = 90, N = ROWS * (HEADS + 2 * KV) * HD, OUT = ROWS * HEADS * HD };
    const uint32_t lens[] = {17, 70, 3};
    struct sl_attention a = {HEADS, KV, HD, NULL};
    float *qkv = twin_data("qkv", N, 2), *dout = twin_data("dout", OUT, 1), lse[2][ROWS * HEADS];
    float *out[2], *dqkv[2];
    for (uint32_t threads = 1; threads <= 2; threads++) {
        uint32_t t = threads - 1;
        sl_parallel_set_threads(threads);
        void *scratch = aligned_alloc(64, (sl_attend_scratch(&a, 70) + 63) / 64 * 64);
        out[t] = malloc(OUT * sizeof(float));
        dqkv[t] = malloc(N * sizeof(float));
        sl_attend_forward(&a, lens, 3, sl_src_f32(qkv), sl_dst_f32(out[t]), lse[t], scratch);
        sl_attend_backward(&a, lens, 3, sl_src_f32(qkv), sl_src_f32(out[t]), lse[t], sl_src_f32(dout),
            sl_dst_f32(dqkv[t]), scratch);
        free(scratch);
    }
    sl_parallel_set_threads(1);
    assert_memory_equal(out[0], out[1], OUT * sizeof(float));
    assert_memory_equal(dqkv[0], dqkv[1], N * sizeof(float));
    assert_memory_equal(lse[0], lse[1], sizeof lse[0]);
    void *all[] = {qkv, dout, out[0], out[1], dqkv[0], dqkv[1]};
    for (unsigned i = 0; i < 6; i++)
        free(all[i]);
}

/* Scores far beyond the range of the exponential: one key takes all. */
static void attend__does_not_overflow(void **state)
{
    enum { LEN = 20, HD = 16 };
    float qkv[LEN * 3 * HD] = {0}, out[LEN * HD], lse[LEN];
    for (int i = 0; i < LEN; i++) {
        qkv[i * 3 * HD] = 1000;
        qkv[i * 3 * HD + HD] = (float)i * 10;
        qkv[i * 3 * HD + 2 * HD] = (float)i;
    }
    struct sl_attention a = {1, 1, HD, NULL};
    void *scratch = aligned_alloc(64, (sl_attend_scratch(&a, LEN) + 63) / 64 * 64);
    sl_attend_forward(&a, &(uint32_t){LEN}, 1, sl_src_f32(qkv), sl_dst_f32(out), lse, scratch);
    for (int i = 0; i < LEN; i++)
        assert_true(fabsf(out[i * HD] - (float)i) <= 1e-6f * LEN &&
                    fabsf(lse[i] - 2500.0f * (float)i) <= 1e-6f * 2500 * 20);
    free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attend__agrees_with_plain_loops_in_every_storage_and_instruction_set),
        cmocka_unit_test(attend__is_the_same_to_the_bit_with_two_threads),
        cmocka_unit_test(attend__does_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
