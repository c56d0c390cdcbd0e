/* A front half that changes its cut and back, with its moments kept by others meanwhile, is the one that
 * never did; snapshots keep the cut of their time. */
#include "device-sim/device/front.h"

#include "tests/wire/test.h"

#include <errno.h>
#include <stdlib.h>

enum { SEQ = 9, ROWS = SEQ - 1, WIDTH = 16, VOCAB = 40, LAYERS = 4 };

struct bench {
    struct sl_model *model;
    struct sl_front *front;
    struct sl_grid grid;
    uint32_t text[64];
    uint8_t message[1 << 12], gradient[1 << 12];
    float workspace[1 << 12];
};

static struct bench *setup(enum sl_optim_kind kind, bool gradients)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct sl_model_config shape = {.family = SL_FAMILY_LLAMA,
        .n_layers = LAYERS,
        .d_model = WIDTH,
        .n_heads = 2,
        .n_kv_heads = 1,
        .head_dim = 8,
        .d_ff = 24,
        .vocab = VOCAB,
        .max_positions = 32,
        .norm_eps = 1e-5f,
        .rope_theta = 1e4f,
        .tied_embeddings = true,
        .bos_id = -1,
        .eos_id = 0};
    assert_int_equal(sl_model_create(&shape, 1, &b->model), 0);
    struct sl_front_config c = {.model = b->model,
        .lora = {.rank = 2, .alpha = 4, .targets = 1u << SL_Q_PROJ | 1u << SL_DOWN_PROJ, .seed = 3},
        .optim = {.kind = kind, .lr = 0.05f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f},
        .cut = 2,
        .seq = SEQ,
        .train_windows = 1,
        .eval_windows = 1,
        .gradients = gradients};
    assert_int_equal(sl_front_create(&c, &b->front), 0);
    assert_int_equal(sl_grid_make(&b->grid, ROWS, WIDTH, SL_CODEC_F32, 1, 22), 0);
    for (uint32_t i = 0; i < 64; i++)
        b->text[i] = (i * 7 + i / 5) % VOCAB;
    return b;
}

static void teardown(struct bench *b)
{
    sl_front_free(b->front);
    sl_model_free(b->model);
    free(b);
}

static void step(struct bench *b, uint64_t number)
{
    struct sl_front_batch batch = {.n = 1, .window = {b->text + number}};
    float *dx = (float *)(void *)b->gradient;
    assert_int_equal(
        sl_front_forward(b->front, &batch, SL_CODEC_F32, &b->grid, SL_FAULT_NONE, b->workspace, b->message),
        0);
    for (uint32_t i = 0; i < ROWS * WIDTH; i++)
        dx[i] = 0.3f * ((const float *)(const void *)b->message)[i] + 0.01f * (float)(i % 7);
    assert_int_equal(sl_front_backward(b->front, SL_CODEC_F32, b->gradient,
                         &(struct sl_front_step){.global_step = number + 1}, b->workspace),
        0);
}

static void get(struct bench *b, float *out)
{
    sl_front_get(b->front, out);
}

/* Down to one block, up to two again; the block's weights and moments come back as the edge would send them.
 */
