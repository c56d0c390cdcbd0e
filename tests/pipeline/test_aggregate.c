#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include "trainer/pipeline/aggregate.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { B = 3 }; /* floats in a block of these hand-made adapters */

static void aggregate__is_the_token_weighted_mean_of_the_changes(void **state)
{
    float g[2 * B] = {1, 2, 3, 10, 20, 30};
    double scratch[B];
    const float one[] = {2, 2, 3}, two[] = {1, 6, 3, 13, 20, 30};
    const struct sl_copy copies[] = {
        {.last = 1, .weights = one, .tokens = 30}, {.last = 2, .weights = two, .tokens = 10}};
    sl_aggregate(g, 2, B, copies, 2, scratch);
    const float expected[] = {1.75f, 3, 3, 13, 20, 30};
    for (unsigned i = 0; i < 2 * B; i++)
        assert_true(g[i] == expected[i]);
}

static void aggregate__a_single_copy_is_taken_unchanged(void **state)
{
    /* 0.1f + (0.3f - 0.1f) is not 0.3f: only a copy gives these bytes. */
    float g[B] = {0.1f, 1e8f, -3}, weights[B] = {0.3f, 1.5f, 1e-20f};
    double scratch[B];
    sl_aggregate(g, 1, B, &(struct sl_copy){.last = 1, .weights = weights, .tokens = 7}, 1, scratch);
    assert_memory_equal(g, weights, sizeof g);
}

static void aggregate__a_stale_copy_brings_its_change_only(void **state)
{
    float g[B] = {5, 5, 5};
    const float base[B] = {1, 1, 1}, weights[B] = {2, 1, 0};
    double scratch[B];
    sl_aggregate(
        g, 1, B, &(struct sl_copy){.last = 1, .weights = weights, .base = base, .tokens = 7}, 1, scratch);
    assert_true(g[0] == 6 && g[1] == 5 && g[2] == 4);
}

static void aggregate__a_copy_without_tokens_at_a_block_has_no_say(void **state)
{
    float g[2 * B] = {0};
    const float edge[2 * B] = {9, 9, 9, 4, 4, 4}, phone[B] = {1, 1, 1};
    const uint64_t tokens[2] = {0, 50};
    double scratch[B];
    const struct sl_copy copies[] = {
        {.last = 1, .weights = phone, .tokens = 1}, {.last = 2, .weights = edge, .tokens_at = tokens}};
    sl_aggregate(g, 2, B, copies, 2, scratch);
    assert_true(g[0] == 1 && g[B] == 4);
    const struct sl_copy nobody = {.last = 1, .weights = phone, .tokens = 0};
    sl_aggregate(g, 2, B, &nobody, 1, scratch);
    assert_true(g[0] == 1 && g[B] == 4);
}

/* Against the definition, by plain loops over whole matrices. */
static void factor_error__is_the_definition(void **state)
{
    struct sl_model_config m = tiny_config(SL_FAMILY_LLAMA);
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    size_t block = sl_adapter_block_size(&m, &lora), n = LAYERS * block;
    struct sl_adapter *g, *copy[3];
    float *before = malloc(n * sizeof(float)), *after = malloc(n * sizeof(float)), *w[3];
    double *scratch = malloc(block * sizeof *scratch), error = 0, update = 0;
    struct sl_copy copies[3];
    static const uint64_t tokens[3] = {10, 20, 5};
    assert_int_equal(sl_adapter_create(&m, &lora, 0, LAYERS, &g), 0);
    for (uint32_t l = 0; l < LAYERS; l++)
        memcpy(before + l * block, sl_adapter_block(g, l).data, block * sizeof(float));
    for (unsigned c = 0; c < 3; c++) {
        w[c] = malloc(n * sizeof(float));
        assert_int_equal(sl_adapter_create(&m, &lora, 0, LAYERS, &copy[c]), 0);
        for (size_t i = 0; i < n; i++)
            w[c][i] = before[i] + 0.05f * sl_rng_uniform(sl_rng_key(c, "copy"), i);
        for (uint32_t l = 0; l < LAYERS; l++)
            memcpy(sl_adapter_block(copy[c], l).data, w[c] + l * block, block * sizeof(float));
        copies[c] = (struct sl_copy){.last = LAYERS, .weights = w[c], .tokens = tokens[c]};
    }
    memcpy(after, before, n * sizeof(float));
    sl_aggregate(after, LAYERS, block, copies, 3, scratch);
    for (uint32_t l = 0; l < LAYERS; l++)
        memcpy(sl_adapter_block(g, l).data, after + l * block, block * sizeof(float));
    for (uint32_t l = 0; l < LAYERS; l++) {
        for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
            uint32_t in, out;
            if (!(lora.targets >> t & 1))
                continue;
            sl_target_dims(&m, (enum sl_target)t, &in, &out);
            for (uint32_t o = 0; o < out; o++) {
                for (uint32_t i = 0; i < in; i++) {
                    double mean = 0, product = 0; /* B_G = 0: the update is the mean itself */
                    for (uint32_t r = 0; r < lora.rank; r++) {
                        product += (double)sl_adapter_b(g, l, (enum sl_target)t)[o * lora.rank + r] *
                                   sl_adapter_a(g, l, (enum sl_target)t)[r * in + i];
                        for (unsigned c = 0; c < 3; c++)
                            mean += tokens[c] / 35.0 *
                                    sl_adapter_b(copy[c], l, (enum sl_target)t)[o * lora.rank + r] *
                                    sl_adapter_a(copy[c], l, (enum sl_target)t)[r * in + i];
                    }
                    error += (product - mean) * (product - mean);
                    update += mean * mean;
                }
            }
        }
    }
    double expected = sqrt(error / update),
           got = sl_aggregate_factor_error(&m, &lora, before, after, copies, 3);
    assert_true(expected > 1e-3);
    assert_true(fabs(got - expected) < 1e-4 * expected);
    lora.freeze_a = true;
    assert_true(sl_aggregate_factor_error(&m, &lora, before, after, copies, 3) == 0);
    for (unsigned c = 0; c < 3; c++) {
        sl_adapter_free(copy[c]);
        free(w[c]);
    }
    sl_adapter_free(g);
    free(before);
    free(after);
    free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(aggregate__is_the_token_weighted_mean_of_the_changes),
        cmocka_unit_test(aggregate__a_single_copy_is_taken_unchanged),
        cmocka_unit_test(aggregate__a_stale_copy_brings_its_change_only),
        cmocka_unit_test(aggregate__a_copy_without_tokens_at_a_block_has_no_say),
        cmocka_unit_test(factor_error__is_the_definition),
    };
    return cmocka_run_group_tests_name("pipeline/aggregate", tests, NULL, NULL);
}
