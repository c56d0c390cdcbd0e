/* What a half takes: against the model's own count of bytes, and the parts that are known. */
#include "device-sim/device/front.h"

#include "tests/wire/test.h"

static struct sl_model *model(enum sl_family family, uint32_t n_layers)
{
    struct sl_model_config shape = {.family = family,
        .n_layers = n_layers,
        .d_model = 32,
        .n_heads = 4,
        .n_kv_heads = family == SL_FAMILY_LLAMA ? 2 : 4,
        .head_dim = 8,
        .d_ff = 48,
        .vocab = 300,
        .max_positions = 64,
        .norm_eps = 1e-5f,
        .rope_theta = 10000,
        .tied_embeddings = true,
        .bos_id = 0,
        .eos_id = 0};
    struct sl_model *m;

    assert_int_equal(sl_model_create(&shape, 1, &m), 0);
    return m;
}

static size_t arenas(const struct sl_front_config *f)
{
    struct sl_half_config train = {
        .last = f->cut, .max_rows = f->train_windows * 16, .max_seqs = f->train_windows};
    struct sl_half_config eval = {.last = f->cut, .max_rows = 16, .max_seqs = 1, .inference = true};
    const struct sl_model_config *shape = sl_model_config(f->model);

    return sl_half_arena_bytes(shape, &f->lora, &train) + sl_half_arena_bytes(shape, &f->lora, &eval);
}

/* A block more costs that block's weights, once; and its part of the adapter: data, gradient, two moments,
 * and in each of two snapshots data and two moments. */
static void check_block(enum sl_family family, enum sl_optim_kind kind, unsigned adapters)
{
    struct sl_model *two = model(family, 2), *three = model(family, 3);
    struct sl_front_config one_block = {.model = three,
        .lora = {.rank = 4,
            .alpha = 8,
            .targets = sl_target_bits(family, family == SL_FAMILY_LLAMA ? "q_proj" : "c_attn")},
        .optim = {.kind = kind},
        .cut = 1,
        .seq = 17,
        .train_windows = 3,
        .eval_windows = 1};
    struct sl_front_config two_blocks = one_block;

    two_blocks.cut = 2;
    size_t block = sl_model_bytes(three) - sl_model_bytes(two);
    size_t adapter = sl_adapter_block_size(sl_model_config(three), &one_block.lora) * sizeof(float);
    assert_true(block > 0 && adapter > 0);
    assert_int_equal(sl_front_memory(&two_blocks) - sl_front_memory(&one_block),
        block + adapters * adapter + arenas(&two_blocks) - arenas(&one_block));
    /* and a phone without blocks would hold the embedding: what the model has beside blocks and last norm */
    size_t rest = sl_model_bytes(two) - 2 * block;
    size_t embedding = sl_front_memory(&one_block) - block - adapters * adapter - arenas(&one_block);
    assert_in_range(rest - embedding, 32 * sizeof(float), 2 * 32 * sizeof(float));
    sl_model_free(two);
    sl_model_free(three);
}

static void memory__counts_blocks_adapters_and_activations(void **state)
{
    check_block(SL_FAMILY_LLAMA, SL_ADAMW, 10);
    check_block(SL_FAMILY_GPT2, SL_ADAMW, 10);
    check_block(SL_FAMILY_LLAMA, SL_SGD, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory__counts_blocks_adapters_and_activations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
