/* The physical objective against an independent optimum: a log-barrier method on the whole geometric program,
 * and all associations and cuts of small instances (rules P2, P4). */
#include "tests/plan/instance.h"
#include "tests/plan/physical_exact.h"
#include "trainer/plan/physical.h"
#include "trainer/plan/solve.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { RANDOM_PLANS = 31, U = PHYSICAL_USERS_MAX };

static void at_random(
    const struct sl_plan_scenario *s, uint64_t seed, uint64_t k, uint32_t *server, uint32_t *alpha)
{
    for (uint32_t n = 0; n < s->n_users; n++) {
        uint64_t i = k * s->n_users + n;
        server[n] = (uint32_t)draw(seed, "random server", i, 0, s->n_servers);
        alpha[n] = 1 + (uint32_t)draw(seed, "random cut", i, 0, s->layers - 1);
    }
}

/* The best shares for a given association and cuts, by the planner and by the barrier: the same value, and
 * the barrier's own plan scores what it says. */
static void check_inner(const struct sl_plan_scenario *s, uint64_t seed, double *worst)
{
    struct physical_exact x;
    struct sl_plan_choice choice[U], theirs[U];
    struct sl_plan plan = {s->n_users, choice}, other = {s->n_users, theirs};
    struct sl_plan_score score, check;
    struct sl_plan_prices prices[4];
    struct sl_physical *p = sl_physical_create(s);
    double mu[U];

    assert_non_null(p);
    for (uint64_t k = 0; k < 4; k++) {
        at_random(s, seed, k, x.server, x.alpha);
        double want = physical_exact_inner(s, INFINITY, &x);
        if (!isfinite(want))
            continue; /* bounds that cannot be met: the whole solver leaves somebody out */
        for (uint32_t n = 0; n < s->n_users; n++) {
            theirs[n] = (struct sl_plan_choice){
                x.alpha[n], x.server[n], x.power_w[n], x.bandwidth_hz[n], x.f_hz[n], x.f_edge_hz[n]};
            assert_true(x.power_w[n] > s->user[n].p_min_w);
        }
        sl_plan_score(s, SL_PLAN_PHYSICAL, &other, NULL, &check);
        assert_true(check.violation <= 1e-9);
        assert_true(fabs(check.objective / want - 1) < 1e-8);
        double value = sl_physical_choose(p, x.server, x.alpha, choice, prices, mu);
        sl_plan_score(s, SL_PLAN_PHYSICAL, &plan, NULL, &score);
        if (score.violation > 1e-9 || fabs(score.objective / want - 1) > 1e-7 ||
            fabs(value / want - 1) > 1e-7)
            print_message("seed %u plan %u: barrier %.12g, planner %.12g (says %.12g), violation %.3g\n",
                (unsigned)seed, (unsigned)k, want, score.objective, value, score.violation);
        *worst = fmax(*worst, fmax(fabs(score.objective / want - 1), score.violation));
    }
    sl_physical_free(p);
}

static void inner(void (*change)(struct sl_plan_scenario *, uint64_t seed))
{
    double worst = 0;

    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct sl_plan_scenario *s = physical_instance(seed, 2 + seed % 4, 1 + seed % 2, 6);
        assert_non_null(s);
        change(s, seed);
        check_inner(s, seed, &worst);
        free_instance(s);
    }
    print_message("worst difference %.3g\n", worst);
    assert_true(worst < 1e-7);
}

static void as_drawn(struct sl_plan_scenario *s, uint64_t seed)
{
    (void)s;
    (void)seed;
}

static void bounded(struct sl_plan_scenario *s, uint64_t seed)
{
    struct sl_plan_scales scales;

    sl_plan_scales(s, &scales);
    for (uint32_t n = 0; n < s->n_users; n++) {
        if ((n + seed) % 2)
            s->user[n].deadline_s = draw(seed, "deadline", n, 0.5, 1.2) * scales.tau0_s;
        if ((n + seed) % 3 == 0)
            s->user[n].energy_j = draw(seed, "bound", n, 0.3, 1) * scales.energy0_j / s->n_users;
    }
}

static void asynchronous(struct sl_plan_scenario *s, uint64_t seed)
{
    s->asynchronous = true;
    if (seed % 2)
        bounded(s, seed);
}

