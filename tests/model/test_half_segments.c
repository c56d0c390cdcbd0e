/* Many devices in one batch: adapters of their own, and cuts of their own. What each gets must be what it
 * gets alone. */
#include "tests/model/fixture.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LAYERS = FIXTURE_LAYERS, D = FIXTURE_D, FIRST = 1, SEQS = 6, MAX_ROWS = 256, ADAPTERS = 4 };

static const struct sl_model_config *const families[] = {&fixture_llama, &fixture_gpt2};
/* Devices in batch order: lengths, cuts, and whose adapter each runs with. The first two share one, the
 * fourth has none of its own, and the last runs with the first's again. */
static const uint32_t lens[SEQS] = {33, 7, 61, 1, 70, 19}, cuts[SEQS] = {1, 1, 1, 2, 2, 3};
static const int owner[SEQS] = {0, 0, 1, -1, 2, 0};

struct gang {
    struct sl_model *model;
    struct sl_adapter *shared, *own[ADAPTERS];
    struct sl_half *half;
    struct sl_seq seqs[SEQS];
    uint32_t row0[SEQS], rows;
    uint32_t targets[MAX_ROWS];
    float x[MAX_ROWS * D], dx[MAX_ROWS * D];
    uint32_t n_left, left[SEQS]; /* `leave` calls: index of the first sequence of each */
    float dx_left[MAX_ROWS * D];
};

static void leave(void *app, struct sl_seq *seqs, uint32_t n)
{
    struct gang *g = app;
    uint32_t first = (uint32_t)(seqs - g->seqs);
    for (uint32_t i = first; i < first + n; i++)
        memcpy(g->dx_left + (size_t)g->row0[i] * D, seqs[i - first].dx,
            (size_t)seqs[i - first].len * D * sizeof(float));
    g->left[g->n_left++] = first;
}

static struct gang *gang_new(const struct sl_model_config *config, uint32_t max_adapters)
{
    struct gang *g = calloc(1, sizeof *g);
    struct sl_lora_config lora = {
        .rank = 4, .alpha = 8, .targets = fixture_all_targets(config->family), .seed = 7};
    struct sl_half_config c = {.first = FIRST,
        .last = LAYERS,
        .max_rows = MAX_ROWS,
        .max_seqs = SEQS,
        .max_adapters = max_adapters,
        .leave = leave,
        .app = g};
    g->model = fixture_model(config, 1);
    g->shared = fixture_adapter(config, &lora, FIRST, LAYERS);
    for (uint32_t i = 0; i < ADAPTERS; i++) {
        lora.seed = 100 + i;
        g->own[i] = fixture_adapter(config, &lora, FIRST, LAYERS);
    }
    assert_int_equal(sl_half_create(g->model, g->shared, &c, &g->half), 0);
    fixture_ids(3, "targets", FIXTURE_VOCAB, MAX_ROWS, g->targets);
    for (int i = 0; i < MAX_ROWS * D; i++)
        g->x[i] = (float)sin(i * 0.7);
    for (uint32_t i = 0; i < SEQS; i++) {
        g->row0[i] = g->rows;
        g->seqs[i] = (struct sl_seq){.len = lens[i],
            .enter = cuts[i],
            .x = g->x + (size_t)g->rows * D,
            .dx = g->dx + (size_t)g->rows * D,
            .targets = g->targets + g->rows,
            .adapter = owner[i] < 0 ? NULL : g->own[owner[i]]};
        g->rows += lens[i];
    }
    return g;
}

static void gang_free(struct gang *g)
{
    sl_half_free(g->half);
    sl_adapter_free(g->shared);
    for (uint32_t i = 0; i < ADAPTERS; i++)
        sl_adapter_free(g->own[i]);
    sl_model_free(g->model);
    free(g);
}

static void run(struct gang *g, uint32_t first, uint32_t n)
{
    assert_int_equal(sl_half_forward(g->half, g->seqs + first, n, NULL), 0);
    assert_int_equal(sl_half_backward(g->half, g->seqs + first, n, NULL), 0);
}

static void assert_same_adapter(struct sl_adapter *a, struct sl_adapter *b)
{
    for (uint32_t l = FIRST; l < LAYERS; l++) {
        struct sl_block p = sl_adapter_block(a, l), q = sl_adapter_block(b, l);
        assert_true(fixture_distance(p.grad, q.grad, p.n) < 2e-6);
    }
}

