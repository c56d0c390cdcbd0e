/* Halves against each other and against finite differences. PyTorch is test_parity's. */
#include "tests/model/fixture.h"
#include "trainer/tensor/parallel.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = FIXTURE_LAYERS, VOCAB = FIXTURE_VOCAB, MAX_ROWS = 200, MAX_SEQS = 4 };

static const struct sl_model_config *const families[] = {&fixture_llama, &fixture_gpt2};

static struct sl_lora_config all_lora(const struct sl_model_config *config)
{
    return (struct sl_lora_config){
        .rank = 4, .alpha = 8, .targets = fixture_all_targets(config->family), .seed = 7};
}

/* One batch: ids, targets and room for what travels. */
struct batch {
    uint32_t n, rows;
    uint32_t ids[MAX_ROWS], targets[MAX_ROWS];
    struct sl_seq seqs[MAX_SEQS];
};

static void make_batch(struct batch *b, const uint32_t *lens, uint32_t n)
{
    *b = (struct batch){.n = n};
    fixture_ids(3, "ids", VOCAB, MAX_ROWS, b->ids);
    fixture_ids(3, "targets", VOCAB, MAX_ROWS, b->targets);
    for (uint32_t i = 0; i < n; i++) {
        b->seqs[i] =
            (struct sl_seq){.len = lens[i], .ids = b->ids + b->rows, .targets = b->targets + b->rows};
        b->rows += lens[i];
    }
}

static struct sl_half *half(
    struct sl_model *m, struct sl_adapter *a, uint32_t first, uint32_t last, bool full)
{
    struct sl_half_config c = {
        .first = first, .last = last, .max_rows = MAX_ROWS, .max_seqs = MAX_SEQS, .full = full};
    struct sl_half *h = NULL;
    assert_int_equal(sl_half_create(m, a, &c, &h), 0);
    return h;
}

static double loss(struct sl_half *h, struct batch *b)
{
    double sum = 0;
    assert_int_equal(sl_half_forward(h, b->seqs, b->n, NULL), 0);
    for (uint32_t i = 0; i < b->n; i++)
        sum += b->seqs[i].nll;
    return sum;
}

static void assert_same_block(struct sl_adapter *a, struct sl_adapter *b, uint32_t layer)
{
    struct sl_block x = sl_adapter_block(a, layer), y = sl_adapter_block(b, layer);
    assert_int_equal(x.n, y.n);
    assert_memory_equal(x.grad, y.grad, x.n * sizeof(float));
}

static void split_equals_whole(const struct sl_model_config *config, uint32_t cut)
{
    static float x[MAX_ROWS * 48], dx[MAX_ROWS * 48];
    const uint32_t lens[] = {61, 7, 129};
    struct sl_lora_config lora = all_lora(config);
    struct sl_model *m = fixture_model(config, 1);
    struct sl_adapter *whole = fixture_adapter(config, &lora, 0, LAYERS);
    struct sl_adapter *front = fixture_adapter(config, &lora, 0, cut);
    struct sl_adapter *back = fixture_adapter(config, &lora, cut, LAYERS);
    struct sl_half *hw = half(m, whole, 0, LAYERS, false), *hf = half(m, front, 0, cut, false);
    struct sl_half *hb = half(m, back, cut, LAYERS, false);
    struct batch bw, bf, bb;
    make_batch(&bw, lens, 3);
    make_batch(&bf, lens, 3);
    make_batch(&bb, lens, 3);
    uint32_t row = 0;
    for (uint32_t i = 0; i < bb.n; i++) {
        bb.seqs[i].enter = cut;
        bb.seqs[i].ids = NULL;
        bb.seqs[i].x = x + (size_t)row * config->d_model;
        bb.seqs[i].dx = dx + (size_t)row * config->d_model;
        row += lens[i];
    }
    loss(hw, &bw);
    assert_int_equal(sl_half_backward(hw, bw.seqs, bw.n, NULL), 0);
    assert_int_equal(sl_half_forward(hf, bf.seqs, bf.n, x), 0);
    loss(hb, &bb);
    assert_int_equal(sl_half_backward(hb, bb.seqs, bb.n, NULL), 0);
    assert_int_equal(sl_half_backward(hf, bf.seqs, bf.n, dx), 0);
    for (uint32_t i = 0; i < bw.n; i++)
        assert_memory_equal(&bw.seqs[i].nll, &bb.seqs[i].nll, sizeof(double));
    for (uint32_t l = 0; l < LAYERS; l++)
        assert_same_block(whole, l < cut ? front : back, l);
    sl_half_free(hw);
    sl_half_free(hf);
    sl_half_free(hb);
    sl_adapter_free(whole);
    sl_adapter_free(front);
    sl_adapter_free(back);
    sl_model_free(m);
}

