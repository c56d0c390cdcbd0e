/* Adapters: initialisation, layout, freeze_a. */
#include "tests/model/fixture.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct sl_model_config config = {.family = SL_FAMILY_LLAMA,
    .n_layers = 4,
    .d_model = 48,
    .n_heads = 6,
    .n_kv_heads = 2,
    .head_dim = 14,
    .d_ff = 72,
    .vocab = 97,
    .max_positions = 160,
    .norm_eps = 1e-5f,
    .rope_theta = 10000,
    .tied_embeddings = true};

static struct sl_adapter *adapter(const struct sl_lora_config *lora, uint32_t first, uint32_t last)
{
    struct sl_adapter *a = NULL;
    assert_int_equal(sl_adapter_create(&config, lora, first, last, &a), 0);
    return a;
}

/* The same factor whatever else is created, in whatever order (rules L5). */
static void adapter_create__init_depends_on_seed_and_name_only(void **state)
{
    struct sl_lora_config all = {.rank = 4, .alpha = 8, .targets = 0x7F, .seed = 7};
    struct sl_lora_config few = {
        .rank = 4, .alpha = 8, .targets = 1u << SL_V_PROJ | 1u << SL_DOWN_PROJ, .seed = 7};
    struct sl_lora_config other = {.rank = 4, .alpha = 8, .targets = 0x7F, .seed = 8};
    struct sl_adapter *a = adapter(&all, 0, 4), *b = adapter(&few, 2, 4), *c = adapter(&other, 0, 4);
    size_t bytes = 4 * 72 * sizeof(float);
    assert_memory_equal(sl_adapter_a(a, 3, SL_DOWN_PROJ), sl_adapter_a(b, 3, SL_DOWN_PROJ), bytes);
    assert_memory_not_equal(sl_adapter_a(a, 3, SL_DOWN_PROJ), sl_adapter_a(a, 2, SL_DOWN_PROJ), bytes);
    assert_memory_not_equal(sl_adapter_a(a, 3, SL_DOWN_PROJ), sl_adapter_a(c, 3, SL_DOWN_PROJ), bytes);
    sl_adapter_free(a);
    sl_adapter_free(b);
    sl_adapter_free(c);
}

/* PEFT: A uniform within 1/sqrt(in), B zero. */
static void adapter_create__a_is_kaiming_uniform_and_b_is_zero(void **state)
{
    struct sl_lora_config lora = {.rank = 64, .alpha = 8, .targets = 0x7F, .seed = 7};
    struct sl_adapter *a = adapter(&lora, 0, 4);
    const float *f = sl_adapter_a(a, 0, SL_GATE_PROJ), *b = sl_adapter_b(a, 0, SL_GATE_PROJ);
    double bound = 1 / sqrt(48), square = 0, max = 0;
    for (int i = 0; i < 64 * 48; i++) {
        square += f[i] * f[i] / (64 * 48);
        max = fmax(max, fabsf(f[i]));
    }
    assert_true(max <= bound && max > 0.99 * bound);
    assert_true(fabs(square / (bound * bound / 3) - 1) < 0.1);
    for (int i = 0; i < 64 * 72; i++)
        assert_true(b[i] == 0);
    sl_adapter_free(a);
}

static void adapter_block__is_every_a_then_every_b(void **state)
{
    struct sl_lora_config lora = {
        .rank = 4, .alpha = 8, .targets = 1u << SL_Q_PROJ | 1u << SL_UP_PROJ, .seed = 7};
    struct sl_adapter *a = adapter(&lora, 1, 3);
    struct sl_block block = sl_adapter_block(a, 2);
    assert_int_equal(block.n, 4 * (48 + 48 + 84 + 72));
    assert_int_equal(block.n, sl_adapter_block_size(&config, &lora));
    assert_ptr_equal(sl_adapter_a(a, 2, SL_Q_PROJ), block.data);
    assert_ptr_equal(sl_adapter_a(a, 2, SL_UP_PROJ), block.data + 4 * 48);
    assert_ptr_equal(sl_adapter_b(a, 2, SL_Q_PROJ), block.data + 4 * 96);
    assert_ptr_equal(sl_adapter_b(a, 2, SL_UP_PROJ), block.data + 4 * (96 + 84));
    assert_ptr_equal(sl_adapter_grad_b(a, 2, SL_UP_PROJ), block.grad + 4 * (96 + 84));
    assert_null(sl_adapter_a(a, 2, SL_K_PROJ));
    assert_null(sl_adapter_a(a, 0, SL_Q_PROJ));
    assert_int_equal(sl_adapter_block(a, 3).n, 0);
    sl_adapter_free(a);
}

static void adapter_block__under_freeze_a_is_the_b_tail(void **state)
{
    struct sl_lora_config lora = {.rank = 4, .alpha = 8, .targets = 0x7F, .freeze_a = true, .seed = 7};
    struct sl_adapter *a = adapter(&lora, 0, 4);
    struct sl_block block = sl_adapter_block(a, 2), all = sl_adapter_block_all(a, 2);
    assert_int_equal(block.n, sl_adapter_block_size(&config, &lora));
    assert_ptr_equal(block.data, sl_adapter_b(a, 2, SL_Q_PROJ));
    assert_ptr_equal(block.grad, sl_adapter_grad_b(a, 2, SL_Q_PROJ));
    assert_ptr_equal(block.data + block.n, all.data + all.n);
    assert_ptr_equal(all.data, sl_adapter_a(a, 2, SL_Q_PROJ));
    assert_null(sl_adapter_grad_a(a, 2, SL_Q_PROJ));
    sl_adapter_free(a);
}

static void adapter_create__refuses_what_the_model_has_not(void **state)
{
    struct sl_lora_config lora = {.rank = 4, .alpha = 8, .targets = 1u << SL_C_ATTN};
    struct sl_adapter *a;
    assert_int_equal(sl_adapter_create(&config, &lora, 0, 4, &a), -EINVAL);
    lora.targets = 0x7F;
    assert_int_equal(sl_adapter_create(&config, &lora, 0, 5, &a), -EINVAL);
    assert_int_equal(sl_adapter_create(&config, &lora, 2, 2, &a), -EINVAL);
    lora.rank = 0;
    assert_int_equal(sl_adapter_create(&config, &lora, 0, 4, &a), -EINVAL);
    lora.rank = 4;
    lora.targets = 0;
    assert_int_equal(sl_adapter_create(&config, &lora, 0, 4, &a), -EINVAL);
}

static void target_bits__names_of_each_family(void **state)
{
    assert_int_equal(sl_target_bits(SL_FAMILY_LLAMA, "k_proj"), 1u << SL_K_PROJ);
    assert_int_equal(sl_target_bits(SL_FAMILY_GPT2, "c_proj"), 1u << SL_ATTN_C_PROJ | 1u << SL_MLP_C_PROJ);
    assert_int_equal(sl_target_bits(SL_FAMILY_GPT2, "k_proj"), 0);
    assert_int_equal(sl_target_bits(SL_FAMILY_LLAMA, "lm_head"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adapter_create__init_depends_on_seed_and_name_only),
        cmocka_unit_test(adapter_create__a_is_kaiming_uniform_and_b_is_zero),
        cmocka_unit_test(adapter_block__is_every_a_then_every_b),
        cmocka_unit_test(adapter_block__under_freeze_a_is_the_b_tail),
        cmocka_unit_test(adapter_create__refuses_what_the_model_has_not),
        cmocka_unit_test(target_bits__names_of_each_family),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
