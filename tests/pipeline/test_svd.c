/* The trainer with `how: svd`: devices of different ranks and cuts, moments, the checkpoint. */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include "trainer/pipeline/factors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 17, BATCH = 2 };

static void send_windows(struct world *w, uint32_t device, uint32_t at)
{
    const uint32_t *windows[BATCH], len[BATCH] = {WINDOW, WINDOW};
    for (uint32_t i = 0; i < BATCH; i++)
        windows[i] = text_window(at * BATCH + i, WINDOW);
    phone_send(&w->phones[device], w->lcore, windows, len, BATCH, SL_REQUEST_TRAIN);
}

static void step(struct world *w, uint32_t s)
{
    for (uint32_t d = 0; d < w->n_phones; d++)
        send_windows(w, d, s * w->n_phones + d);
    world_run(w);
}

/* One device of G's rank: nothing is averaged, nothing re-factored, no moment reset (rules L4, L6). */
static void svd__one_device_is_bit_identical_to_central(void **state)
{
    struct world w;
    struct central c;
    struct sl_optim_config optim = adamw(1e-2f);
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    world_open(
        &w, &(struct world_config){
                .optim = optim, .n_phones = 1, .cut = {2}, .aggregate_every = 3, .svd = true, .steps = 20});
    central_init(&c, w.model, &lora, &optim, 64);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t s = 0; s < 20; s++) {
        const uint32_t *windows[BATCH], len[BATCH] = {WINDOW, WINDOW};
        for (uint32_t i = 0; i < BATCH; i++)
            windows[i] = text_window(s * BATCH + i, WINDOW);
        step(&w, s);
        double loss = central_step(&c, windows, len, BATCH);
        assert_memory_equal(&w.loss, &loss, sizeof loss);
    }
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct sl_block b = sl_adapter_block(c.adapter, l);
        assert_memory_equal(w.g + l * b.n, b.data, b.n * sizeof *b.data);
    }
    central_free(&c);
    world_close(&w);
}

/* m [out, in] += scale * B A of the first factor of a block of that rank. */
static void add_product(
    const struct sl_model_config *shape, uint32_t rank, const float *block, double scale, double *m)
{
    struct sl_lora_config lora = tiny_lora(shape->family, false);
    struct sl_factor f[SL_TARGET_COUNT];
    lora.rank = rank;
    sl_factors(shape, &lora, f);
    for (uint32_t o = 0; o < f->out; o++)
        for (uint32_t i = 0; i < f->in; i++)
            for (uint32_t j = 0; j < rank; j++)
                m[(size_t)o * f->in + i] +=
                    scale * block[f->b + (size_t)o * rank + j] * (double)block[f->a + (size_t)j * f->in + i];
}

/* Ranks 1 and 2 under a G of rank 4, whose product was nought: the mean of the two products has rank 3 at
 * most, so G is the mean, and all who started from the same G and hold different ranks are counted by their
 * tokens. */
static void svd__mixed_ranks_average_their_products(void **state)
{
    for (unsigned family = 0; family < 2; family++) {
        struct world w;
        struct world_config c = {.family = family ? SL_FAMILY_GPT2 : SL_FAMILY_LLAMA,
            .optim = adamw(1e-2f),
            .n_phones = 2,
            .cut = {2, 2},
            .rank = {1, 2},
            .aggregate_every = 4,
            .svd = true};
        fake_now_ns = 1;
        world_open(&w, &c);
        const struct sl_model_config *shape = sl_model_config(w.model);
        uint32_t rank = tiny_lora(c.family, false).rank;
        assert_true(rank >= 3);
        struct sl_lora_config lora = tiny_lora(c.family, false);
        size_t size = 4096 * 4;
        double *m = calloc(size, sizeof *m), whole = 0, rest = 0;
        world_phase(&w, SL_TRAINER_TRAIN);
        for (uint32_t s = 0; s < 3; s++)
            step(&w, s);
        /* The fourth step ends the round: take what they push, before they install. */
        uint64_t version = w.version;
        for (uint32_t d = 0; d < 2; d++)
            send_windows(&w, d, 6 + d);
        w.keep_pushes = true;
        world_run(&w);
        assert_int_equal(w.version, version + 1);
        for (uint32_t d = 0; d < 2; d++)
            add_product(shape, c.rank[d], w.pushes[d], 0.5, m);
        for (size_t i = 0; i < size; i++)
            whole += m[i] * m[i];
        add_product(shape, rank, w.g, -1, m);
        for (size_t i = 0; i < size; i++)
            rest += m[i] * m[i];
        assert_true(whole > 0 && sqrt(rest / whole) < 1e-6);
        assert_true(w.factor_error < 1e-6);
        for (uint32_t d = 0; d < 2; d++) { /* and each begins with the best of its rank, and fresh moments */
            struct sl_block b = sl_adapter_block(w.phones[d].adapter, 0);
            struct sl_factor own[SL_TARGET_COUNT], g[SL_TARGET_COUNT];
            sl_factors(shape, sl_adapter_lora(w.phones[d].adapter), own);
            sl_factors(shape, &lora, g);
            assert_memory_equal(b.data + own->a, w.g + g->a, c.rank[d] * g->in * sizeof(float));
            assert_int_equal(w.phones[d].moments[0].t, 0);
        }
        free(m);
        world_close(&w);
    }
}

