/* The kernels against PyTorch's results (tests/tensor/reference.py), in both storages and with every
 * instruction set. The inputs are bf16 values, so that both storages hold the same. */
#include "tests/tensor/golden.h"
#include "tests/tensor/twin.h"
#include "trainer/tensor/act.h"
#include "trainer/tensor/attention.h"
#include "trainer/tensor/loss.h"
#include "trainer/tensor/norm.h"
#include "trainer/tensor/rng.h"
#include "trainer/tensor/rope.h"

#include <math.h>

enum { STRIDE = 7 }; /* of the values that the file holds */
static const float eps = 1e-5f;
static struct golden golden;

/* twin_data rounded to bf16, stored as asked. */
static struct twin_matrix input(const char *name, size_t n, float scale, enum sl_precision precision)
{
    struct twin_matrix m = twin_matrix(name, n, scale, SL_PRECISION_BF16);
    if (precision == SL_PRECISION_BF16)
        return m;
    free(m.p);
    m.precision = precision;
    m.p = malloc(n * sizeof(float));
    memcpy(m.p, m.value, n * sizeof(float));
    return m;
}

/* Every STRIDE-th value against the record CASE.WHAT. Frees m. */
static void compare(struct twin_matrix *m, const char *case_name, const char *what, double f32, double bf16)
{
    char name[64];
    size_t n = (m->n + STRIDE - 1) / STRIDE;
    float *theirs = malloc(n * sizeof *theirs), *ours = malloc(n * sizeof *ours);
    double *wide = malloc(n * sizeof *wide);
    snprintf(name, sizeof name, "%s.%s", case_name, what);
    golden_get(&golden, name, n, sizeof *theirs, theirs);
    bool half = m->precision == SL_PRECISION_BF16;
    for (size_t i = 0; i < n; i++) {
        ours[i] = half ? sl_bf16_widen(((sl_bf16 *)m->p)[i * STRIDE]) : ((float *)m->p)[i * STRIDE];
        wide[i] = theirs[i];
    }
    twin_close(ours, wide, n, half ? bf16 : f32, name);
    free(theirs);
    free(ours);
    free(wide);
    twin_free(m);
}

static void attention_case(const char *name, uint32_t heads, uint32_t kv, uint32_t hd, uint32_t rows,
    float theta, enum sl_precision p)
{
    size_t n_in = (size_t)rows * (heads + 2 * kv) * hd, n_out = (size_t)rows * heads * hd;
    struct twin_matrix qkv = input("qkv", n_in, 2, p), dout = input("dout", n_out, 1, p),
                       out = twin_empty(n_out, p), dqkv = twin_empty(n_in, p);
    float *table = malloc((size_t)rows * hd * sizeof *table),
          *lse = malloc((size_t)rows * heads * sizeof *lse);
    struct sl_attention a = {heads, kv, hd, theta > 0 ? table : NULL};
    sl_rope_table(theta > 0 ? theta : 1, rows, hd, table);
    void *scratch = aligned_alloc(64, (sl_attend_scratch(&a, rows) + 63) / 64 * 64);
    sl_attend_forward(&a, &rows, 1, twin_src(&qkv), twin_dst(&out), lse, scratch);
    sl_attend_backward(
        &a, &rows, 1, twin_src(&qkv), twin_src(&out), lse, twin_src(&dout), twin_dst(&dqkv), scratch);
    compare(&out, name, "out", 2e-6, 5e-3);
    compare(&dqkv, name, "dqkv", 5e-6, 1e-2);
    twin_free(&qkv);
    twin_free(&dout);
    free(table);
    free(lse);
    free(scratch);
}

