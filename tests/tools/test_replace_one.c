/* Pairs trained in one batch against the same trainings one by one, whole or cut. */
#include "trainer/tools/replace_one.h"

#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { SEQ = 8, BATCH = 2, STEPS = 12, K = 6, SWAPS = 5, WINDOWS = K + SWAPS, LAYERS = 4 };

static const struct sl_model_config shape = {.family = SL_FAMILY_LLAMA,
    .n_layers = LAYERS,
    .d_model = 32,
    .n_heads = 4,
    .n_kv_heads = 2,
    .head_dim = 8,
    .d_ff = 48,
    .vocab = 60,
    .max_positions = 32,
    .norm_eps = 1e-5f,
    .rope_theta = 10000,
    .tied_embeddings = true};

static struct sl_model *model;
static uint32_t text[WINDOWS][SEQ];
static const uint32_t *samples[WINDOWS];
static uint32_t order[STEPS * BATCH];
static double losses[STEPS];
static char err[256];

/* cmocka's own compares as float. */
#define assert_near(a, b, by) assert_true(fabs((a) - (b)) <= (by))

static int make_model(void **state)
{
    uint64_t key = sl_rng_key(1, "text");
    assert_int_equal(sl_model_create(&shape, 3, &model), 0);
    assert_int_equal(sl_model_pack(model, SL_PRECISION_F32, true), 0);
    for (uint32_t w = 0; w < WINDOWS; w++) {
        samples[w] = text[w];
        for (uint32_t t = 0; t < SEQ; t++)
            text[w][t] = (uint32_t)(sl_rng_u64(key, w * SEQ + t) % shape.vocab);
    }
    for (uint32_t i = 0; i < STEPS * BATCH; i++) /* the last place of S is never drawn */
        order[i] = i < 4 ? i / 2 : (i * 7 + i / 5) % (K - 1);
    return 0;
}

static int free_model(void **state)
{
    sl_model_free(model);
    return 0;
}

static struct sl_replace_config config_of(uint32_t together, uint32_t cut)
{
    return (struct sl_replace_config){.model = model,
        .lora = {.rank = 4,
            .alpha = 8,
            .targets = sl_target_bits(SL_FAMILY_LLAMA, "q_proj") | sl_target_bits(SL_FAMILY_LLAMA, "v_proj")},
        .optim = {.kind = SL_ADAMW, .lr = 2e-2f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f},
        .steps = STEPS,
        .batch = BATCH,
        .seq = SEQ,
        .swaps = together,
        .cut = cut};
}

static void fill_swaps(struct sl_swap *swaps)
{
    for (uint32_t i = 0; i < SWAPS; i++)
        swaps[i] = (struct sl_swap){.place = i, .other = samples[K + i]};
}

static struct sl_replace_job job_of(struct sl_swap *swaps, uint32_t n, uint32_t blocks)
{
    return (struct sl_replace_job){.windows = samples,
        .k = K,
        .blocks = blocks,
        .order = order,
        .seed = 11,
        .swaps = swaps,
        .n_swaps = n,
        .losses = losses};
}

static void run(const struct sl_replace_config *config, const struct sl_replace_job *job)
{
    struct sl_replace *bench;
    assert_int_equal(sl_replace_create(config, &bench, err, sizeof err), 0);
    assert_int_equal(sl_replace_run(bench, job, err, sizeof err), 0);
    sl_replace_free(bench);
}

static void run__set_against_itself_is_exactly_zero(void **state)
{
    struct sl_swap swaps[SWAPS];
    fill_swaps(swaps);
    for (uint32_t i = 2; i < SWAPS; i++)
        swaps[i] = (struct sl_swap){.place = i, .other = samples[i], .from_start = true};
    struct sl_replace_config config = config_of(SWAPS, 0);
    struct sl_replace_job job = job_of(swaps, SWAPS, LAYERS);
    run(&config, &job);
    for (uint32_t i = 2; i < SWAPS; i++)
        assert_true(sl_swap_difference(&swaps[i]) == 0);
    assert_true(sl_swap_difference(&swaps[0]) > 1e-3 && sl_swap_difference(&swaps[1]) > 1e-3);
}

static void run__swap_from_the_start_is_the_one_from_its_first_draw(void **state)
{
    struct sl_swap late[SWAPS], early[SWAPS];
    fill_swaps(late);
    fill_swaps(early);
    for (uint32_t i = 0; i < SWAPS; i++)
        early[i].from_start = true;
    struct sl_replace_config config = config_of(SWAPS, 0);
    struct sl_replace_job job = job_of(late, SWAPS, 2);
    run(&config, &job);
    job.swaps = early;
    run(&config, &job);
    for (uint32_t i = 0; i < SWAPS; i++)
        assert_true(sl_swap_difference(&early[i]) == sl_swap_difference(&late[i]));
}