static void sl_front_recut__there_and_back_is_as_if_never(void **state)
{
    struct bench *a = setup(SL_ADAMW, false), *b = setup(SL_ADAMW, false);
    float weights[2048], same[2048], m_v[2048];
    uint64_t t;
    for (uint64_t s = 0; s < 4; s++) {
        step(a, s);
        step(b, s);
        size_t block = sl_front_block_floats(b->front);
        assert_int_equal(sl_front_floats(b->front), 2 * block);
        get(b, weights);
        assert_true(sl_front_moments(b->front, 1, &t, m_v));
        assert_int_equal(t, s + 1);
        assert_int_equal(sl_front_recut(b->front, 1), 0);
        assert_int_equal(sl_front_floats(b->front), block);
        get(b, same);
        assert_memory_equal(same, weights, block * sizeof(float));
        assert_false(sl_front_moments(b->front, 1, &t, m_v));
        assert_int_equal(sl_front_offer_moments(b->front, 1, s + 1, m_v, 2 * block), 0);
        assert_int_equal(sl_front_recut(b->front, 2), 0);
        sl_front_set(b->front, weights);
    }
    get(a, same);
    get(b, weights);
    assert_memory_equal(same, weights, sl_front_floats(a->front) * sizeof(float));
    assert_int_equal(sl_front_recut(b->front, 1), 0); /* and with fresh moments it is not */
    assert_int_equal(sl_front_recut(b->front, 2), 0);
    sl_front_set(b->front, weights);
    step(a, 5);
    step(b, 5);
    get(a, same);
    get(b, weights);
    assert_memory_not_equal(same, weights, sl_front_floats(a->front) * sizeof(float));
    teardown(a);
    teardown(b);
}

static void sl_front_recut__refuses_what_the_model_has_not(void **state)
{
    struct bench *b = setup(SL_SGD, false);
    float m_v[2048] = {0};
    uint64_t t;
    assert_int_equal(sl_front_recut(b->front, 0), -EINVAL);
    assert_int_equal(sl_front_recut(b->front, LAYERS), -EINVAL);
    assert_int_equal(
        sl_front_offer_moments(b->front, LAYERS, 1, m_v, 2 * sl_front_block_floats(b->front)), -EINVAL);
    assert_int_equal(sl_front_offer_moments(b->front, 0, 1, m_v, 3), -EINVAL);
    assert_false(sl_front_moments(b->front, 0, &t, m_v)); /* SGD has none */
    step(b, 0);
    teardown(b);
}

static void sl_front_restore__of_another_cut_is_none(void **state)
{
    struct bench *b = setup(SL_ADAMW, false);
    struct sl_front_mark mark;
    float before[2048], after[2048];
    step(b, 0);
    get(b, before);
    sl_front_snapshot(b->front, &(struct sl_front_mark){.version = 1, .cursor = 7});
    assert_int_equal(sl_front_recut(b->front, 3), 0);
    sl_front_snapshot(b->front, &(struct sl_front_mark){.version = 2});
    assert_false(sl_front_restore(b->front, 1, &mark));
    assert_true(sl_front_restore(b->front, 2, &mark));
    assert_int_equal(sl_front_recut(b->front, 2), 0);
    assert_true(sl_front_restore(b->front, 1, &mark)); /* the edge was killed before the change */
    assert_int_equal(mark.cursor, 7);
    get(b, after);
    assert_memory_equal(before, after, sl_front_floats(b->front) * sizeof(float));
    teardown(b);
}

static void gradients__are_summed_and_nothing_steps(void **state)
{
    struct bench *b = setup(SL_ADAMW, true);
    float before[2048], after[2048], one[2048], two[2048];
    get(b, before);
    step(b, 0);
    sl_front_get_gradients(b->front, one);
    step(b, 0);
    sl_front_get_gradients(b->front, two);
    get(b, after);
    assert_memory_equal(before, after, sl_front_floats(b->front) * sizeof(float));
    bool any = false;
    for (size_t i = 0; i < sl_front_floats(b->front); i++) {
        assert_true(two[i] == one[i] + one[i]);
        any = any || one[i] != 0;
    }
    assert_true(any);
    sl_front_forget_gradients(b->front);
    step(b, 0);
    sl_front_get_gradients(b->front, two);
    assert_memory_equal(one, two, sl_front_floats(b->front) * sizeof(float));
    teardown(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_front_recut__there_and_back_is_as_if_never),
        cmocka_unit_test(sl_front_recut__refuses_what_the_model_has_not),
        cmocka_unit_test(sl_front_restore__of_another_cut_is_none),
        cmocka_unit_test(gradients__are_summed_and_nothing_steps),
    };
    return cmocka_run_group_tests_name("device-sim/front_recut", tests, NULL, NULL);
}
