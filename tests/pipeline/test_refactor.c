/* Against the definition: products of whole matrices in double. */
#include "tests/pipeline/harness.h"
#include "tests/pipeline/test.h"

#include "trainer/pipeline/factors.h"
#include "trainer/pipeline/refactor.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { RANK = 4, SPAN = LAYERS };

struct fixture {
    struct sl_model_config model;
    struct sl_lora_config lora;
    size_t block;
    float *g, *before;
};

static struct sl_lora_config at_rank(const struct fixture *f, uint32_t rank)
{
    struct sl_lora_config lora = f->lora;
    lora.rank = rank;
    return lora;
}

static void set_up(struct fixture *f, enum sl_family family, uint32_t rank)
{
    f->model = tiny_config(family);
    f->lora = tiny_lora(family, false);
    f->lora.rank = rank;
    f->block = sl_adapter_block_size(&f->model, &f->lora);
    f->g = malloc(SPAN * f->block * sizeof(float));
    f->before = malloc(SPAN * f->block * sizeof(float));
    for (size_t i = 0; i < SPAN * f->block; i++)
        f->g[i] = f->before[i] = 0.3f * sl_rng_uniform(sl_rng_key(1, "G"), i);
}

static void tear_down(struct fixture *f)
{
    free(f->g);
    free(f->before);
}

/* Blocks [first, last) of that rank: what `base` (G's rank) has there, changed a little. */
static float *copy_of(
    const struct fixture *f, uint32_t first, uint32_t last, uint32_t rank, const float *base, unsigned seed)
{
    struct sl_lora_config lora = at_rank(f, rank);
    size_t n = (last - first) * sl_adapter_block_size(&f->model, &lora);
    float *w = malloc(n * sizeof *w);
    sl_factors_prefix(&f->model, &f->lora, base + first * f->block, last - first, rank, w);
    for (size_t i = 0; i < n; i++)
        w[i] += 0.02f * sl_rng_uniform(sl_rng_key(seed, "copy"), i);
    return w;
}

/* m [out, in] += scale * the first `use` components of factor i of a block of that rank. */
static void add_product(const struct fixture *f, uint32_t i, const float *block, uint32_t rank, uint32_t use,
    double scale, double *m)
{
    struct sl_lora_config lora = at_rank(f, rank);
    struct sl_factor factors[SL_TARGET_COUNT];
    sl_factors(&f->model, &lora, factors);
    const struct sl_factor *k = &factors[i];
    for (uint32_t o = 0; o < k->out; o++)
        for (uint32_t c = 0; c < k->in; c++)
            for (uint32_t j = 0; j < use; j++)
                m[(size_t)o * k->in + c] +=
                    scale * block[k->b + (size_t)o * rank + j] * (double)block[k->a + (size_t)j * k->in + c];
}

/* The mean that rules L4 and L5 define, of factor i of `layer`. */
static double *mean_of(const struct fixture *f, uint32_t layer, uint32_t i, const struct sl_copy *copies,
    uint32_t n, struct sl_factor *factor)
{
    struct sl_factor factors[SL_TARGET_COUNT];
    sl_factors(&f->model, &f->lora, factors);
    *factor = factors[i];
    double *m = calloc((size_t)factor->out * factor->in, sizeof *m), tokens = 0;
    add_product(f, i, f->before + layer * f->block, f->lora.rank, f->lora.rank, 1, m);
    for (uint32_t c = 0; c < n; c++)
        tokens += (double)sl_copy_tokens(&copies[c], layer);
    for (uint32_t c = 0; c < n; c++) {
        uint32_t rank = copies[c].rank ? copies[c].rank : f->lora.rank;
        struct sl_lora_config lora = at_rank(f, rank);
        double share = (double)sl_copy_tokens(&copies[c], layer) / tokens;
        if (!(share > 0))
            continue;
        size_t block = sl_adapter_block_size(&f->model, &lora);
        const float *base = copies[c].base ? copies[c].base : f->before;
        add_product(f, i, copies[c].weights + (layer - copies[c].first) * block, rank, rank, share, m);
        add_product(f, i, base + layer * f->block, f->lora.rank, rank, -share, m);
    }
    return m;
}

static double norm_of(const double *x, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += x[i] * x[i];
    return sqrt(s);
}