/* Cuts and ranks all different, for a while: it learns, and nothing overflows. */
static void svd__mixed_ranks_and_cuts_learn(void **state)
{
    struct world w;
    struct world_config c = {.optim = adamw(3e-2f),
        .n_phones = 4,
        .cut = {1, 3, 2, 3},
        .rank = {1, 2, 0, 1},
        .aggregate_every = 4,
        .svd = true,
        .steps = 40};
    double first = 0;
    fake_now_ns = 1;
    world_open(&w, &c);
    world_phase(&w, SL_TRAINER_TRAIN);
    for (uint32_t s = 0; s < 40; s++) {
        step(&w, 0); /* the same windows again and again */
        if (s == 0)
            first = w.loss;
    }
    assert_int_equal(w.finished, 1);
    assert_true(w.diverged == 0 && w.push_refused == 0);
    assert_true(w.loss < first - 0.2);
    world_close(&w);
}

/* A push of another rank than the device's is refused. */
static void push__of_another_rank_is_refused(void **state)
{
    struct world w;
    struct world_config c = {
        .optim = sgd(0.1f), .n_phones = 1, .cut = {2}, .rank = {2}, .aggregate_every = 1, .svd = true};
    fake_now_ns = 1;
    world_open(&w, &c);
    world_phase(&w, SL_TRAINER_TRAIN);
    struct sl_lora_config lora = tiny_lora(SL_FAMILY_LLAMA, false);
    struct sl_command *push = sl_trainer_command(w.trainer);
    push->kind = SL_COMMAND_PUSH;
    push->device = 0;
    push->push.version = 0;
    push->push.tokens = 1;
    push->push.step = 1;
    push->push.first = 0;
    push->push.last = 2;
    push->push.n = 2 * sl_adapter_block_size(sl_model_config(w.model), &lora);
    push->push.weights = calloc(push->push.n, sizeof(float));
    sl_trainer_post(w.trainer, push);
    world_run(&w);
    assert_int_equal(w.push_refused, 1);
    world_close(&w);
}

/* Killed and resumed: the same bytes as one that was not (rules T12). */
static void checkpoint__of_svd_resumes_bit_for_bit(void **state)
{
    float *g[2];
    size_t n = 0;
    for (unsigned disturbed = 0; disturbed < 2; disturbed++) {
        struct world w;
        struct world_config c = {.optim = adamw(1e-2f),
            .n_phones = 2,
            .cut = {1, 2},
            .rank = {2, 0},
            .aggregate_every = 2,
            .svd = true,
            .deterministic = true,
            .steps = 8};
        fake_now_ns = 1;
        world_open(&w, &c);
        world_phase(&w, SL_TRAINER_TRAIN);
        for (uint32_t s = 0; s < 8; s++) {
            step(&w, s);
            if (disturbed && s == 3) { /* at a boundary: the phones' moments are fresh, like a new phone's */
                struct sl_checkpoint *k = world_checkpoint(&w);
                for (uint32_t d = 0; d < 2; d++)
                    assert_int_equal(w.phones[d].moments[0].t, 0);
                for (uint32_t l = 0; l < k->n_layers - k->first; l++) /* ranks are mixed: all blocks */
                    assert_true(k->moments[l].t == 0 && k->moments[l].m[0] == 0);
                world_restart(&w, &c, k, 4);
            }
        }
        assert_int_equal(w.finished, 1);
        g[disturbed] = world_g(&w, &n);
        world_close(&w);
    }
    assert_memory_equal(g[0], g[1], n * sizeof(float));
    free(g[0]);
    free(g[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(svd__one_device_is_bit_identical_to_central),
        cmocka_unit_test(svd__mixed_ranks_average_their_products),
        cmocka_unit_test(svd__mixed_ranks_and_cuts_learn),
        cmocka_unit_test(push__of_another_rank_is_refused),
        cmocka_unit_test(checkpoint__of_svd_resumes_bit_for_bit),
    };
    return cmocka_run_group_tests_name("pipeline/svd", tests, NULL, NULL);
}