static void half_forward__personal_segments_equal_separate_runs(void **state)
{
    for (unsigned f = 0; f < 2; f++) {
        struct gang *all = gang_new(families[f], 5), *one = gang_new(families[f], 1);
        run(all, 0, SEQS);
        assert_int_equal(sl_half_gemm_count(all->half), 4 * (LAYERS - FIRST) + 1);
        for (uint32_t i = 0; i < SEQS; i++)
            run(one, i, 1);
        for (uint32_t i = 0; i < SEQS; i++)
            assert_true(fabs(all->seqs[i].nll / one->seqs[i].nll - 1) < 1e-6);
        assert_true(fixture_distance(all->dx, one->dx, (size_t)all->rows * D) < 2e-6);
        assert_same_adapter(all->shared, one->shared);
        for (uint32_t i = 0; i < ADAPTERS; i++)
            assert_same_adapter(all->own[i], one->own[i]);
        gang_free(all);
        gang_free(one);
    }
}

/* The same weights under two names, in turns, give what they give under one. */
static void half_forward__equal_adapters_equal_the_shared_one(void **state)
{
    for (unsigned f = 0; f < 2; f++) {
        struct gang *turns = gang_new(families[f], SEQS), *shared = gang_new(families[f], 1);
        for (uint32_t l = FIRST; l < LAYERS; l++) {
            struct sl_block from = sl_adapter_block(turns->shared, l),
                            to = sl_adapter_block(turns->own[0], l);
            memcpy(to.data, from.data, from.n * sizeof(float));
        }
        for (uint32_t i = 0; i < SEQS; i++) {
            turns->seqs[i].adapter = i % 2 ? NULL : turns->own[0];
            shared->seqs[i].adapter = NULL;
        }
        run(turns, 0, SEQS);
        run(shared, 0, SEQS);
        for (uint32_t i = 0; i < SEQS; i++)
            assert_true(fabs(turns->seqs[i].nll / shared->seqs[i].nll - 1) < 1e-6);
        assert_true(fixture_distance(turns->dx, shared->dx, (size_t)shared->rows * D) < 2e-6);
        gang_free(turns);
        gang_free(shared);
    }
}

static void half_backward__gradients_leave_highest_cut_first(void **state)
{
    for (unsigned f = 0; f < 2; f++) {
        struct gang *g = gang_new(families[f], 5);
        run(g, 0, SEQS);
        assert_int_equal(g->n_left, 3);
        assert_int_equal(g->left[0], 5);
        assert_int_equal(g->left[1], 3);
        assert_int_equal(g->left[2], 0);
        assert_memory_equal(
            g->dx_left, g->dx, (size_t)g->rows * D * sizeof(float)); /* final when they left */
        g->n_left = 0;
        for (uint32_t i = 3; i < 5; i++)
            g->seqs[i].dx = NULL;
        run(g, 0, SEQS);
        assert_int_equal(g->n_left, 2); /* nobody asked at cut 2 */
        gang_free(g);
    }
}

static void half_forward__refuses_adapters_that_do_not_fit(void **state)
{
    struct gang *g = gang_new(&fixture_gpt2, 4); /* five segments */
    struct sl_lora_config lora = {.rank = 5, .alpha = 8, .targets = fixture_all_targets(SL_FAMILY_GPT2)};
    struct sl_adapter *other = fixture_adapter(&fixture_gpt2, &lora, FIRST, LAYERS);
    assert_int_equal(sl_half_forward(g->half, g->seqs, SEQS, NULL), -EINVAL);
    assert_int_equal(sl_half_forward(g->half, g->seqs, SEQS - 1, NULL), 0);
    g->seqs[0].adapter = other;
    assert_int_equal(sl_half_forward(g->half, g->seqs, 1, NULL), -EINVAL);
    sl_adapter_free(other);
    gang_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(half_forward__personal_segments_equal_separate_runs),
        cmocka_unit_test(half_forward__equal_adapters_equal_the_shared_one),
        cmocka_unit_test(half_backward__gradients_leave_highest_cut_first),
        cmocka_unit_test(half_forward__refuses_adapters_that_do_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
