#include "trainer/plan/cost.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* Counted by hand from the loops of a naive implementation: every multiply-add is two operations. */
static double counted_block(const struct sl_cost_shape *s, uint32_t len)
{
    double ops = 0;

    for (uint32_t row = 0; row < len; row++) {
        ops += 2.0 * s->d_model * s->n_heads * s->head_dim;          /* q */
        ops += 2.0 * 2.0 * s->d_model * s->n_kv_heads * s->head_dim; /* k, v */
        for (uint32_t h = 0; h < s->n_heads; h++)
            for (uint32_t other = 0; other <= row; other++)
                ops += 2.0 * s->head_dim + 2.0 * s->head_dim; /* score, weighted sum */
        ops += 2.0 * s->n_heads * s->head_dim * s->d_model;   /* o */
        ops += 2.0 * (s->gated_mlp ? 3 : 2) * (double)s->d_model * s->d_ff;
    }
    return ops;
}

static const struct sl_cost_shape llama = {192, 6, 2, 32, 512, 2048, 1}, gpt2 = {64, 4, 4, 16, 256, 1000, 0};

static void block_forward__equals_a_count_of_operations(void **state)
{
    const uint32_t len[] = {127, 1, 30};

    assert_true(sl_cost_block_forward(&llama, len, 3) ==
                counted_block(&llama, 127) + counted_block(&llama, 1) + counted_block(&llama, 30));
    assert_true(sl_cost_block_forward(&gpt2, len, 1) == counted_block(&gpt2, 127));
}

static void block_backward__input_gradients_only(void **state)
{
    const uint32_t one[] = {1};
    struct sl_cost_shape no_attention = llama;

    /* A matrix product's input gradient costs what the product does; attention's two products have two
     * operands each. */
    no_attention.n_heads = no_attention.n_kv_heads = 0;
    assert_true(
        sl_cost_block_backward(&no_attention, one, 1) == sl_cost_block_forward(&no_attention, one, 1));
    assert_true(sl_cost_block_backward(&llama, one, 1) > sl_cost_block_forward(&llama, one, 1));
    assert_true(sl_cost_block_backward(&llama, one, 1) < 2 * sl_cost_block_forward(&llama, one, 1));
}

static void head_forward__rows_times_vocabulary(void **state)
{
    assert_true(sl_cost_head_forward(&llama, 10) == 2.0 * 10 * 192 * 2048);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_forward__equals_a_count_of_operations),
        cmocka_unit_test(block_backward__input_gradients_only),
        cmocka_unit_test(head_forward__rows_times_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