static void run__one_swap_a_batch_gives_what_many_give(void **state)
{
    struct sl_swap many[SWAPS], one[SWAPS], two[SWAPS];
    fill_swaps(many);
    fill_swaps(one);
    fill_swaps(two);
    struct sl_replace_config config = config_of(SWAPS, 0);
    struct sl_replace_job job = job_of(many, SWAPS, 3);
    run(&config, &job);
    config = config_of(1, 0);
    job.swaps = one;
    run(&config, &job);
    config = config_of(2, 0);
    job.swaps = two;
    run(&config, &job);
    for (uint32_t i = 0; i < SWAPS; i++) {
        for (int z = 0; z < 2; z++) {
            assert_near(one[i].by_set[z], many[i].by_set[z], 1e-6);
            assert_near(one[i].by_swap[z], many[i].by_swap[z], 1e-6);
            assert_near(two[i].by_swap[z], many[i].by_swap[z], 1e-6);
        }
    }
}

/* One plain training with a half of its own; the losses on two windows go to `out`. */
static void train_plainly(
    uint32_t blocks, uint32_t place, const uint32_t *other, const uint32_t *scored[2], double out[2])
{
    struct sl_replace_config c = config_of(1, 0);
    struct sl_adapter *adapter;
    struct sl_moments moments[LAYERS];
    struct sl_half *half;
    struct sl_seq seqs[BATCH];
    c.lora.seed = 11;
    assert_int_equal(sl_adapter_create(&shape, &c.lora, 0, blocks, &adapter), 0);
    for (uint32_t l = 0; l < blocks; l++)
        assert_int_equal(sl_moments_create(&c.optim, sl_adapter_block(adapter, l).n, &moments[l]), 0);
    struct sl_half_config config = {.last = LAYERS, .max_rows = BATCH * (SEQ - 1), .max_seqs = BATCH};
    assert_int_equal(sl_half_create(model, adapter, &config, &half), 0);
    for (uint32_t s = 0; s < STEPS; s++) {
        for (uint32_t b = 0; b < BATCH; b++) {
            const uint32_t *w = order[s * BATCH + b] == place ? other : samples[order[s * BATCH + b]];
            seqs[b] = (struct sl_seq){.len = SEQ - 1, .ids = w, .targets = w + 1};
        }
        sl_adapter_zero_grads(adapter);
        assert_int_equal(sl_half_forward(half, seqs, BATCH, NULL), 0);
        assert_int_equal(sl_half_backward(half, seqs, BATCH, NULL), 0);
        for (uint32_t l = 0; l < blocks; l++) {
            struct sl_block b = sl_adapter_block(adapter, l);
            sl_optim_apply(&c.optim, &moments[l], b.data, b.grad, b.n, BATCH * (SEQ - 1), s + 1);
        }
    }
    for (int z = 0; z < 2; z++)
        seqs[z] = (struct sl_seq){.len = SEQ - 1, .ids = scored[z], .targets = scored[z] + 1};
    assert_int_equal(sl_half_forward(half, seqs, 2, NULL), 0);
    for (int z = 0; z < 2; z++)
        out[z] = seqs[z].nll / (SEQ - 1);
    for (uint32_t l = 0; l < blocks; l++)
        sl_moments_free(&moments[l]);
    sl_half_free(half);
    sl_adapter_free(adapter);
}

static void run__losses_are_those_of_plain_trainings(void **state)
{
    struct sl_swap swaps[SWAPS];
    fill_swaps(swaps);
    struct sl_replace_config config = config_of(SWAPS, 0);
    struct sl_replace_job job = job_of(swaps, SWAPS, 2);
    run(&config, &job);
    for (uint32_t i = 0; i < SWAPS; i++) {
        const uint32_t *scored[2] = {samples[i], samples[K + i]};
        double by_set[2], by_swap[2];
        train_plainly(2, UINT32_MAX, NULL, scored, by_set);
        train_plainly(2, i, samples[K + i], scored, by_swap);
        for (int z = 0; z < 2; z++) {
            assert_near(swaps[i].by_set[z], by_set[z], 1e-6);
            assert_near(swaps[i].by_swap[z], by_swap[z], 1e-6);
        }
    }
}

/* Rules P1: where both halves train, the cut alone changes nothing. */
static void run__cut_alone_changes_nothing(void **state)
{
    struct sl_swap whole[SWAPS], cut[SWAPS];
    double whole_losses[STEPS];
    fill_swaps(whole);
    struct sl_replace_config config = config_of(SWAPS, 0);
    struct sl_replace_job job = job_of(whole, SWAPS, LAYERS);
    run(&config, &job);
    memcpy(whole_losses, losses, sizeof losses);
    assert_true(losses[STEPS - 1] < losses[0]);
    for (uint32_t c = 1; c < LAYERS; c++) {
        fill_swaps(cut);
        config = config_of(SWAPS, c);
        job.swaps = cut;
        run(&config, &job);
        for (uint32_t s = 0; s < STEPS; s++)
            assert_near(losses[s], whole_losses[s], 1e-6);
        for (uint32_t i = 0; i < SWAPS; i++)
            assert_near(sl_swap_difference(&cut[i]), sl_swap_difference(&whole[i]), 1e-6);
    }
}