static void half_forward__split_at_any_cut_equals_the_whole_bit_for_bit(void **state)
{
    for (unsigned f = 0; f < 2; f++)
        for (uint32_t cut = 1; cut < LAYERS; cut++)
            split_equals_whole(families[f], cut);
}

/* Sequences that enter at blocks 0, 1, 1 and 3 of one batch give what each gives alone. */
static void ragged_equals_separate(const struct sl_model_config *config)
{
    static const uint32_t lens[] = {33, 61, 1, 70}, enter[] = {0, 1, 1, 3};
    static float x[MAX_ROWS * 48], dx_one[MAX_ROWS * 48], dx_all[MAX_ROWS * 48];
    struct sl_lora_config lora = all_lora(config);
    struct sl_model *m = fixture_model(config, 1);
    struct sl_adapter *one = fixture_adapter(config, &lora, 0, LAYERS),
                      *all = fixture_adapter(config, &lora, 0, LAYERS);
    struct sl_half *h_one = half(m, one, 0, LAYERS, false), *h_all = half(m, all, 0, LAYERS, false);
    struct batch b;
    double nll[MAX_SEQS];
    make_batch(&b, lens, 4);
    for (uint32_t i = 0, row = 0; i < b.n; row += lens[i++]) {
        struct sl_seq *s = &b.seqs[i];
        float *x_i = x + (size_t)row * config->d_model;
        if (enter[i]) {
            struct sl_half *front = half(m, one, 0, enter[i], false);
            assert_int_equal(sl_half_forward(front, s, 1, x_i), 0);
            sl_half_free(front);
            s->ids = NULL;
            s->x = x_i;
            s->enter = enter[i];
        }
        s->dx = dx_one + (size_t)row * config->d_model;
        assert_int_equal(sl_half_forward(h_one, s, 1, NULL), 0);
        assert_int_equal(sl_half_gemm_count(h_one), 4 * (LAYERS - enter[i]) + 1);
        assert_int_equal(sl_half_backward(h_one, s, 1, NULL), 0);
        nll[i] = s->nll;
        s->dx = dx_all + (size_t)row * config->d_model;
    }
    assert_int_equal(sl_half_forward(h_all, b.seqs, b.n, NULL), 0);
    assert_int_equal(sl_half_gemm_count(h_all), 4 * LAYERS + 1);
    assert_int_equal(sl_half_backward(h_all, b.seqs, b.n, NULL), 0);
    for (uint32_t i = 0; i < b.n; i++)
        assert_true(fabs(b.seqs[i].nll / nll[i] - 1) < 1e-6);
    assert_true(fixture_distance(dx_all, dx_one, (size_t)b.rows * config->d_model) < 2e-6);
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct sl_block p = sl_adapter_block(one, l), q = sl_adapter_block(all, l);
        assert_true(fixture_distance(q.grad, p.grad, p.n) < 2e-6);
    }
    sl_half_free(h_one);
    sl_half_free(h_all);
    sl_adapter_free(one);
    sl_adapter_free(all);
    sl_model_free(m);
}