/* The largest |mean - what G has now| / |mean| of all factors. */
static double worst(
    const struct fixture *f, const struct sl_copy *copies, uint32_t n, double *far_from_before)
{
    double w = 0, lost = 0, update = 0;
    for (uint32_t l = 0; l < SPAN; l++) {
        for (uint32_t i = 0; f->lora.targets >> i; i++) {
            struct sl_factor k;
            struct sl_factor all[SL_TARGET_COUNT];
            if (i >= sl_factors(&f->model, &f->lora, all))
                break;
            double *m = mean_of(f, l, i, copies, n, &k);
            size_t size = (size_t)k.out * k.in;
            double whole = norm_of(m, size);
            add_product(f, i, f->before + l * f->block, f->lora.rank, f->lora.rank, -1, m);
            update += pow(norm_of(m, size), 2);
            add_product(f, i, f->before + l * f->block, f->lora.rank, f->lora.rank, 1, m);
            add_product(f, i, f->g + l * f->block, f->lora.rank, f->lora.rank, -1, m);
            lost += pow(norm_of(m, size), 2);
            w = fmax(w, norm_of(m, size) / whole);
            free(m);
        }
    }
    if (far_from_before)
        *far_from_before = sqrt(lost / update);
    return w;
}

static struct sl_refactor_config config_of(const struct fixture *f, bool mixed)
{
    return (struct sl_refactor_config){
        .model = &f->model, .lora = &f->lora, .mixed_ranks = mixed, .compare = !mixed};
}

/* Copies whose ranks together are G's rank at most: nothing is lost. G drops out, all having started from
 * it. */
static void refactor__of_total_rank_within_gs_is_exact(void **state)
{
    for (unsigned family = 0; family < 2; family++) {
        struct fixture f;
        set_up(&f, family ? SL_FAMILY_GPT2 : SL_FAMILY_LLAMA, RANK);
        /* G of rank 2 at most: its other components are nought. */
        struct sl_factor factors[SL_TARGET_COUNT];
        uint32_t n_factors = sl_factors(&f.model, &f.lora, factors);
        for (uint32_t l = 0; l < SPAN; l++)
            for (uint32_t i = 0; i < n_factors; i++)
                for (uint32_t o = 0; o < factors[i].out; o++)
                    for (uint32_t j = 2; j < RANK; j++)
                        f.g[l * f.block + factors[i].b + o * RANK + j] = 0;
        memcpy(f.before, f.g, SPAN * f.block * sizeof(float));
        float *w[2] = {copy_of(&f, 0, SPAN, 2, f.g, 2), copy_of(&f, 0, SPAN, 2, f.g, 3)};
        struct sl_copy copies[2];
        for (unsigned c = 0; c < 2; c++)
            copies[c] = (struct sl_copy){.last = SPAN, .weights = w[c], .tokens = 10 + 7 * c, .rank = 2};
        struct sl_refactor_config config = config_of(&f, true);
        struct sl_refactor_errors errors;
        bool changed[SPAN];
        assert_int_equal(sl_refactor(&config, f.g, copies, 2, changed, &errors), 0);
        for (unsigned l = 0; l < SPAN; l++)
            assert_true(changed[l]);
        assert_true(worst(&f, copies, 2, NULL) < 1e-6);
        assert_true(errors.svd < 1e-6);
        free(w[0]);
        free(w[1]);
        tear_down(&f);
    }
}

