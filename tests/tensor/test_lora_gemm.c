/* LoRA's products against loops in double over the operands as they were rounded. */
#include "tests/tensor/twin.h"
#include "trainer/tensor/lora_gemm.h"
#include "trainer/tensor/parallel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SEGMENTS = 4 };

struct sizes {
    enum sl_precision precision, y_type;
    uint32_t in, rank, n, width[SL_LORA_TARGETS], gap;
    uint32_t n_segments, first[MAX_SEGMENTS], rows[MAX_SEGMENTS], total;
    bool no_grad_a, no_dx;
};

/* f32 values that the precision holds exactly, and the same as an array of it. */
struct operand {
    float *f;
    void *p;
};

static struct operand operand(enum sl_precision p, const char *name, size_t n)
{
    struct operand o = {twin_data(name, n, 1), NULL};
    if (p == SL_PRECISION_F32) {
        o.p = malloc(n * sizeof(float));
        memcpy(o.p, o.f, n * sizeof(float));
    } else {
        o.p = malloc(n * sizeof(sl_bf16));
        sl_bf16_from_f32(o.f, n, o.p);
        sl_bf16_to_f32(o.p, n, o.f);
    }
    return o;
}

static float *widened(enum sl_precision p, const void *x, size_t n)
{
    float *f = malloc(n * sizeof *f);
    if (p == SL_PRECISION_F32)
        memcpy(f, x, n * sizeof *f);
    else
        sl_bf16_to_f32(x, n, f);
    return f;
}

static double *doubles(const float *f, size_t n)
{
    double *d = malloc(n * sizeof *d);
    for (size_t i = 0; i < n; i++)
        d[i] = f[i];
    return d;
}

struct adapter {
    float *a, *b[SL_LORA_TARGETS], *grad_a, *grad_b[SL_LORA_TARGETS];
    double *twin_a, *twin_b[SL_LORA_TARGETS];
    void *packed;
};

static void make_adapter(const struct sizes *z, const struct sl_lora_shape *s, unsigned i, struct adapter *ad)
{
    char name[32];
    snprintf(name, sizeof name, "a%u", i);
    size_t n_a = (size_t)z->n * z->rank * z->in;
    struct operand a = operand(z->precision, name, n_a);
    ad->a = a.f;
    free(a.p);
    ad->grad_a = twin_data("grad", n_a, 1); /* gradients are added to what is there */
    ad->twin_a = doubles(ad->grad_a, n_a);
    for (uint32_t t = 0; t < z->n; t++) {
        snprintf(name, sizeof name, "b%u.%u", i, t);
        size_t n_b = (size_t)z->width[t] * z->rank;
        struct operand b = operand(z->precision, name, n_b);
        ad->b[t] = b.f;
        free(b.p);
        ad->grad_b[t] = twin_data("grad", n_b, 1);
        ad->twin_b[t] = doubles(ad->grad_b[t], n_b);
    }
    ad->packed = aligned_alloc(64, sl_lora_packed_size(s));
    sl_lora_pack(s, ad->a, (const float *const *)ad->b, ad->packed);
}

static void free_adapter(const struct sizes *z, struct adapter *ad)
{
    free(ad->a), free(ad->grad_a), free(ad->twin_a), free(ad->packed);
    for (uint32_t t = 0; t < z->n; t++)
        free(ad->b[t]), free(ad->grad_b[t]), free(ad->twin_b[t]);
}

/* Everything for one row, in double, onto the twins. */
static void twin_row(const struct sizes *z, const struct sl_lora_shape *s, struct adapter *ad, const float *x,
    const float *dy, double *y, double *dx)
{
    for (uint32_t t = 0; t < z->n; t++)
        for (uint32_t r = 0; r < z->rank; r++) {
            const float *a = ad->a + (size_t)(t * z->rank + r) * z->in;
            double u = 0, du = 0;
            for (uint32_t k = 0; k < z->in; k++)
                u += (double)x[k] * a[k];
            for (uint32_t o = 0; o < z->width[t]; o++)
                du += (double)s->scale * dy[s->col[t] + o] * ad->b[t][o * z->rank + r];
            for (uint32_t o = 0; o < z->width[t]; o++) {
                y[s->col[t] + o] += s->scale * u * ad->b[t][o * z->rank + r];
                ad->twin_b[t][o * z->rank + r] += s->scale * u * dy[s->col[t] + o];
            }
            for (uint32_t k = 0; k < z->in; k++) {
                dx[k] += du * a[k];
                ad->twin_a[(size_t)(t * z->rank + r) * z->in + k] += du * x[k];
            }
        }
}

