/* The statistics of measured stability against closed forms, and how often its intervals hold the truth. */
#include "trainer/tools/slopes.h"

#include "trainer/tensor/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#include <cmocka.h>

enum { CELLS = 12, MAX_SETS = 40 };

static struct sl_slope_cell cells[CELLS];
static double sums[MAX_SETS * CELLS];
static uint32_t swaps[MAX_SETS];
static struct sl_estimate beta[CELLS];

/* cmocka's own compares as float. */
#define assert_near(a, b, by) assert_true(fabs((a) - (b)) <= (by))

static void make_grid(void)
{
    static const double ks[] = {16, 32, 64, 128}, alphas[] = {0.25, 0.5, 0.75};
    for (int c = 0; c < CELLS; c++)
        cells[c] = (struct sl_slope_cell){ks[c % 4], 1 - alphas[c / 4]};
}

/* Every set the same: beta = 2 k^a (1 - alpha)^b. */
static struct sl_slope_data powers(uint32_t n_sets, double a, double b)
{
    make_grid();
    for (uint32_t s = 0; s < n_sets; s++) {
        swaps[s] = 1 + s % 3;
        for (int c = 0; c < CELLS; c++)
            sums[s * CELLS + (uint32_t)c] = swaps[s] * 2 * pow(cells[c].k, a) * pow(cells[c].rest, b);
    }
    return (struct sl_slope_data){
        .cells = cells, .n_cells = CELLS, .n_sets = n_sets, .sum = sums, .swaps = swaps};
}

static void fit__recovers_known_exponents(void **state)
{
    struct sl_slopes out = {.beta = beta};
    struct sl_slope_data data = powers(12, -0.7, -1.3);
    assert_int_equal(sl_slopes_fit(&data, 200, 1, &out), 0);
    assert_int_equal(out.cells_used, CELLS);
    assert_near(out.k.value, -0.7, 1e-12);
    assert_near(out.rest.value, -1.3, 1e-12);
    assert_near(out.k.high - out.k.low, 0, 1e-9); /* no set differs from another */
    for (int c = 0; c < CELLS; c++)
        assert_near(beta[c].value, 2 * pow(cells[c].k, -0.7) * pow(cells[c].rest, -1.3), 1e-12);
}

/* The slopes are each with the other held: here the cells of large k are those of large alpha too. */
static void fit__slopes_do_not_mix_where_the_grid_is_not_square(void **state)
{
    struct sl_slopes out = {.beta = beta};
    struct sl_slope_data data = powers(10, -0.7, -1.3);
    static const double ks[] = {16, 32, 64, 128, 64}, rests[] = {0.75, 0.5, 0.25, 0.125, 0.75};
    for (int c = 0; c < 5; c++) {
        cells[c] = (struct sl_slope_cell){ks[c], rests[c]};
        for (uint32_t s = 0; s < 10; s++)
            sums[s * 5 + (uint32_t)c] = swaps[s] * pow(ks[c], -0.7) * pow(rests[c], -1.3);
    }
    data.n_cells = 5;
    assert_int_equal(sl_slopes_fit(&data, 0, 1, &out), 0);
    assert_near(out.k.value, -0.7, 1e-12);
    assert_near(out.rest.value, -1.3, 1e-12);
}

static void fit__alpha_of_one_is_in_no_slope(void **state)
{
    struct sl_slopes out = {.beta = beta};
    struct sl_slope_data data = powers(10, -1, -1);
    cells[3].rest = 0;
    sums[3] = 1e6;
    assert_int_equal(sl_slopes_fit(&data, 0, 1, &out), 0);
    assert_int_equal(out.cells_used, CELLS - 1);
    assert_near(out.k.value, -1, 1e-12);
    assert_near(out.rest.value, -1, 1e-12);
    assert_true(beta[3].value > 1e4);
}

/* Only alpha = 1: log k has a slope all the same. */
static void fit__one_value_of_a_kind_has_no_slope(void **state)
{
    struct sl_slopes out = {.beta = beta};
    struct sl_slope_data data = powers(10, -1, 0);
    for (int c = 0; c < CELLS; c++)
        cells[c].rest = 0;
    assert_int_equal(sl_slopes_fit(&data, 0, 1, &out), 0);
    assert_near(out.k.value, -1, 1e-12);
    assert_true(isnan(out.rest.value));
    data = powers(10, 0, -1);
    for (int c = 0; c < CELLS; c++)
        cells[c].k = 16;
    assert_int_equal(sl_slopes_fit(&data, 100, 1, &out), 0);
    assert_true(isnan(out.k.value) && isnan(out.k.low));
    assert_near(out.rest.value, -1, 1e-12);
    data.n_cells = 1;
    assert_int_equal(sl_slopes_fit(&data, 100, 1, &out), 0);
    assert_true(isnan(out.k.value) && isnan(out.rest.value));
    assert_true(isfinite(beta[0].low));
}

static void fit__beta_of_zero_has_no_slope(void **state)
{
    struct sl_slopes out = {.beta = beta};
    struct sl_slope_data data = powers(10, -1, -1);
    for (uint32_t s = 0; s < 10; s++)
        sums[s * CELLS + 2] = 0;
    assert_int_equal(sl_slopes_fit(&data, 100, 1, &out), 0);
    assert_true(isnan(out.k.value) && isnan(out.rest.value));
    assert_near(beta[2].value, 0, 0);
}

static void fit__fewer_than_ten_sets_have_no_interval(void **state)
{
    struct sl_slopes out = {.beta = beta};
    struct sl_slope_data data = powers(9, -1, -1);
    assert_int_equal(sl_slopes_fit(&data, 100, 1, &out), 0);
    assert_near(out.k.value, -1, 1e-12);
    assert_true(isnan(out.k.low) && isnan(out.rest.high) && isnan(beta[0].low));
}

