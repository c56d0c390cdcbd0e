/* The parameter table, and random initialisation. */
#include "trainer/model/model.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The shape of the bundled base model. */
static const struct sl_model_config base = {.family = SL_FAMILY_LLAMA,
    .n_layers = 8,
    .d_model = 192,
    .n_heads = 6,
    .n_kv_heads = 2,
    .head_dim = 32,
    .d_ff = 512,
    .vocab = 2048,
    .max_positions = 512,
    .norm_eps = 1e-5f,
    .rope_theta = 10000,
    .tied_embeddings = true};

static const struct sl_model_config gpt2 = {.family = SL_FAMILY_GPT2,
    .n_layers = 2,
    .d_model = 48,
    .n_heads = 3,
    .n_kv_heads = 3,
    .head_dim = 16,
    .d_ff = 192,
    .vocab = 97,
    .max_positions = 64,
    .norm_eps = 1e-5f,
    .tied_embeddings = false};

static struct sl_model *create(const struct sl_model_config *config, uint64_t seed)
{
    struct sl_model *m = NULL;
    assert_int_equal(sl_model_create(config, seed, &m), 0);
    return m;
}

static size_t count(struct sl_model *m)
{
    size_t n = 0;
    for (uint32_t i = 0; i < sl_model_param_count(m); i++)
        n += sl_model_param(m, i)->n;
    return n;
}

static double deviation(struct sl_model *m, const char *name)
{
    struct sl_param *p = sl_model_find(m, name);
    double square = 0;
    assert_non_null(p);
    for (size_t i = 0; i < p->n; i++)
        square += (double)p->data[i] * p->data[i];
    return sqrt(square / (double)p->n);
}

static void model_create__has_the_parameters_of_the_family(void **state)
{
    struct sl_model *m = create(&base, 1);
    assert_int_equal(count(m), 3542208); /* the figure in the base model's specification */
    assert_null(sl_model_find(m, "lm_head.weight"));
    assert_int_equal(sl_model_find(m, "model.layers.7.self_attn.k_proj.weight")->dims[0], 64);
    sl_model_free(m);
    m = create(&gpt2, 1);
    assert_int_equal(count(m), 2 * 97 * 48 + 64 * 48 + 2 * (12 * 48 * 48 + 13 * 48) + 2 * 48);
    assert_int_equal(sl_model_find(m, "transformer.h.1.mlp.c_proj.weight")->dims[0], 192); /* [in, out] */
    assert_non_null(sl_model_find(m, "lm_head.weight"));
    sl_model_free(m);
}

static void model_create__is_gpt2s_initialisation(void **state)
{
    struct sl_model *m = create(&base, 1);
    assert_true(fabs(deviation(m, "model.layers.3.mlp.up_proj.weight") / 0.02 - 1) < 0.02);
    assert_true(fabs(deviation(m, "model.layers.3.mlp.down_proj.weight") / (0.02 / 4) - 1) < 0.02);
    assert_true(fabs(deviation(m, "model.layers.3.self_attn.o_proj.weight") / (0.02 / 4) - 1) < 0.02);
    assert_true(deviation(m, "model.norm.weight") == 1);
    sl_model_free(m);
    m = create(&gpt2, 1);
    assert_true(deviation(m, "transformer.h.0.ln_1.weight") == 1);
    assert_true(deviation(m, "transformer.h.0.attn.c_attn.bias") == 0);
    sl_model_free(m);
}

static void model_create__is_a_function_of_seed_and_name(void **state)
{
    struct sl_model_config deeper = gpt2;
    deeper.vocab = 11;
    struct sl_model *a = create(&gpt2, 5), *b = create(&deeper, 5), *c = create(&gpt2, 6);
    const char *name = "transformer.h.1.attn.c_attn.weight";
    struct sl_param *p = sl_model_find(a, name), *q = sl_model_find(b, name), *r = sl_model_find(c, name);
    assert_memory_equal(p->data, q->data, p->n * sizeof(float));
    assert_memory_not_equal(p->data, r->data, p->n * sizeof(float));
    sl_model_free(a);
    sl_model_free(b);
    sl_model_free(c);
}

static void model_create__refuses_shapes_that_do_not_fit(void **state)
{
    struct sl_model *m;
    struct sl_model_config c = base;
    c.n_kv_heads = 4; /* six heads cannot share four */
    assert_int_equal(sl_model_create(&c, 1, &m), -EINVAL);
    c = base;
    c.head_dim = 31;
    assert_int_equal(sl_model_create(&c, 1, &m), -EINVAL);
    c = base;
    c.d_ff = 0;
    assert_int_equal(sl_model_create(&c, 1, &m), -EINVAL);
    c = gpt2;
    c.head_dim = 8;
    assert_int_equal(sl_model_create(&c, 1, &m), -EINVAL);
}

static void model_enable_grads__gives_every_parameter_a_zeroed_gradient(void **state)
{
    struct sl_model *m = create(&gpt2, 1);
    assert_null(sl_model_param(m, 0)->grad);
    assert_int_equal(sl_model_enable_grads(m), 0);
    for (uint32_t i = 0; i < sl_model_param_count(m); i++) {
        struct sl_param *p = sl_model_param(m, i);
        for (size_t j = 0; j < p->n; j++) {
            assert_true(p->grad[j] == 0);
            p->grad[j] = 1;
        }
    }
    sl_model_zero_grads(m);
    assert_true(sl_model_param(m, 3)->grad[5] == 0);
    sl_model_free(m);
}

static void create_blocks__is_part_of_the_whole(void **state)
{
    struct sl_model *whole = create(&gpt2, 7), *part = NULL;
    uint32_t present = 0;
    assert_int_equal(sl_model_create_blocks(&gpt2, 7, 1, gpt2.n_layers, &part), 0);
    for (uint32_t i = 0; i < sl_model_param_count(whole); i++) {
        const struct sl_param *p = sl_model_param(whole, i), *q = sl_model_param(part, i);
        /* Block 1, the final norm and the head: neither embedding nor block 0. */
        bool wanted = strstr(p->name, ".h.1.") || strstr(p->name, "ln_f") || strstr(p->name, "lm_head");
        assert_int_equal(q->data != NULL, wanted);
        if (wanted)
            assert_memory_equal(p->data, q->data, p->n * sizeof *p->data);
        present += wanted;
    }
    assert_int_equal(present, 12 + 2 + 1);
    assert_true(sl_model_bytes(part) < sl_model_bytes(whole));
    sl_model_free(whole);
    sl_model_free(part);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(model_create__has_the_parameters_of_the_family),
        cmocka_unit_test(model_create__is_gpt2s_initialisation),
        cmocka_unit_test(model_create__is_a_function_of_seed_and_name),
        cmocka_unit_test(model_create__refuses_shapes_that_do_not_fit),
        cmocka_unit_test(model_enable_grads__gives_every_parameter_a_zeroed_gradient),
        cmocka_unit_test(create_blocks__is_part_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
