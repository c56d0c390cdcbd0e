/* A folded model computes what base and adapter compute. */
#include "tests/model/fixture.h"
#include "trainer/model/fold.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { ROWS = 61 };

static float *logits_of(struct sl_model *m, struct sl_adapter *a)
{
    uint32_t ids[ROWS], targets[ROWS], layers = sl_model_config(m)->n_layers;
    struct sl_half_config c = {.last = layers, .max_rows = ROWS, .max_seqs = 1, .inference = true};
    struct sl_seq seq = {.len = ROWS, .ids = ids, .targets = targets};
    struct sl_half *half;
    float *logits = malloc((size_t)ROWS * FIXTURE_VOCAB * sizeof *logits);
    fixture_ids(5, "ids", FIXTURE_VOCAB, ROWS, ids);
    fixture_ids(5, "targets", FIXTURE_VOCAB, ROWS, targets);
    assert_int_equal(sl_half_create(m, a, &c, &half), 0);
    assert_int_equal(sl_half_forward(half, &seq, 1, NULL), 0);
    assert_int_equal(sl_half_logits(half, logits), 0);
    sl_half_free(half);
    return logits;
}

/* Both families, all targets and one alone; max|difference| / max|logit| as rules L6 has it. */
static void fold__is_base_and_adapter(void **state)
{
    for (unsigned k = 0; k < 4; k++) {
        const struct sl_model_config *config = k & 1 ? &fixture_gpt2 : &fixture_llama;
        uint32_t all = fixture_all_targets(config->family);
        struct sl_lora_config lora = {
            .rank = 3, .alpha = 6.5f, .targets = k & 2 ? all & -all : all, .seed = 3};
        struct sl_model *m = fixture_model(config, 7);
        struct sl_adapter *a = fixture_adapter(config, &lora, 0, config->n_layers);
        float *apart = logits_of(m, a), *base = logits_of(m, NULL);
        struct sl_fold fold;
        assert_int_equal(sl_model_fold(m, a, &fold), 0);
        float *merged = logits_of(m, NULL);
        double most = 0, off = 0, moved = 0;
        for (size_t i = 0; i < (size_t)ROWS * FIXTURE_VOCAB; i++) {
            most = fmax(most, fabs(apart[i]));
            off = fmax(off, fabs((double)merged[i] - apart[i]));
            moved = fmax(moved, fabs((double)base[i] - apart[i]));
        }
        assert_true(off <= 1e-5 * most);
        assert_true(moved > 1e-2 * most); /* otherwise the agreement proves nothing */
        assert_int_equal(fold.matrices, (uint32_t)__builtin_popcount(lora.targets) * config->n_layers);
        assert_true(fold.change > 0 && fold.change < fold.weights);
        free(apart);
        free(base);
        free(merged);
        sl_adapter_free(a);
        sl_model_free(m);
    }
}

static void touches__names_what_is_changed(void **state)
{
    struct sl_lora_config lora = {.rank = 1, .alpha = 1, .targets = sl_target_bits(SL_FAMILY_GPT2, "c_proj")};
    struct sl_adapter *a = fixture_adapter(&fixture_gpt2, &lora, 1, 3);
    assert_true(sl_fold_touches(&fixture_gpt2, a, "transformer.h.1.attn.c_proj.weight"));
    assert_true(sl_fold_touches(&fixture_gpt2, a, "transformer.h.2.mlp.c_proj.weight"));
    assert_false(sl_fold_touches(&fixture_gpt2, a, "transformer.h.0.mlp.c_proj.weight"));
    assert_false(sl_fold_touches(&fixture_gpt2, a, "transformer.h.1.mlp.c_proj.bias"));
    assert_false(sl_fold_touches(&fixture_gpt2, a, "transformer.h.1.attn.c_attn.weight"));
    sl_adapter_free(a);
}

static void fold__that_overflows_says_so(void **state)
{
    struct sl_lora_config lora = {
        .rank = 1, .alpha = 1, .targets = sl_target_bits(SL_FAMILY_LLAMA, "q_proj")};
    struct sl_model *m = fixture_model(&fixture_llama, 7);
    struct sl_adapter *a = fixture_adapter(&fixture_llama, &lora, 0, FIXTURE_LAYERS);
    struct sl_fold fold;
    sl_adapter_a(a, 0, SL_Q_PROJ)[0] = 3e38f;
    sl_adapter_b(a, 0, SL_Q_PROJ)[0] = 3e38f;
    assert_int_equal(sl_model_fold(m, a, &fold), -ERANGE);
    sl_adapter_free(a);
    sl_model_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fold__is_base_and_adapter),
        cmocka_unit_test(touches__names_what_is_changed),
        cmocka_unit_test(fold__that_overflows_says_so),
    };
    return cmocka_run_group_tests_name("model/fold", tests, NULL, NULL);
}