static void half_forward__ragged_batch_equals_separate_runs(void **state)
{
    for (unsigned f = 0; f < 2; f++)
        ragged_equals_separate(families[f]);
}

static double perturbed(struct sl_half *h, struct batch *b, float *w, const float *g, size_t n, double step)
{
    float *saved = malloc(n * sizeof *w);
    memcpy(saved, w, n * sizeof *w);
    for (size_t i = 0; i < n; i++)
        w[i] = (float)(saved[i] + step * g[i]);
    double value = loss(h, b);
    memcpy(w, saved, n * sizeof *w);
    free(saved);
    return value;
}

/* Along the gradient g the loss changes by ‖g‖² per unit: a central difference in f32 shows it to about 1e-3.
 */
static void assert_gradient(
    struct sl_half *h, struct batch *b, float *w, const float *grad, size_t n, const char *name)
{
    double norm2 = 0;
    float *g = malloc(n * sizeof *g);
    memcpy(g, grad, n * sizeof *g);
    for (size_t i = 0; i < n; i++)
        norm2 += (double)g[i] * g[i];
    assert_true(norm2 > 0);
    double step = 2e-2 / sqrt(norm2); /* moves w by 2e-2 in all */
    double slope = (perturbed(h, b, w, g, n, step) - perturbed(h, b, w, g, n, -step)) / (2 * step);
    if (fabs(slope / norm2 - 1) > 1e-2)
        fail_msg("%s: slope %g, gradient %g", name, slope, norm2);
    free(g);
}

static void gradients_match_differences(const struct sl_model_config *config)
{
    const uint32_t lens[] = {19, 7};
    struct sl_lora_config lora = all_lora(config);
    struct sl_model *m = fixture_model(config, 1);
    assert_int_equal(sl_model_enable_grads(m), 0);
    struct sl_adapter *a = fixture_adapter(config, &lora, 0, LAYERS);
    struct sl_half *h = half(m, a, 0, LAYERS, true);
    struct batch b;
    make_batch(&b, lens, 2);
    loss(h, &b);
    assert_int_equal(sl_half_backward(h, b.seqs, b.n, NULL), 0);
    for (uint32_t i = 0; i < sl_model_param_count(m); i++) {
        struct sl_param *p = sl_model_param(m, i);
        assert_gradient(h, &b, p->data, p->grad, p->n, p->name);
    }
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct sl_block block = sl_adapter_block(a, l);
        assert_gradient(h, &b, block.data, block.grad, block.n, "adapter");
    }
    sl_half_free(h);
    sl_adapter_free(a);
    sl_model_free(m);
}

static void half_backward__gradients_match_finite_differences(void **state)
{
    for (unsigned f = 0; f < 2; f++)
        gradients_match_differences(families[f]);
}

/* Adapters on blocks [0, 2) of a whole model: the others run on the base weights, and the gradient passes
 * through. */
static void half_backward__adapter_may_cover_some_blocks(void **state)
{
    for (unsigned f = 0; f < 2; f++) {
        const uint32_t lens[] = {19, 7};
        struct sl_lora_config lora = all_lora(families[f]);
        struct sl_model *m = fixture_model(families[f], 1);
        struct sl_adapter *a = fixture_adapter(families[f], &lora, 0, 2);
        struct sl_half *h = half(m, a, 0, LAYERS, false);
        struct batch b;
        make_batch(&b, lens, 2);
        loss(h, &b);
        assert_int_equal(sl_half_backward(h, b.seqs, b.n, NULL), 0);
        for (uint32_t l = 0; l < 2; l++) {
            struct sl_block block = sl_adapter_block(a, l);
            assert_gradient(h, &b, block.data, block.grad, block.n, "adapter");
        }
        sl_half_free(h);
        sl_adapter_free(a);
        sl_model_free(m);
    }
}