static void check(struct sizes z)
{
    struct sl_lora_shape s = {.precision = z.precision, .in = z.in, .rank = z.rank, .n = z.n, .scale = 1.7f};
    uint32_t out = 3; /* columns before the first target that belong to nobody here */
    for (uint32_t t = 0; t < z.n; t++) {
        s.col[t] = out;
        s.width[t] = z.width[t];
        out += z.width[t] + z.gap;
    }
    uint32_t ranks = z.n * z.rank, ld_x = z.in + z.gap;
    struct adapter adapters[MAX_SEGMENTS];
    struct sl_lora_segment segments[MAX_SEGMENTS];
    for (uint32_t i = 0; i < z.n_segments; i++) {
        make_adapter(&z, &s, i, &adapters[i]);
        segments[i] = (struct sl_lora_segment){.first = z.first[i],
            .rows = z.rows[i],
            .packed = adapters[i].packed,
            .grad_a = z.no_grad_a ? NULL : adapters[i].grad_a};
        memcpy(segments[i].grad_b, adapters[i].grad_b, sizeof segments[i].grad_b);
    }
    struct operand x = operand(z.precision, "x", (size_t)z.total * ld_x);
    struct operand dy = operand(z.precision, "dy", (size_t)z.total * out);
    struct operand y = operand(z.y_type, "y", (size_t)z.total * out);
    struct operand dx = operand(z.y_type, "dx", (size_t)z.total * ld_x);
    double *twin_y = doubles(y.f, (size_t)z.total * out), *twin_dx = doubles(dx.f, (size_t)z.total * ld_x);
    float *u = calloc((size_t)z.total * ranks, sizeof *u), *du = calloc((size_t)z.total * ranks, sizeof *du);

    sl_lora_forward(&s, segments, z.n_segments, x.p, ld_x, u, y.p, out, z.y_type);
    sl_lora_backward(
        &s, segments, z.n_segments, x.p, ld_x, u, dy.p, out, du, z.no_dx ? NULL : dx.p, ld_x, z.y_type);
    for (uint32_t i = 0; i < z.n_segments; i++)
        for (uint32_t r = z.first[i]; r < z.first[i] + z.rows[i]; r++)
            twin_row(&z, &s, &adapters[i], x.f + (size_t)r * ld_x, dy.f + (size_t)r * out,
                twin_y + (size_t)r * out, twin_dx + (size_t)r * ld_x);

    double tolerance = z.precision == SL_PRECISION_F32 ? 1e-6 : 5e-3;
    float *ours = widened(z.y_type, y.p, (size_t)z.total * out);
    twin_close(ours, twin_y, (size_t)z.total * out, tolerance, "y");
    free(ours);
    ours = widened(z.y_type, dx.p, (size_t)z.total * ld_x);
    if (!z.no_dx)
        twin_close(ours, twin_dx, (size_t)z.total * ld_x, tolerance, "dx");
    free(ours);
    for (uint32_t i = 0; i < z.n_segments; i++) {
        if (!z.no_grad_a)
            twin_close(adapters[i].grad_a, adapters[i].twin_a, (size_t)ranks * z.in, tolerance, "dA");
        for (uint32_t t = 0; t < z.n; t++)
            twin_close(
                adapters[i].grad_b[t], adapters[i].twin_b[t], (size_t)z.width[t] * z.rank, tolerance, "dB");
        free_adapter(&z, &adapters[i]);
    }
    free(x.f), free(x.p), free(dy.f), free(dy.p), free(y.f), free(y.p), free(dx.f), free(dx.p);
    free(twin_y), free(twin_dx), free(u), free(du);
}

static void all_sizes(enum sl_precision p)
{
    if (!sl_precision_supported(p)) {
        printf("SKIP: no bf16 arithmetic in this CPU\n");
        return;
    }
    static const uint32_t ranks[] = {1, 3, 8, 16, 33}, rows[] = {1, 2, 7, 16, 129, 300};
    unsigned turn = 0;
    for (unsigned r = 0; r < sizeof ranks / sizeof *ranks; r++)
        for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
            for (unsigned odd = 0; odd < 2; odd++, turn++)
                check((struct sizes){.precision = p,
                    .y_type = turn % 3 == 0 ? p : SL_PRECISION_F32,
                    .in = odd ? 61 : 96,
                    .rank = ranks[r],
                    .n = 1 + turn % 3,
                    .width = {odd ? 41 : 64, 32, odd ? 7 : 32},
                    .gap = turn % 4 == 1 ? 5 : 0,
                    .n_segments = 1,
                    .rows = {rows[i]},
                    .total = rows[i]});
}

static void lora_f32__agrees_with_loops_in_double(void **state)
{
    all_sizes(SL_PRECISION_F32);
}

static void lora_bf16__agrees_with_loops_in_double(void **state)
{
    all_sizes(SL_PRECISION_BF16);
}

static void both(struct sizes z)
{
    check(z);
    if (!sl_precision_supported(SL_PRECISION_BF16))
        return;
    z.precision = z.y_type = SL_PRECISION_BF16;
    check(z);
}

static const struct sizes grouped = {.in = 96,
    .rank = 8,
    .n = 2,
    .width = {64, 33},
    .n_segments = 4,
    .first = {0, 9, 10, 40},
    .rows = {9, 1, 23, 129},
    .total = 170};

/* Rows 33..39 and the last one belong to nobody: the twin leaves them as they were. */
static void lora_segments__each_have_their_own_adapter(void **state)
{
    both(grouped);
}

static void lora_backward__leaves_out_what_is_not_asked_for(void **state)
{
    struct sizes z = grouped;
    z.no_grad_a = true;
    both(z);
    z.no_dx = true;
    both(z);
    z.no_grad_a = false;
    both(z);
}

static void lora_segments__are_right_with_more_threads_too(void **state)
{
    sl_parallel_set_threads(3);
    both(grouped);
    sl_parallel_set_threads(1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lora_f32__agrees_with_loops_in_double),
        cmocka_unit_test(lora_bf16__agrees_with_loops_in_double),
        cmocka_unit_test(lora_segments__each_have_their_own_adapter),
        cmocka_unit_test(lora_backward__leaves_out_what_is_not_asked_for),
        cmocka_unit_test(lora_segments__are_right_with_more_threads_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
