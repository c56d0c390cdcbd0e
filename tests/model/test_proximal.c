/* The stability term against PyTorch's autograd, finite differences, and what it must not depend on. */
#include "tests/model/fixture.h"
#include "tests/model/golden/proximal.h"
#include "trainer/model/proximal.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { IN = 6, OUT = 5, RANK = 3 }; /* of tests/model/proximal_golden.py */

static const struct sl_model_config tiny = {.family = SL_FAMILY_LLAMA,
    .n_layers = 2,
    .d_model = IN,
    .n_heads = 1,
    .n_kv_heads = 1,
    .head_dim = OUT,
    .d_ff = 7,
    .vocab = 97,
    .max_positions = 160,
    .norm_eps = 1e-5f,
    .rope_theta = 10000,
    .tied_embeddings = true};

static struct sl_adapter *golden_adapter(bool freeze_a)
{
    struct sl_lora_config lora = {
        .rank = RANK, .alpha = 4.5f, .targets = 1u << SL_Q_PROJ, .freeze_a = freeze_a, .seed = 7};
    struct sl_adapter *adapter;
    assert_int_equal(sl_adapter_create(&tiny, &lora, 0, 2, &adapter), 0);
    float *a = sl_adapter_a(adapter, 1, SL_Q_PROJ), *b = sl_adapter_b(adapter, 1, SL_Q_PROJ);
    for (int i = 0; i < RANK; i++)
        for (int k = 0; k < IN; k++)
            a[i * IN + k] = (float)((7 * i + 3 * k) % 11 - 5) / 8;
    for (int o = 0; o < OUT; o++)
        for (int i = 0; i < RANK; i++)
            b[o * RANK + i] = (float)((5 * o + 2 * i) % 13 - 6) / 16;
    return adapter;
}

static void close_to(const float *ours, const double *golden, size_t n)
{
    for (size_t i = 0; i < n; i++)
        assert_true(fabs(ours[i] - golden[i]) <= 1e-6 * (1 + fabs(golden[i])));
}

static void proximal_add__is_pytorchs_value_and_gradient(void **state)
{
    for (int frozen = 0; frozen < 2; frozen++) {
        struct sl_adapter *adapter = golden_adapter(frozen);
        struct sl_block block = sl_adapter_block(adapter, 1);
        assert_true(fabs(sl_proximal_add(adapter, 1, NULL, 0.7, 11, block.grad) - golden_value) < 1e-9);
        close_to(sl_adapter_grad_b(adapter, 1, SL_Q_PROJ), golden_grad_b, OUT * RANK);
        if (!frozen)
            close_to(sl_adapter_grad_a(adapter, 1, SL_Q_PROJ), golden_grad_a, RANK * IN);
        sl_adapter_free(adapter);
    }
}

/* G's blocks lie in vectors of their own. */
static void proximal_add__of_a_vector_elsewhere(void **state)
{
    for (int frozen = 0; frozen < 2; frozen++) {
        struct sl_adapter *adapter = golden_adapter(frozen);
        struct sl_block block = sl_adapter_block(adapter, 1);
        float copy[RANK * (IN + OUT)], grad[RANK * (IN + OUT)] = {0};
        memcpy(copy, block.data, block.n * sizeof *copy);
        memset(block.data, 0, block.n * sizeof *copy);
        assert_true(fabs(sl_proximal_add(adapter, 1, copy, 0.7, 11, grad) - golden_value) < 1e-9);
        close_to(grad + block.n - OUT * RANK, golden_grad_b, OUT * RANK);
        sl_adapter_free(adapter);
    }
}

/* Both families, every target: central differences of the value. It is quartic in the factors, so that a
 * step of 2^-6 is a matter of float rounding. */