/* A convex toy: A(S) is the mean of k numbers and the loss w z. Replacing z_i by z' changes the loss on z by
 * exactly |z (z' - z_i)| / k: beta differs from set to set, and its slope on log k is -1 in every resample.
 */
static void fit__mean_of_numbers_has_the_slope_of_the_bound(void **state)
{
    static const double ks[] = {4, 8, 16, 32};
    struct sl_slopes out = {.beta = beta};
    uint64_t key = sl_rng_key(7, "toy");
    for (int c = 0; c < 4; c++)
        cells[c] = (struct sl_slope_cell){ks[c], 0};
    for (uint32_t s = 0; s < 20; s++) {
        swaps[s] = 1;
        for (uint32_t c = 0; c < 4; c++) {
            double mean = 0, other = 0, out_of = sl_rng_open(key, 100 * s),
                   in = sl_rng_open(key, 100 * s + 99);
            for (uint32_t i = 0; i < (uint32_t)ks[c]; i++) {
                double z = sl_rng_open(key, 100 * s + i);
                mean += z / ks[c];
                other += (i == 0 ? in : z) / ks[c];
            }
            sums[s * 4 + c] = (fabs(mean * out_of - other * out_of) + fabs(mean * in - other * in)) / 2;
        }
    }
    struct sl_slope_data data = {.cells = cells, .n_cells = 4, .n_sets = 20, .sum = sums, .swaps = swaps};
    assert_int_equal(sl_slopes_fit(&data, 500, 1, &out), 0);
    assert_near(out.k.value, -1, 1e-9);
    assert_near(out.k.low, -1, 1e-9);
    assert_near(out.k.high, -1, 1e-9);
    assert_true(beta[0].low < 0.9 * beta[0].value && beta[0].high > 1.1 * beta[0].value);
}

/* Ten sets of five swaps that are all alike within a set and cell: fifty values, ten of them independent. An
 * interval over swaps would be less than half as wide. 600 experiments: one standard error is 0.9 %. */
static void fit__intervals_hold_the_truth_about_as_often_as_they_say(void **state)
{
    enum { EXPERIMENTS = 600, SETS = 10, SWAPS = 5 };
    const double truth = -0.8, deviation = 0.5;
    uint64_t key = sl_rng_key(3, "coverage");
    uint32_t k_held = 0, rest_held = 0, beta_held = 0;
    make_grid();
    for (uint32_t e = 0; e < EXPERIMENTS; e++) {
        for (uint32_t s = 0; s < SETS; s++) {
            swaps[s] = SWAPS;
            for (uint32_t c = 0; c < CELLS; c++) {
                float noise = sl_rng_normal(key, ((uint64_t)e * SETS + s) * CELLS + c);
                sums[s * CELLS + c] = SWAPS * pow(cells[c].k, truth) / cells[c].rest *
                                      exp(deviation * (double)noise - deviation * deviation / 2);
            }
        }
        struct sl_slope_data data = {
            .cells = cells, .n_cells = CELLS, .n_sets = SETS, .sum = sums, .swaps = swaps};
        struct sl_slopes out = {.beta = beta};
        assert_int_equal(sl_slopes_fit(&data, 400, e, &out), 0);
        k_held += out.k.low <= truth && truth <= out.k.high;
        rest_held += out.rest.low <= -1 && -1 <= out.rest.high;
        double first = pow(cells[0].k, truth) / cells[0].rest;
        beta_held += beta[0].low <= first && first <= beta[0].high;
    }
    print_message("95 %% intervals held the truth: k %.1f %%, 1 - alpha %.1f %%, beta %.1f %%\n",
        100.0 * k_held / EXPERIMENTS, 100.0 * rest_held / EXPERIMENTS, 100.0 * beta_held / EXPERIMENTS);
    assert_in_range(k_held, 0.92 * EXPERIMENTS, 0.98 * EXPERIMENTS);
    assert_in_range(rest_held, 0.92 * EXPERIMENTS, 0.98 * EXPERIMENTS);
    assert_in_range(beta_held, 0.90 * EXPERIMENTS, 0.98 * EXPERIMENTS); /* skewed, so a little short */
}

static void fit__repeats_itself(void **state)
{
    struct sl_slopes one = {.beta = beta}, two = {.beta = beta};
    struct sl_slope_data data = powers(10, -1, -1);
    for (uint32_t i = 0; i < 10 * CELLS; i++)
        sums[i] *= 1 + 0.5 * sl_rng_open(5, i);
    assert_int_equal(sl_slopes_fit(&data, 300, 9, &one), 0);
    assert_int_equal(sl_slopes_fit(&data, 300, 9, &two), 0);
    assert_true(one.k.low == two.k.low && one.rest.high == two.rest.high);
    assert_true(one.k.low < one.k.value && one.k.value < one.k.high);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fit__recovers_known_exponents),
        cmocka_unit_test(fit__slopes_do_not_mix_where_the_grid_is_not_square),
        cmocka_unit_test(fit__alpha_of_one_is_in_no_slope),
        cmocka_unit_test(fit__one_value_of_a_kind_has_no_slope),
        cmocka_unit_test(fit__beta_of_zero_has_no_slope),
        cmocka_unit_test(fit__fewer_than_ten_sets_have_no_interval),
        cmocka_unit_test(fit__mean_of_numbers_has_the_slope_of_the_bound),
        cmocka_unit_test(fit__intervals_hold_the_truth_about_as_often_as_they_say),
        cmocka_unit_test(fit__repeats_itself),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
