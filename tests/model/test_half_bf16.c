/* The half in bf16 arithmetic: it is bf16 that computes, and it agrees with f32 as closely as bf16 can. */
#include "tests/model/fixture.h"
#include "trainer/tensor/bf16.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = FIXTURE_LAYERS, D = FIXTURE_D, FIRST = 1, SEQS = 4, MAX_ROWS = 200 };

static const struct sl_model_config *const families[] = {&fixture_llama, &fixture_gpt2};
static const uint32_t lens[SEQS] = {61, 1, 7, 129}, cuts[SEQS] = {1, 1, 2, 3};

/* One batch of rows that came as bf16, as from slots. */
struct side {
    struct sl_model *model;
    struct sl_adapter *adapter;
    struct sl_half *half;
    struct sl_seq seqs[SEQS];
    uint32_t targets[MAX_ROWS];
    sl_bf16 x[MAX_ROWS * D], dx[MAX_ROWS * D];
    float wide_dx[MAX_ROWS * D];
};

static struct side *side_new(
    const struct sl_model_config *config, enum sl_precision precision, bool recompute)
{
    struct side *s = calloc(1, sizeof *s);
    struct sl_lora_config lora = {
        .rank = 4, .alpha = 8, .targets = fixture_all_targets(config->family), .seed = 7};
    struct sl_half_config c = {
        .first = FIRST, .last = LAYERS, .max_rows = MAX_ROWS, .max_seqs = SEQS, .recompute = recompute};
    s->model = fixture_model(config, 1);
    s->adapter = fixture_adapter(config, &lora, FIRST, LAYERS);
    assert_int_equal(sl_model_pack(s->model, precision, true), 0);
    assert_int_equal(sl_half_create(s->model, s->adapter, &c, &s->half), 0);
    fixture_ids(3, "targets", FIXTURE_VOCAB, MAX_ROWS, s->targets);
    for (int i = 0; i < MAX_ROWS * D; i++)
        s->x[i] = sl_bf16_round((float)sin(i));
    for (uint32_t i = 0, row = 0; i < SEQS; row += lens[i++])
        s->seqs[i] = (struct sl_seq){.len = lens[i],
            .enter = cuts[i],
            .x_bf16 = s->x + (size_t)row * D,
            .dx_bf16 = s->dx + (size_t)row * D,
            .targets = s->targets + row};
    return s;
}

static void run(struct side *s)
{
    assert_int_equal(sl_half_forward(s->half, s->seqs, SEQS, NULL), 0);
    assert_int_equal(sl_half_backward(s->half, s->seqs, SEQS, NULL), 0);
    sl_bf16_to_f32(s->dx, MAX_ROWS * D, s->wide_dx);
}

static void side_free(struct side *s)
{
    sl_half_free(s->half);
    sl_adapter_free(s->adapter);
    sl_model_free(s->model);
    free(s);
}

static bool no_bf16(void)
{
    if (sl_precision_supported(SL_PRECISION_BF16))
        return false;
    print_message("SKIP: this CPU has no bf16 arithmetic\n");
    return true;
}

/* bf16 has 8 bits: a product of independent roundings is off by some 2^-9 of its size. */
static void half_forward__bf16_agrees_with_f32(void **state)
{
    for (unsigned f = 0; f < 2 && !no_bf16(); f++) {
        struct side *wide = side_new(families[f], SL_PRECISION_F32, false);
        struct side *narrow = side_new(families[f], SL_PRECISION_BF16, false);
        run(wide);
        run(narrow);
        for (uint32_t i = 0; i < SEQS; i++) {
            double off = fabs(narrow->seqs[i].nll / wide->seqs[i].nll - 1);
            assert_true(off > 0 && off < 5e-3);
        }
        double dx = fixture_distance(narrow->wide_dx, wide->wide_dx, MAX_ROWS * D);
        assert_true(dx > 1e-5 && dx < 2e-2);
        for (uint32_t l = FIRST; l < LAYERS; l++) {
            struct sl_block p = sl_adapter_block(wide->adapter, l), q = sl_adapter_block(narrow->adapter, l);
            double off = fixture_distance(q.grad, p.grad, p.n);
            if (off > 3e-2)
                fail_msg("block %u: %g", l, off);
        }
        side_free(wide);
        side_free(narrow);
    }
}

/* Every product with a frozen matrix, forward and backward, is counted where it is computed. */
static void half_forward__products_are_bf16(void **state)
{
    for (unsigned f = 0; f < 2 && !no_bf16(); f++) {
        struct side *s = side_new(families[f], SL_PRECISION_BF16, false);
        uint64_t bf16 = sl_packed_count(SL_PRECISION_BF16), f32 = sl_packed_count(SL_PRECISION_F32);
        run(s);
        uint64_t blocks = LAYERS - FIRST;
        /* one tile of the vocabulary, its logits and their gradient */
        assert_int_equal(sl_packed_count(SL_PRECISION_BF16) - bf16, 2 * 4 * blocks + 2);
        assert_int_equal(sl_packed_count(SL_PRECISION_F32) - f32, 0);
        side_free(s);
    }
}