/* Gradients of B with A frozen, or with nobody asking for dx, are those of the full run. */
static void half_backward__what_is_not_asked_for_changes_nothing(void **state)
{
    static float x[MAX_ROWS * 48], dx[MAX_ROWS * 48];
    const uint32_t lens[] = {61, 7};
    for (unsigned f = 0; f < 2; f++) {
        struct sl_lora_config lora = all_lora(families[f]), frozen = lora;
        frozen.freeze_a = true;
        struct sl_model *m = fixture_model(families[f], 1);
        struct sl_adapter *a = fixture_adapter(families[f], &lora, 2, LAYERS);
        struct sl_adapter *b_only = fixture_adapter(families[f], &frozen, 2, LAYERS);
        struct sl_half *h = half(m, a, 2, LAYERS, false), *h_b = half(m, b_only, 2, LAYERS, false);
        struct batch b;
        make_batch(&b, lens, 2);
        for (int i = 0; i < MAX_ROWS * 48; i++)
            x[i] = (float)sin(i);
        for (uint32_t i = 0; i < 2; i++) {
            b.seqs[i].enter = 2;
            b.seqs[i].x = x + (size_t)(i ? 61 : 0) * 48;
            b.seqs[i].dx = dx + (size_t)(i ? 61 : 0) * 48;
        }
        loss(h, &b);
        assert_int_equal(sl_half_backward(h, b.seqs, b.n, NULL), 0);
        b.seqs[0].dx = b.seqs[1].dx = NULL;
        loss(h_b, &b);
        assert_int_equal(sl_half_backward(h_b, b.seqs, b.n, NULL), 0);
        for (uint32_t l = 2; l < LAYERS; l++) {
            struct sl_block all = sl_adapter_block(a, l), tail = sl_adapter_block(b_only, l);
            assert_memory_equal(all.grad + (all.n - tail.n), tail.grad, tail.n * sizeof(float));
        }
        sl_half_free(h);
        sl_half_free(h_b);
        sl_adapter_free(a);
        sl_adapter_free(b_only);
        sl_model_free(m);
    }
}

static void half_forward__inference_gives_the_same_losses(void **state)
{
    const uint32_t lens[] = {129, 1, 7};
    for (unsigned f = 0; f < 2; f++) {
        struct sl_lora_config lora = all_lora(families[f]);
        struct sl_model *m = fixture_model(families[f], 1);
        struct sl_adapter *a = fixture_adapter(families[f], &lora, 0, LAYERS);
        struct sl_half_config c = {.last = LAYERS, .max_rows = 137, .max_seqs = 3, .inference = true};
        struct sl_half *train = half(m, a, 0, LAYERS, false), *infer;
        struct batch b;
        assert_int_equal(sl_half_create(m, a, &c, &infer), 0);
        make_batch(&b, lens, 3);
        double expected = loss(train, &b);
        assert_true(loss(infer, &b) == expected);
        assert_int_equal(sl_half_backward(infer, b.seqs, b.n, NULL), -EINVAL);
        sl_half_free(train);
        sl_half_free(infer);
        sl_adapter_free(a);
        sl_model_free(m);
    }
}

/* Rules T15: a hostile row shows in its own figure, and no other sequence's loss feels it. */
static void half_entry_meansq__shows_the_hostile_row_alone(void **state)
{
    static float x[2][7 * 48];
    const uint32_t lens[] = {5, 7, 7};
    for (unsigned f = 0; f < 2; f++) {
        struct sl_model *m = fixture_model(families[f], 1);
        struct sl_half *h = half(m, NULL, 0, LAYERS, false);
        struct batch b;
        make_batch(&b, lens, 3);
        for (int i = 0; i < 7 * 48; i++)
            x[0][i] = x[1][i] = (float)sin(i);
        for (uint32_t i = 1; i < 3; i++) {
            b.seqs[i].enter = i;
            b.seqs[i].x = x[i - 1];
        }
        loss(h, &b);
        double nll[] = {b.seqs[0].nll, b.seqs[1].nll};
        for (uint32_t i = 0; i < 7; i++) {
            double square = 0;
            for (int j = 0; j < 48; j++)
                square += x[1][i * 48 + j] * x[1][i * 48 + j] / 48;
            assert_true(fabs(sl_half_entry_meansq(h, 2)[i] / square - 1) < 1e-5);
        }
        x[1][3 * 48 + 5] = NAN;
        loss(h, &b);
        assert_true(b.seqs[0].nll == nll[0] && b.seqs[1].nll == nll[1]);
        for (uint32_t i = 0; i < 7; i++) {
            assert_true(isfinite(sl_half_entry_meansq(h, 1)[i]));
            assert_int_equal(isfinite(sl_half_entry_meansq(h, 2)[i]) != 0, i != 3);
        }
        assert_null(sl_half_entry_meansq(h, 3));
        sl_half_free(h);
        sl_model_free(m);
    }
}