static void rows_case(const char *name, uint32_t rows, uint32_t d, enum sl_precision p)
{
    size_t n = (size_t)rows * d;
    struct twin_matrix x = input("x", n, 2, p), dy = input("dy", n, 1, p), up = input("up", n, 6, p),
                       gate_up = input("gate_up", 2 * n, 6, p), w = input("w", d, 1, SL_PRECISION_F32),
                       b = input("b", d, 1, SL_PRECISION_F32);
    float *mean = malloc(rows * sizeof *mean), *rstd = malloc(rows * sizeof *rstd);
    struct sl_src none = sl_src_f32(NULL);
    for (int centred = 0; centred < 2; centred++) {
        struct sl_norm k = {centred, d, eps, w.p, b.p};
        struct twin_matrix y = twin_empty(n, p), dx = twin_empty(n, p);
        sl_norm_forward(&k, twin_src(&x), none, rows, sl_dst_f32(NULL), twin_dst(&y),
            (struct sl_norm_stats){mean, rstd}, NULL);
        sl_norm_backward(&k, twin_src(&dy), twin_src(&x), (struct sl_norm_stats){mean, rstd}, none, rows,
            twin_dst(&dx), NULL, NULL, NULL);
        compare(&y, name, centred ? "layer" : "rms", 1e-6, 4e-3);
        compare(&dx, name, centred ? "dlayer" : "drms", 2e-6, 4e-3);
    }
    for (int glu = 0; glu < 2; glu++) {
        enum sl_act kind = glu ? SL_ACT_SWIGLU : SL_ACT_GELU;
        struct twin_matrix *in = glu ? &gate_up : &up, y = twin_empty(n, p), dx = twin_empty(in->n, p);
        sl_act_forward(kind, twin_src(in), rows, d, twin_dst(&y));
        sl_act_backward(kind, twin_src(in), twin_src(&dy), rows, d, twin_dst(&dx));
        compare(&y, name, glu ? "swiglu" : "gelu", 2e-6, 4e-3);
        compare(&dx, name, glu ? "dswiglu" : "dgelu", 2e-6, 4e-3);
    }
    struct twin_matrix *all[] = {&x, &dy, &up, &gate_up, &w, &b};
    for (unsigned i = 0; i < 6; i++)
        twin_free(all[i]);
    free(mean);
    free(rstd);
}

static void head_case(const char *name, uint32_t rows, uint32_t d, uint32_t vocab, enum sl_precision p)
{
    if (!sl_precision_supported(p))
        return;
    struct twin_matrix x = input("x", (size_t)rows * d, 3, p),
                       w = input("head", (size_t)vocab * d, 0.8f, SL_PRECISION_F32),
                       dx = twin_empty((size_t)rows * d, SL_PRECISION_F32),
                       loss = twin_empty(rows, SL_PRECISION_F32);
    struct sl_packed_config config = {
        .w = w.p, .in = d, .out = vocab, .out_in = true, .precision = p, .backward = true, .tile = 100};
    struct sl_packed *head;
    assert_int_equal(sl_packed_create(&config, &head), 0);
    uint32_t *targets = malloc(rows * sizeof *targets);
    double *nll = malloc(rows * sizeof *nll);
    for (uint32_t i = 0; i < rows; i++)
        targets[i] = (uint32_t)((sl_rng_u64(sl_rng_key(1, "targets"), i) >> 33) % vocab);
    void *scratch = aligned_alloc(64, (sl_head_loss_scratch(head, d, p, rows) + 63) / 64 * 64);
    assert_int_equal(sl_head_loss(head, d, twin_src(&x), rows, rows, targets, nll, dx.p, scratch), 0);
    for (uint32_t i = 0; i < rows; i++)
        ((float *)loss.p)[i] = (float)nll[i];
    bool bf16 = p == SL_PRECISION_BF16;
    compare(&loss, name, "nll", bf16 ? 5e-6 : 1e-6, 0);
    compare(&dx, name, "dx", bf16 ? 2e-3 : 2e-6, 0);
    sl_packed_free(head);
    twin_free(&x);
    twin_free(&w);
    free(targets);
    free(nll);
    free(scratch);
}

/* The same tables are in reference.py. */
static void check_all(void)
{
    for (int bf16 = 0; bf16 < 2; bf16++) {
        enum sl_precision p = bf16 ? SL_PRECISION_BF16 : SL_PRECISION_F32;
        attention_case("attention_32_1", 1, 1, 32, 1, 0, p);
        attention_case("attention_40_7", 4, 2, 40, 7, 10000, p);
        attention_case("attention_64_61", 6, 2, 64, 61, 0, p);
        attention_case("attention_80_129", 2, 1, 80, 129, 10000, p);
        attention_case("attention_128_129", 1, 1, 128, 129, 0, p);
        rows_case("rows_1", 1, 61, p);
        rows_case("rows_7", 7, 64, p);
        rows_case("rows_129", 129, 40, p);
        head_case("head_1", 1, 48, 1009, p);
        head_case("head_7", 7, 61, 333, p);
        head_case("head_129", 129, 32, 1009, p);
    }
}

static void kernels__agree_with_pytorch(void **state)
{
    golden = golden_read(GOLDEN_DIR, "kernels");
    twin_every_isa(check_all);
    free(golden.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels__agree_with_pytorch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