static void half_backward__recomputing_in_bf16_equals_keeping(void **state)
{
    for (unsigned f = 0; f < 2 && !no_bf16(); f++) {
        struct side *kept = side_new(families[f], SL_PRECISION_BF16, false);
        struct side *again = side_new(families[f], SL_PRECISION_BF16, true);
        run(kept);
        run(again);
        run(again); /* deterministic: twice the same, into gradients that add up */
        for (uint32_t i = 0; i < SEQS; i++)
            assert_true(kept->seqs[i].nll == again->seqs[i].nll);
        assert_memory_equal(kept->dx, again->dx, sizeof kept->dx);
        for (uint32_t l = FIRST; l < LAYERS; l++) {
            struct sl_block p = sl_adapter_block(kept->adapter, l), q = sl_adapter_block(again->adapter, l);
            for (size_t i = 0; i < p.n; i++)
                assert_true(fabsf(q.grad[i] - 2 * p.grad[i]) <= 1e-5f * fabsf(p.grad[i]) + 1e-6f);
        }
        side_free(kept);
        side_free(again);
    }
}

/* Rows read where they lie, and gradients written over them: what separate memory gives. */
static void half_backward__may_replace_the_rows_it_read(void **state)
{
    for (unsigned f = 0; f < 2; f++)
        for (unsigned p = 0; p < 2; p++) {
            enum sl_precision precision =
                p && sl_precision_supported(SL_PRECISION_BF16) ? SL_PRECISION_BF16 : SL_PRECISION_F32;
            struct side *apart = side_new(families[f], precision, p),
                        *in_place = side_new(families[f], precision, p);
            for (uint32_t i = 0; i < SEQS; i++)
                in_place->seqs[i].dx_bf16 = in_place->x + (in_place->seqs[i].dx_bf16 - in_place->dx);
            run(apart);
            run(in_place);
            for (uint32_t i = 0; i < SEQS; i++)
                assert_memory_equal(
                    apart->seqs[i].dx_bf16, in_place->seqs[i].dx_bf16, (size_t)lens[i] * D * sizeof(sl_bf16));
            side_free(apart);
            side_free(in_place);
        }
}

/* In f32 arithmetic, rows that came as bf16 are what the same rows widened are: bit for bit. */
static void half_forward__bf16_rows_equal_the_same_rows_in_f32(void **state)
{
    static float x[MAX_ROWS * D], dx[MAX_ROWS * D];
    for (unsigned f = 0; f < 2; f++) {
        struct side *narrow = side_new(families[f], SL_PRECISION_F32, false);
        struct side *wide = side_new(families[f], SL_PRECISION_F32, false);
        sl_bf16_to_f32(wide->x, MAX_ROWS * D, x);
        for (uint32_t i = 0; i < SEQS; i++) {
            size_t at = (size_t)(wide->seqs[i].x_bf16 - wide->x);
            wide->seqs[i].x_bf16 = NULL;
            wide->seqs[i].dx_bf16 = NULL;
            wide->seqs[i].x = x + at;
            wide->seqs[i].dx = dx + at;
        }
        run(narrow);
        run(wide);
        for (uint32_t i = 0; i < SEQS; i++) {
            assert_true(narrow->seqs[i].nll == wide->seqs[i].nll);
            for (size_t j = 0; j < (size_t)lens[i] * D; j++)
                assert_int_equal(narrow->seqs[i].dx_bf16[j], sl_bf16_round(wide->seqs[i].dx[j]));
        }
        for (uint32_t l = FIRST; l < LAYERS; l++) {
            struct sl_block p = sl_adapter_block(wide->adapter, l), q = sl_adapter_block(narrow->adapter, l);
            assert_memory_equal(p.grad, q.grad, p.n * sizeof(float));
        }
        side_free(narrow);
        side_free(wide);
    }
}

/* Packed f32 weights against the ones that were loaded. */
static void model_pack__f32_changes_no_more_than_the_last_bits(void **state)
{
    for (unsigned f = 0; f < 2; f++) {
        const struct sl_model_config *config = families[f];
        struct side *packed = side_new(config, SL_PRECISION_F32, false);
        struct sl_model *m = fixture_model(config, 1);
        struct sl_half_config c = {.first = FIRST, .last = LAYERS, .max_rows = MAX_ROWS, .max_seqs = SEQS};
        struct sl_half *plain = NULL;
        double nll[SEQS];
        run(packed);
        for (uint32_t i = 0; i < SEQS; i++)
            nll[i] = packed->seqs[i].nll;
        assert_int_equal(sl_half_create(m, packed->adapter, &c, &plain), 0);
        assert_int_equal(sl_half_forward(plain, packed->seqs, SEQS, NULL), 0);
        for (uint32_t i = 0; i < SEQS; i++)
            assert_true(fabs(packed->seqs[i].nll / nll[i] - 1) < 1e-6);
        sl_half_free(plain);
        sl_model_free(m);
        side_free(packed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_forward__bf16_agrees_with_f32),
        cmocka_unit_test(half_forward__products_are_bf16),
        cmocka_unit_test(half_backward__recomputing_in_bf16_equals_keeping),
        cmocka_unit_test(half_backward__may_replace_the_rows_it_read),
        cmocka_unit_test(half_forward__bf16_rows_equal_the_same_rows_in_f32),
        cmocka_unit_test(model_pack__f32_changes_no_more_than_the_last_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