static void half_forward__refuses_batches_that_do_not_fit(void **state)
{
    static float x[200 * 48];
    const uint32_t lens[] = {5, 7};
    struct sl_model *m = fixture_model(&fixture_gpt2, 1);
    struct sl_half *h = half(m, NULL, 0, LAYERS, false), *back = half(m, NULL, 2, LAYERS, false);
    struct batch b;
    make_batch(&b, lens, 2);
    loss(h, &b);
    b.ids[3] = VOCAB;
    assert_int_equal(sl_half_forward(h, b.seqs, 2, NULL), -EINVAL);
    assert_int_equal(sl_half_backward(h, b.seqs, 2, NULL), -EINVAL);
    make_batch(&b, lens, 2);
    b.targets[11] = UINT32_MAX;
    assert_int_equal(sl_half_forward(h, b.seqs, 2, NULL), -EINVAL);
    make_batch(&b, lens, 2);
    b.seqs[1].len = 0;
    assert_int_equal(sl_half_forward(h, b.seqs, 2, NULL), -EINVAL);
    b.seqs[1].len = fixture_gpt2.max_positions + 1;
    assert_int_equal(sl_half_forward(h, b.seqs, 2, NULL), -EINVAL);
    make_batch(&b, lens, 2);
    b.seqs[0].len = b.seqs[1].len = 101; /* each fits, both do not */
    assert_int_equal(sl_half_forward(h, b.seqs, 2, NULL), -EINVAL);
    make_batch(&b, lens, 2);
    b.seqs[0].enter = 1;
    b.seqs[0].x = x;
    assert_int_equal(sl_half_forward(h, b.seqs, 2, NULL), -EINVAL);    /* not ascending */
    assert_int_equal(sl_half_forward(back, b.seqs, 1, NULL), -EINVAL); /* enters below the half */
    b.seqs[0].enter = LAYERS;
    assert_int_equal(sl_half_forward(h, b.seqs, 1, NULL), -EINVAL);
    make_batch(&b, lens, 2);
    assert_int_equal(sl_half_forward(h, b.seqs, 0, NULL), -EINVAL);
    assert_int_equal(sl_half_forward(h, b.seqs, MAX_SEQS + 1, NULL), -EINVAL);
    b.seqs[0].targets = NULL;
    assert_int_equal(sl_half_forward(h, b.seqs, 2, NULL), -EINVAL);
    sl_half_free(h);
    sl_half_free(back);
    sl_model_free(m);
}