/* Blocks without LoRA: the trainable share does change it, and the cut still does not. */
static void run__share_matters_where_the_cut_does_not(void **state)
{
    struct sl_swap all[SWAPS], half[SWAPS], half_cut[SWAPS];
    fill_swaps(all);
    fill_swaps(half);
    fill_swaps(half_cut);
    struct sl_replace_config config = config_of(SWAPS, 0), cut = config_of(SWAPS, 3);
    struct sl_replace_job job = job_of(all, SWAPS, LAYERS);
    run(&config, &job);
    job = job_of(half, SWAPS, 2);
    run(&config, &job);
    job.swaps = half_cut;
    run(&cut, &job);
    for (uint32_t i = 0; i < SWAPS; i++) {
        assert_true(fabs(sl_swap_difference(&half[i]) - sl_swap_difference(&all[i])) > 1e-5);
        assert_near(sl_swap_difference(&half[i]), sl_swap_difference(&half_cut[i]), 1e-6);
    }
}

/* The term draws both trainings to the base model: what is left of a swap's difference is small. */
static void run__stability_term_steadies(void **state)
{
    struct sl_swap without[SWAPS], with[SWAPS];
    double apart[2] = {0};
    fill_swaps(without);
    fill_swaps(with);
    struct sl_replace_config config = config_of(SWAPS, 0);
    struct sl_replace_job job = job_of(without, SWAPS, LAYERS);
    run(&config, &job);
    job.swaps = with;
    job.proximal = 10;
    run(&config, &job);
    for (uint32_t i = 0; i < SWAPS; i++) {
        apart[0] += sl_swap_difference(&without[i]);
        apart[1] += sl_swap_difference(&with[i]);
    }
    assert_true(apart[1] > 0 && apart[1] < apart[0] / 2);
}

static void run__place_that_is_never_drawn_changes_nothing(void **state)
{
    struct sl_swap swap = {.place = K - 1, .other = samples[K]};
    struct sl_replace_config config = config_of(1, 0);
    struct sl_replace_job job = job_of(&swap, 1, LAYERS);
    run(&config, &job);
    assert_true(sl_swap_difference(&swap) == 0);
    assert_true(swap.by_set[0] > 0);
}

static void run__loss_that_is_no_number_is_an_error(void **state)
{
    struct sl_swap swaps[SWAPS];
    struct sl_replace *bench;
    fill_swaps(swaps);
    struct sl_replace_config config = config_of(SWAPS, 0);
    struct sl_replace_job job = job_of(swaps, SWAPS, LAYERS);
    config.optim.lr = 1e30f;
    assert_int_equal(sl_replace_create(&config, &bench, err, sizeof err), 0);
    assert_int_equal(sl_replace_run(bench, &job, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "lower --lr"));
    sl_replace_free(bench);
}

static unsigned asked;
static bool stop_at_fifth(void)
{
    return ++asked == 5;
}

static void run__stops_between_steps(void **state)
{
    struct sl_swap swaps[SWAPS];
    struct sl_replace *bench;
    fill_swaps(swaps);
    struct sl_replace_config config = config_of(SWAPS, 0);
    struct sl_replace_job job = job_of(swaps, SWAPS, LAYERS);
    config.stop = stop_at_fifth;
    assert_int_equal(sl_replace_create(&config, &bench, err, sizeof err), 0);
    assert_int_equal(sl_replace_run(bench, &job, err, sizeof err), -ECANCELED);
    assert_int_equal(asked, 5);
    assert_int_equal(sl_replace_run(bench, &job, err, sizeof err), 0); /* and can begin anew */
    sl_replace_free(bench);
}

static void create__more_rows_than_can_be_counted(void **state)
{
    struct sl_replace *bench = NULL;
    struct sl_replace_config config = config_of(4096, 0);
    config.batch = 4096;
    config.seq = 1 << 20;
    assert_int_equal(sl_replace_create(&config, &bench, err, sizeof err), -EINVAL);
    assert_null(bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(run__set_against_itself_is_exactly_zero),
        cmocka_unit_test(run__swap_from_the_start_is_the_one_from_its_first_draw),
        cmocka_unit_test(run__one_swap_a_batch_gives_what_many_give),
        cmocka_unit_test(run__losses_are_those_of_plain_trainings),
        cmocka_unit_test(run__cut_alone_changes_nothing),
        cmocka_unit_test(run__share_matters_where_the_cut_does_not),
        cmocka_unit_test(run__stability_term_steadies),
        cmocka_unit_test(run__place_that_is_never_drawn_changes_nothing),
        cmocka_unit_test(run__loss_that_is_no_number_is_an_error),
        cmocka_unit_test(run__stops_between_steps),
        cmocka_unit_test(create__more_rows_than_can_be_counted),
    };
    return cmocka_run_group_tests(tests, make_model, free_model);
}