static void choose__as_the_barrier_method(void **state)
{
    (void)state;
    inner(as_drawn);
}

static void choose__deadlines_and_energy_bounds_as_the_barrier_method(void **state)
{
    (void)state;
    inner(bounded);
}

static void choose__asynchronous_as_the_barrier_method(void **state)
{
    (void)state;
    inner(asynchronous);
}

/* ---- the whole ---- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median_random(const struct sl_plan_scenario *s, uint64_t seed)
{
    double value[RANDOM_PLANS];

    for (uint64_t k = 0; k < RANDOM_PLANS; k++) {
        struct physical_exact x;
        at_random(s, seed, k, x.server, x.alpha);
        value[k] = physical_exact_inner(s, INFINITY, &x);
    }
    qsort(value, RANDOM_PLANS, sizeof *value, ascending);
    return value[RANDOM_PLANS / 2];
}

static bool choice_is_open(const struct sl_plan_scenario *s, const struct physical_exact *best, uint64_t seed)
{
    uint32_t interior = 0;

    for (uint32_t n = 0; n < s->n_users; n++)
        interior += best->alpha[n] > 1 && best->alpha[n] < s->layers - 1;
    return interior > 0 && median_random(s, seed) >= 1.2 * best->objective;
}

static double gap_of(const struct sl_plan_scenario *s, const struct physical_exact *best, uint64_t seed)
{
    struct sl_plan_choice choice[U], other[U];
    struct sl_plan plan = {s->n_users, choice}, compared = {s->n_users, other};
    struct sl_plan_report report, baseline;

    assert_int_equal(sl_plan_solve(s, SL_PLAN_PHYSICAL, SL_PLAN_PROPOSED, seed, &plan, &report), 0);
    assert_true(report.score.violation <= 1e-9);
    assert_int_equal(report.unplanned, 0);
    assert_true(report.score.objective >= best->objective * (1 - 1e-8));
    assert_true(isnan(report.lower_bound) || report.lower_bound <= best->objective * (1 + 1e-8));
    for (int m = SL_PLAN_PROPOSED + 1; m < SL_PLAN_METHOD_COUNT; m++) {
        assert_int_equal(
            sl_plan_solve(s, SL_PLAN_PHYSICAL, (enum sl_plan_method)m, seed, &compared, &baseline), 0);
        assert_true(baseline.score.violation <= 1e-9);
        assert_true(report.score.objective <= baseline.score.objective * (1 + 1e-9));
    }
    return report.score.objective / best->objective - 1;
}

/* SLUICE_PLAN_LARGE=100: so many instances of 4 users, 2 servers, 6 layers instead. */
static void solve__near_the_exact_optimum_and_never_worse_than_a_baseline(void **state)
{
    const char *count = getenv("SLUICE_PLAN_LARGE");
    bool large = count && atoi(count) > 0;
    uint32_t wanted = large ? (uint32_t)atoi(count) : 20, found = 0, near = 0, drawn = 0;
    double worst = 0;

    (void)state;
    for (uint64_t seed = 1; found < wanted && drawn < 50 * wanted; seed++, drawn++) {
        struct sl_plan_scenario *s =
            large ? physical_instance(seed, 4, 2, 6) : physical_instance(seed, 3, 2, 5);
        struct physical_exact best;
        assert_non_null(s);
        s->asynchronous = seed % 4 == 3;
        physical_exact_optimum(s, &best);
        if (choice_is_open(s, &best, seed)) {
            double gap = gap_of(s, &best, seed);
            if (gap > 1e-3)
                print_message("seed %u: gap %.3g\n", (unsigned)seed, gap);
            near += gap <= 0.01;
            worst = fmax(worst, gap);
            found++;
        }
        free_instance(s);
    }
    print_message("%u of %u within 1 %%, worst gap %.3g; %u drawn\n", near, found, worst, drawn);
    assert_int_equal(found, wanted);
    assert_true(near * 100 >= found * 95);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choose__as_the_barrier_method),
        cmocka_unit_test(choose__deadlines_and_energy_bounds_as_the_barrier_method),
        cmocka_unit_test(choose__asynchronous_as_the_barrier_method),
        cmocka_unit_test(solve__near_the_exact_optimum_and_never_worse_than_a_baseline),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