static void half_forward__refuses_more_threads_than_it_was_made_for(void **state)
{
    const uint32_t lens[] = {5, 7};
    struct sl_model *m = fixture_model(&fixture_gpt2, 1);
    assert_int_equal(sl_model_pack(m, SL_PRECISION_F32, true), 0);
    struct sl_half *one = half(m, NULL, 0, LAYERS, false);
    sl_parallel_set_threads(3);
    struct sl_half *three = half(m, NULL, 0, LAYERS, false);
    struct batch b;
    float logits[12 * VOCAB];
    make_batch(&b, lens, 2);
    assert_int_equal(sl_half_forward(one, b.seqs, 2, NULL), -EINVAL);
    double with_three = loss(three, &b);
    sl_parallel_set_threads(1);
    double with_one = loss(one, &b);
    assert_true(fabs(with_three - with_one) < 1e-5 * with_one);
    sl_parallel_set_threads(2);
    assert_int_equal(sl_half_backward(one, b.seqs, 2, NULL), -EINVAL);
    assert_int_equal(sl_half_logits(one, logits), -EINVAL);
    assert_int_equal(sl_half_backward(three, b.seqs, 2, NULL), 0); /* fewer will do */
    sl_parallel_set_threads(1);
    sl_half_free(one);
    sl_half_free(three);
    sl_model_free(m);
}

/* 645 rows are two tiles of logits, the first ending inside a sequence: as good as one sequence at a time. */
static void half_forward__loss_does_not_depend_on_the_heads_tiles(void **state)
{
    enum { LEN = 129, SEQS = 5 };
    static uint32_t ids[LEN * SEQS], targets[LEN * SEQS];
    fixture_ids(5, "ids", VOCAB, LEN * SEQS, ids);
    fixture_ids(5, "targets", VOCAB, LEN * SEQS, targets);
    for (unsigned f = 0; f < 2; f++) {
        struct sl_model *one = fixture_model(families[f], 1), *all = fixture_model(families[f], 1);
        struct sl_half_config c = {.last = LAYERS, .max_rows = LEN * SEQS, .max_seqs = SEQS, .full = true};
        struct sl_half *h_one, *h_all;
        struct sl_seq s[SEQS];
        double nll[SEQS];
        assert_int_equal(sl_model_enable_grads(one), 0);
        assert_int_equal(sl_model_enable_grads(all), 0);
        assert_int_equal(sl_half_create(one, NULL, &c, &h_one), 0);
        assert_int_equal(sl_half_create(all, NULL, &c, &h_all), 0);
        for (uint32_t i = 0; i < SEQS; i++) {
            s[i] = (struct sl_seq){.len = LEN, .ids = ids + i * LEN, .targets = targets + i * LEN};
            assert_int_equal(sl_half_forward(h_one, &s[i], 1, NULL), 0);
            assert_int_equal(sl_half_backward(h_one, &s[i], 1, NULL), 0);
            nll[i] = s[i].nll;
        }
        assert_int_equal(sl_half_forward(h_all, s, SEQS, NULL), 0);
        assert_int_equal(sl_half_gemm_count(h_all), 4 * LAYERS + 1);
        assert_int_equal(sl_half_backward(h_all, s, SEQS, NULL), 0);
        for (uint32_t i = 0; i < SEQS; i++)
            assert_true(fabs(s[i].nll / nll[i] - 1) < 1e-6);
        for (uint32_t i = 0; i < sl_model_param_count(one); i++) {
            struct sl_param *p = sl_model_param(one, i), *q = sl_model_param(all, i);
            assert_true(fixture_distance(q->grad, p->grad, p->n) < 5e-6);
        }
        sl_half_free(h_one);
        sl_half_free(h_all);
        sl_model_free(one);
        sl_model_free(all);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_forward__split_at_any_cut_equals_the_whole_bit_for_bit),
        cmocka_unit_test(half_forward__ragged_batch_equals_separate_runs),
        cmocka_unit_test(half_forward__loss_does_not_depend_on_the_heads_tiles),
        cmocka_unit_test(half_backward__gradients_match_finite_differences),
        cmocka_unit_test(half_backward__adapter_may_cover_some_blocks),
        cmocka_unit_test(half_backward__what_is_not_asked_for_changes_nothing),
        cmocka_unit_test(half_forward__inference_gives_the_same_losses),
        cmocka_unit_test(half_entry_meansq__shows_the_hostile_row_alone),
        cmocka_unit_test(half_forward__refuses_batches_that_do_not_fit),
        cmocka_unit_test(half_forward__refuses_more_threads_than_it_was_made_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