/* Full ranks, a stale copy among them, the edge's copy beside devices': what is lost is what errors say. */
static void refactor__errors_are_the_definition(void **state)
{
    struct fixture f;
    set_up(&f, SL_FAMILY_LLAMA, RANK);
    float *old = malloc(SPAN * f.block * sizeof *old);
    for (size_t i = 0; i < SPAN * f.block; i++)
        old[i] = f.g[i] + 0.01f * sl_rng_uniform(sl_rng_key(8, "old"), i);
    float *w[3] = {
        copy_of(&f, 0, 2, RANK, f.g, 2), copy_of(&f, 0, 3, RANK, old, 3), copy_of(&f, 1, SPAN, RANK, f.g, 4)};
    const uint64_t tokens_at[SPAN] = {0, 20, 30, 30};
    const struct sl_copy copies[3] = {{.last = 2, .weights = w[0], .tokens = 10},
        {.last = 3, .weights = w[1], .base = old, .tokens = 25},
        {.first = 1, .last = SPAN, .weights = w[2], .tokens_at = tokens_at}};
    struct sl_refactor_config config = config_of(&f, false);
    struct sl_refactor_errors errors;
    bool changed[SPAN];
    double scratch[4096], far;
    assert_int_equal(sl_refactor(&config, f.g, copies, 3, changed, &errors), 0);
    assert_true(changed[0] && changed[1] && changed[2] && !changed[3]);
    assert_memory_equal(f.g + 3 * f.block, w[2] + 2 * f.block, f.block * sizeof(float)); /* a single copy */
    worst(&f, copies, 3, &far);
    /* The single copy's block is no part of the errors; its update is. Leave it out on both sides. */
    memcpy(f.before + 3 * f.block, f.g + 3 * f.block, f.block * sizeof(float));
    struct sl_copy without = copies[2];
    without.last = 3;
    const struct sl_copy three[3] = {copies[0], copies[1], without};
    worst(&f, three, 3, &far);
    assert_true(errors.svd > 1e-4 && fabs(errors.svd - far) < 1e-3 * far);
    assert_true(f.block <= sizeof scratch / sizeof *scratch);
    memcpy(f.g, f.before, SPAN * f.block * sizeof(float));
    sl_aggregate(f.g, SPAN, f.block, three, 3, scratch);
    worst(&f, three, 3, &far);
    assert_true(fabs(errors.factors - far) < 1e-3 * far);
    assert_true(errors.svd < errors.factors);
    free(old);
    for (unsigned c = 0; c < 3; c++)
        free(w[c]);
    tear_down(&f);
}

/* Components come in order of weight, so their first r are the best of rank r. */
static void refactor__prefix_is_the_best_of_its_rank(void **state)
{
    struct fixture f;
    set_up(&f, SL_FAMILY_LLAMA, RANK);
    float *w[2] = {copy_of(&f, 0, SPAN, RANK, f.g, 2), copy_of(&f, 0, SPAN, 2, f.g, 3)};
    const struct sl_copy copies[2] = {{.last = SPAN, .weights = w[0], .tokens = 10},
        {.last = SPAN, .weights = w[1], .tokens = 30, .rank = 2}};
    struct sl_refactor_config config = config_of(&f, true);
    struct sl_refactor_errors errors;
    bool changed[SPAN];
    assert_int_equal(sl_refactor(&config, f.g, copies, 2, changed, &errors), 0);
    struct sl_factor k[SL_TARGET_COUNT];
    uint32_t n = sl_factors(&f.model, &f.lora, k);
    for (uint32_t l = 0; l < SPAN; l++) {
        for (uint32_t i = 0; i < n; i++) {
            const float *block = f.g + l * f.block;
            double before = INFINITY;
            for (uint32_t j = 0; j < RANK; j++) {
                double a = 0, b = 0, cross = 0;
                for (uint32_t c = 0; c < k[i].in; c++) {
                    a += pow(block[k[i].a + j * k[i].in + c], 2);
                    cross += j ? (double)block[k[i].a + j * k[i].in + c] * block[k[i].a + c] : 0;
                }
                for (uint32_t o = 0; o < k[i].out; o++)
                    b += pow(block[k[i].b + o * RANK + j], 2);
                /* even, or A's row at its least norm; orthogonal; in descending order */
                assert_true(fabs(a - fmax(b, 1.0 / 3)) < 1e-5 * a);
                assert_true(fabs(cross) < 1e-5);
                assert_true(a * b <= before * (1 + 1e-6));
                before = a * b;
            }
        }
    }
    tear_down(&f);
    free(w[0]);
    free(w[1]);
}

/* One device that a block has alone loses nothing (rules L4). With mixed ranks it is put in order, but stays
 * the same product. */