static void proximal_add__gradient_is_the_values_slope(void **state)
{
    const struct sl_model_config *const shapes[] = {&fixture_llama, &fixture_gpt2};
    const double tokens = 13, strength = 0.4;
    const float step = 1.0f / 64;
    for (int s = 0; s < 2; s++) {
        struct sl_lora_config lora = {
            .rank = 4, .alpha = 8, .targets = fixture_all_targets(shapes[s]->family), .seed = 3};
        struct sl_adapter *adapter = fixture_adapter(shapes[s], &lora, 1, 3);
        struct sl_block block = sl_adapter_block(adapter, 2);
        double value = sl_proximal_add(adapter, 2, NULL, strength, tokens, block.grad);
        assert_true(value > 0);
        for (size_t i = 0; i < block.n; i += 37) {
            float kept = block.data[i];
            block.data[i] = kept + step;
            double up = sl_proximal_add(adapter, 2, NULL, strength, 0, NULL), above = block.data[i];
            block.data[i] = kept - step;
            double down = sl_proximal_add(adapter, 2, NULL, strength, 0, NULL), below = block.data[i];
            block.data[i] = kept;
            double slope = tokens * (up - down) / (above - below);
            assert_true(fabs(block.grad[i] - slope) <= 1e-5 * (1 + fabs(slope)));
        }
        sl_adapter_free(adapter);
    }
}

/* B/2 with 2A is the same update, and the same term (rules P8): powers of two are exact. */
static void proximal_add__does_not_depend_on_the_gauge(void **state)
{
    struct sl_adapter *adapter = golden_adapter(false);
    double before = sl_proximal_add(adapter, 1, NULL, 0.7, 11, NULL);
    float *a = sl_adapter_a(adapter, 1, SL_Q_PROJ), *b = sl_adapter_b(adapter, 1, SL_Q_PROJ);
    for (int i = 0; i < RANK * IN; i++)
        a[i] *= 2;
    for (int i = 0; i < RANK * OUT; i++)
        b[i] /= 2;
    assert_true(sl_proximal_add(adapter, 1, NULL, 0.7, 11, NULL) == before);
    sl_adapter_free(adapter);
}

static void proximal_add__without_strength_does_not_touch(void **state)
{
    struct sl_adapter *adapter = golden_adapter(false);
    struct sl_block block = sl_adapter_block(adapter, 1);
    assert_true(sl_proximal_add(adapter, 1, NULL, 0, 11, block.grad) == 0);
    for (size_t i = 0; i < block.n; i++)
        assert_true(block.grad[i] == 0);
    sl_adapter_free(adapter);
}

static void proximal_alpha__is_the_share_that_trains(void **state)
{
    struct sl_lora_config lora = {.rank = 1, .alpha = 8, .targets = 1u << SL_Q_PROJ};
    double all = 4 * IN * OUT + 3 * IN * 7; /* q, k, v, o and the three of the MLP */
    assert_true(fabs(sl_proximal_alpha(&tiny, &lora) - (IN + OUT) / all) < 1e-12);
    assert_true(fabs(sl_proximal_strength(&tiny, &lora, 2) - 2 * (1 - (IN + OUT) / all)) < 1e-12);
    lora.freeze_a = true;
    assert_true(fabs(sl_proximal_alpha(&tiny, &lora) - OUT / all) < 1e-12);
    lora.rank = 4096;
    assert_true(sl_proximal_alpha(&tiny, &lora) == 1);
    assert_true(sl_proximal_strength(&tiny, &lora, 2) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(proximal_add__is_pytorchs_value_and_gradient),
        cmocka_unit_test(proximal_add__of_a_vector_elsewhere),
        cmocka_unit_test(proximal_add__gradient_is_the_values_slope),
        cmocka_unit_test(proximal_add__does_not_depend_on_the_gauge),
        cmocka_unit_test(proximal_add__without_strength_does_not_touch),
        cmocka_unit_test(proximal_alpha__is_the_share_that_trains),
    };
    return cmocka_run_group_tests_name("model/proximal", tests, NULL, NULL);
}
