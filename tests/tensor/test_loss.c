#include "tests/tensor/twin.h"
#include "trainer/tensor/loss.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 7, VOCAB = 129, N = ROWS * VOCAB };
static const uint32_t targets[ROWS] = {0, 128, 5, 5, 64, 1, 99};

static void cross_entropy__agrees_with_its_definition(void **state)
{
    float *logits = twin_data("logits", N, 9), kept[N];
    double nll[ROWS], nll_again[ROWS], grad[N];
    memcpy(kept, logits, sizeof kept);
    sl_cross_entropy(logits, targets, ROWS, VOCAB, 0, nll);
    assert_memory_equal(kept, logits, sizeof kept);
    for (int i = 0; i < ROWS; i++) {
        double sum = 0;
        for (int j = 0; j < VOCAB; j++)
            sum += exp((double)kept[i * VOCAB + j]);
        double exact = log(sum) - kept[i * VOCAB + targets[i]];
        assert_true(fabs(nll[i] - exact) < 1e-6 * (1 + exact));
        for (int j = 0; j < VOCAB; j++)
            grad[i * VOCAB + j] = exp((double)kept[i * VOCAB + j]) / sum - (j == (int)targets[i]);
    }
    sl_cross_entropy(logits, targets, ROWS, VOCAB, 1, nll_again);
    assert_memory_equal(nll, nll_again, sizeof nll);
    twin_close(logits, grad, N, 1e-6, "gradient");
    free(logits);
}

/* The loss through a packed head against the definition, on the values as they are stored. */
static void check_head(uint32_t rows, uint32_t d, uint32_t vocab, uint32_t tile, enum sl_precision precision)
{
    struct twin_matrix w = twin_matrix("head", (size_t)vocab * d, 0.8f, precision),
                       x = twin_matrix("x", (size_t)rows * d, 3, precision);
    struct sl_packed_config config = {.w = w.value,
        .in = d,
        .out = vocab,
        .out_in = true,
        .precision = precision,
        .backward = true,
        .tile = tile};
    struct sl_packed *head;
    assert_int_equal(sl_packed_create(&config, &head), 0);
    uint32_t *target = malloc(rows * sizeof *target);
    for (uint32_t i = 0; i < rows; i++)
        target[i] = (uint32_t)(sl_rng_u64(3, i) % vocab);
    target[0] = vocab - 1;
    double *nll = malloc(rows * sizeof *nll), *again = malloc(rows * sizeof *again),
           *p = malloc(vocab * sizeof *p), *grad = calloc((size_t)rows * d, sizeof *grad);
    float *dx = malloc((size_t)rows * d * sizeof *dx);
    void *scratch = aligned_alloc(64, (sl_head_loss_scratch(head, d, precision, rows) + 63) / 64 * 64);
    assert_int_equal(sl_head_loss(head, d, twin_src(&x), rows, rows, target, nll, dx, scratch), 0);
    assert_int_equal(sl_head_loss(head, d, twin_src(&x), rows, rows, target, again, NULL, scratch), 0);
    assert_memory_equal(nll, again, rows * sizeof *nll);
    for (uint32_t i = 0; i < rows; i++) {
        double sum = 0;
        for (uint32_t v = 0; v < vocab; v++) {
            double z = 0;
            for (uint32_t j = 0; j < d; j++)
                z += (double)x.value[i * d + j] * w.value[(size_t)v * d + j];
            p[v] = exp(z);
            sum += p[v];
        }
        assert_true(fabs(nll[i] - log(sum / p[target[i]])) < 2e-6 * (1 + fabs(nll[i])));
        for (uint32_t v = 0; v < vocab; v++)
            for (uint32_t j = 0; j < d; j++)
                grad[i * d + j] += (p[v] / sum - (v == target[i])) * w.value[(size_t)v * d + j];
    }
    /* bf16: the exponentials are rounded for the second product, each by 2^-9 at most. */
    twin_close(dx, grad, (size_t)rows * d, precision == SL_PRECISION_F32 ? 2e-6 : 2e-3, "gradient");
    sl_packed_free(head);
    void *all[] = {target, nll, again, p, grad, dx, scratch};
    for (unsigned i = 0; i < 7; i++)
        free(all[i]);
    twin_free(&w);
    twin_free(&x);
}

static void check_heads(void)
{
    for (unsigned bf16 = 0; bf16 < 2; bf16++) {
        enum sl_precision p = bf16 ? SL_PRECISION_BF16 : SL_PRECISION_F32;
        if (!sl_precision_supported(p))
            continue;
        check_head(1, 64, 1009, 128, p);
        check_head(7, 61, 333, 0, p);
        check_head(129, 48, 1009, 128, p);
        check_head(300, 32, 97, 50, p);
        check_head(16, 16, 3, 1, p);
    }
}

static void head_loss__agrees_with_its_definition(void **state)
{
    twin_every_isa(check_heads);
}

/* Logits that grow from tile to tile, far beyond the range of the exponential. */
static void head_loss__does_not_overflow(void **state)
{
    float w[40], x = 100, dx;
    for (int v = 0; v < 40; v++)
        w[v] = (float)v;
    struct sl_packed_config config = {
        .w = w, .in = 1, .out = 40, .out_in = true, .backward = true, .tile = 7};
    struct sl_packed *head;
    assert_int_equal(sl_packed_create(&config, &head), 0);
    void *scratch = aligned_alloc(64, (sl_head_loss_scratch(head, 1, SL_PRECISION_F32, 1) + 63) / 64 * 64);
    double nll;
    assert_int_equal(sl_head_loss(head, 1, sl_src_f32(&x), 1, 1, &(uint32_t){30}, &nll, &dx, scratch), 0);
    assert_true(fabs(nll - 900) < 1e-3 && fabsf(dx - 9) < 1e-5f);
    free(scratch);
    sl_packed_free(head);
}

/* Shifting all logits of a row changes nothing, however far. */
static void cross_entropy__does_not_overflow(void **state)
{
    float logits[] = {5000, 5001, 4000};
    double nll;
    sl_cross_entropy(logits, &(uint32_t){0}, 1, 3, 1, &nll);
    assert_true(fabs(nll - log1p(exp(1))) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cross_entropy__agrees_with_its_definition),
        cmocka_unit_test(head_loss__agrees_with_its_definition),
        cmocka_unit_test(head_loss__does_not_overflow),
        cmocka_unit_test(cross_entropy__does_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