static void refactor__a_single_copy_keeps_its_product(void **state)
{
    for (unsigned mixed = 0; mixed < 2; mixed++) {
        struct fixture f;
        set_up(&f, SL_FAMILY_GPT2, RANK);
        float *w = copy_of(&f, 0, SPAN, RANK, f.g, 2);
        const struct sl_copy copy = {.last = SPAN, .weights = w, .tokens = 10};
        struct sl_refactor_config config = config_of(&f, mixed);
        struct sl_refactor_errors errors;
        bool changed[SPAN];
        assert_int_equal(sl_refactor(&config, f.g, &copy, 1, changed, &errors), 0);
        assert_int_equal(changed[0], mixed);
        if (!mixed)
            assert_memory_equal(f.g, w, SPAN * f.block * sizeof(float));
        assert_true(worst(&f, &copy, 1, NULL) < 1e-6);
        free(w);
        tear_down(&f);
    }
}

/* A device of low rank changes what it had, and leaves alone what it never saw. */
static void refactor__a_low_rank_copy_does_not_cost_g_its_rank(void **state)
{
    struct fixture f;
    set_up(&f, SL_FAMILY_LLAMA, RANK);
    float *w = copy_of(&f, 0, SPAN, 1, f.g, 2);
    const struct sl_copy copy = {.last = SPAN, .weights = w, .tokens = 10, .rank = 1};
    struct sl_refactor_config config = config_of(&f, true);
    struct sl_refactor_errors errors;
    bool changed[SPAN];
    assert_int_equal(sl_refactor(&config, f.g, &copy, 1, changed, &errors), 0);
    assert_true(worst(&f, &copy, 1, NULL) < 1e-6); /* 1 + (4 - 1) components: exact */
    free(w);
    tear_down(&f);
}

static void refactor__wider_than_the_layer_keeps_what_there_is(void **state)
{
    struct fixture f;
    set_up(&f, SL_FAMILY_LLAMA, 2 * WIDTH);
    float *w[2] = {copy_of(&f, 0, SPAN, 2 * WIDTH, f.g, 2), copy_of(&f, 0, SPAN, 2 * WIDTH, f.g, 3)};
    struct sl_copy copies[2];
    for (unsigned c = 0; c < 2; c++)
        copies[c] = (struct sl_copy){.last = SPAN, .weights = w[c], .tokens = 10 + c};
    struct sl_refactor_config config = config_of(&f, false);
    struct sl_refactor_errors errors;
    bool changed[SPAN];
    assert_int_equal(sl_refactor(&config, f.g, copies, 2, changed, &errors), 0);
    assert_true(worst(&f, copies, 2, NULL) < 1e-6);
    free(w[0]);
    free(w[1]);
    tear_down(&f);
}

static void refactor__of_what_is_not_finite_says_so(void **state)
{
    struct fixture f;
    set_up(&f, SL_FAMILY_LLAMA, RANK);
    float *w = copy_of(&f, 0, SPAN, RANK, f.g, 2);
    w[5] = NAN;
    const struct sl_copy copies[2] = {
        {.last = SPAN, .weights = w, .tokens = 10}, {.last = SPAN, .weights = w, .tokens = 10}};
    struct sl_refactor_config config = config_of(&f, false);
    struct sl_refactor_errors errors;
    bool changed[SPAN];
    assert_int_equal(sl_refactor(&config, f.g, copies, 2, changed, &errors), -EDOM);
    free(w);
    tear_down(&f);
}

static void prefix__of_all_components_is_the_block(void **state)
{
    struct fixture f;
    set_up(&f, SL_FAMILY_LLAMA, RANK);
    float *out = malloc(SPAN * f.block * sizeof *out);
    sl_factors_prefix(&f.model, &f.lora, f.g, SPAN, RANK, out);
    assert_memory_equal(out, f.g, SPAN * f.block * sizeof *out);
    free(out);
    tear_down(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refactor__of_total_rank_within_gs_is_exact),
        cmocka_unit_test(refactor__errors_are_the_definition),
        cmocka_unit_test(refactor__prefix_is_the_best_of_its_rank),
        cmocka_unit_test(refactor__a_single_copy_keeps_its_product),
        cmocka_unit_test(refactor__a_low_rank_copy_does_not_cost_g_its_rank),
        cmocka_unit_test(refactor__wider_than_the_layer_keeps_what_there_is),
        cmocka_unit_test(refactor__of_what_is_not_finite_says_so),
        cmocka_unit_test(prefix__of_all_components_is_the_block),
    };
    return cmocka_run_group_tests_name("pipeline/refactor", tests, NULL, NULL);
}
