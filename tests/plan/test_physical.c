/* The physical objective where the answer is known: closed forms, bounds that bind, weights of zero, users
 * that cannot be planned. */
#include "tests/plan/instance.h"
#include "tests/plan/physical_exact.h"
#include "trainer/plan/physical.h"
#include "trainer/plan/solve.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { U = PHYSICAL_USERS_MAX };

static struct sl_plan_report solve(
    const struct sl_plan_scenario *s, enum sl_plan_method method, struct sl_plan_choice *choice)
{
    struct sl_plan plan = {s->n_users, choice};
    struct sl_plan_report report;

    assert_int_equal(sl_plan_solve(s, SL_PLAN_PHYSICAL, method, 1, &plan, &report), 0);
    assert_true(report.score.violation <= 1e-9);
    assert_true(isfinite(report.score.objective));
    return report;
}

static void measure(struct sl_plan_user *u, double efficiency, double down_bps)
{
    u->up_bps_per_hz = efficiency;
    u->down_bps = down_bps;
}

/* One phone on a measured link: mu = w_t / tau0, f = (mu / 2 w kappa)^(1/3), all of bandwidth and edge. */
static void choose__one_phone_has_the_closed_form(void **state)
{
    struct sl_plan_scenario *s = physical_instance(3, 1, 1, 6);
    struct sl_plan_choice choice[1];
    struct sl_plan_prices prices[1];
    struct sl_plan_scales scales;
    uint32_t server[1] = {0}, alpha[1] = {4};
    double mu[1];

    (void)state;
    assert_non_null(s);
    measure(&s->user[0], 2, 50e6);
    s->weights = (struct sl_plan_weights){1, 2, 0};
    sl_plan_scales(s, &scales);
    struct sl_physical *p = sl_physical_create(s);
    assert_non_null(p);
    sl_physical_choose(p, server, alpha, choice, prices, mu);
    sl_physical_free(p);
    double joule = 2 * sl_plan_battery_weight(s, 0) / scales.energy0_j;
    double f = cbrt(1 / scales.tau0_s / (2 * joule * s->user[0].kappa));
    assert_true(f < s->user[0].f_max_hz);
    assert_true(fabs(choice[0].f_hz / f - 1) < 1e-8);
    assert_true(fabs(choice[0].bandwidth_hz / s->server[0].bandwidth_hz - 1) < 1e-12);
    assert_true(fabs(choice[0].f_edge_hz / s->server[0].f_max_hz - 1) < 1e-12);
    assert_true(choice[0].power_w == s->user[0].p_max_w);
    free_instance(s);
}

static void choose__twins_share_alike(void **state)
{
    struct sl_plan_scenario *s = physical_instance(5, 2, 1, 6);
    struct sl_plan_choice choice[2];
    struct sl_plan_prices prices[1];
    uint32_t server[2] = {0, 0}, alpha[2] = {3, 3};
    double mu[2];

    (void)state;
    assert_non_null(s);
    s->user[1] = s->user[0];
    s->gain[1] = s->gain[0];
    struct sl_physical *p = sl_physical_create(s);
    assert_non_null(p);
    sl_physical_choose(p, server, alpha, choice, prices, mu);
    sl_physical_free(p);
    for (int n = 0; n < 2; n++) {
        assert_true(fabs(choice[n].bandwidth_hz / (0.5 * s->server[0].bandwidth_hz) - 1) < 1e-8);
        assert_true(fabs(choice[n].f_edge_hz / (0.5 * s->server[0].f_max_hz) - 1) < 1e-8);
    }
    free_instance(s);
}

static void solve__time_alone_runs_all_clocks_and_powers_fully(void **state)
{
    struct sl_plan_scenario *s = physical_instance(7, 1, 1, 6);
    struct sl_plan_choice choice[1];

    (void)state;
    assert_non_null(s);
    s->weights = (struct sl_plan_weights){1, 0, 0};
    solve(s, SL_PLAN_PROPOSED, choice);
    assert_true(fabs(choice[0].f_hz / s->user[0].f_max_hz - 1) < 1e-9);
    assert_true(fabs(choice[0].power_w / s->user[0].p_max_w - 1) < 1e-9);
    free_instance(s);
}

/* Without a weight on time a deadline is used up to its end. */
static void solve__energy_alone_uses_up_the_deadline(void **state)
{
    struct sl_plan_scenario *s = physical_instance(8, 1, 1, 6);
    struct sl_plan_choice choice[1];
    struct sl_plan_cost cost;

    (void)state;
    assert_non_null(s);
    s->weights = (struct sl_plan_weights){1, 0, 0};
    double fastest = solve(s, SL_PLAN_PROPOSED, choice).score.delay_s;
    s->weights = (struct sl_plan_weights){0, 1, 0};
    s->user[0].deadline_s = 1.3 * fastest;
    solve(s, SL_PLAN_PROPOSED, choice);
    sl_plan_user_cost(s, SL_PLAN_PHYSICAL, 0, &choice[0], &cost);
    assert_true(fabs(cost.delay_s / s->user[0].deadline_s - 1) < 1e-8);
    free_instance(s);
}

/* tau costs w_t / tau0 + w_e idle_w / E0 a second: the closed form of one phone with that in mu's place. And
 * the score has idle_w times the slowest's step for everybody. */
static void solve__waiting_is_paid_for(void **state)
{
    struct sl_plan_scenario *s = physical_instance(3, 1, 1, 6);
    struct sl_plan_choice choice[U];
    struct sl_plan_cost cost[U], own[2];
    struct sl_plan_scales scales;
    struct sl_plan_score score;

    (void)state;
    assert_non_null(s);
    measure(&s->user[0], 2, 50e6);
    s->weights = (struct sl_plan_weights){0.1, 1, 0};
    s->user[0].idle_w = 0.3;
    s->user[0].min_layers = s->user[0].max_layers = 4;
    sl_plan_scales(s, &scales);
    solve(s, SL_PLAN_PROPOSED, choice);
    double joule = sl_plan_battery_weight(s, 0) / scales.energy0_j;
    double f = cbrt((0.1 / scales.tau0_s + joule * 0.3) / (2 * joule * s->user[0].kappa));
    assert_true(f < s->user[0].f_max_hz);
    assert_true(fabs(choice[0].f_hz / f - 1) < 1e-6);
    free_instance(s);

    s = physical_instance(9, 2, 1, 6);
    assert_non_null(s);
    s->user[0].idle_w = 0.3;
    s->user[1].idle_w = 0;
    solve(s, SL_PLAN_PROPOSED, choice);
    sl_plan_score(s, SL_PLAN_PHYSICAL, &(struct sl_plan){2, choice}, cost, &score);
    for (uint32_t n = 0; n < 2; n++)
        sl_plan_user_cost(s, SL_PLAN_PHYSICAL, n, &choice[n], &own[n]);
    assert_true(score.delay_s == fmax(own[0].delay_s, own[1].delay_s));
    assert_true(fabs(cost[0].energy_j - own[0].energy_j - 0.3 * score.delay_s) < 1e-12);
    assert_true(cost[1].energy_j == own[1].energy_j);
    assert_true(fabs(score.energy_j - cost[0].energy_j - cost[1].energy_j) < 1e-12);
    free_instance(s);
}

static void solve__deadline_and_energy_bound_are_kept(void **state)
{
    struct sl_plan_scenario *s = physical_instance(9, 3, 1, 6);
    struct sl_plan_choice choice[U];
    struct sl_plan_cost cost;

    (void)state;
    assert_non_null(s);
    double free_of_bounds = solve(s, SL_PLAN_PROPOSED, choice).score.objective;
    sl_plan_user_cost(s, SL_PLAN_PHYSICAL, 1, &choice[1], &cost);
    s->user[1].deadline_s = 0.95 * cost.delay_s;
    sl_plan_user_cost(s, SL_PLAN_PHYSICAL, 0, &choice[0], &cost);
    s->user[0].energy_j = 0.9 * cost.energy_j;
    assert_true(solve(s, SL_PLAN_PROPOSED, choice).score.objective >= free_of_bounds * (1 - 1e-9));
    assert_int_equal(choice[0].server, 0);
    assert_int_equal(choice[1].server, 0);
    sl_plan_user_cost(s, SL_PLAN_PHYSICAL, 1, &choice[1], &cost);
    assert_true(cost.delay_s <= s->user[1].deadline_s * (1 + 1e-9));
    sl_plan_user_cost(s, SL_PLAN_PHYSICAL, 0, &choice[0], &cost);
    assert_true(cost.energy_j <= s->user[0].energy_j * (1 + 1e-9));
    free_instance(s);
}

static void solve__who_cannot_is_left_out_and_the_rest_planned(void **state)
{
    struct sl_plan_scenario *s = physical_instance(11, 5, 1, 6);
    struct sl_plan_choice choice[U];

    (void)state;
    assert_non_null(s);
    s->user[0].deadline_s = 0.01; /* its round trip alone is longer */
    s->user[1].soc = 0.05;        /* below soc_min */
    s->user[2].max_layers = 0;
    s->gain[3] = NAN;
    for (int m = 0; m < SL_PLAN_METHOD_COUNT; m++) {
        struct sl_plan_report r = solve(s, (enum sl_plan_method)m, choice);
        assert_int_equal(r.unplanned, 4);
        assert_int_equal(choice[4].server, 0);
    }
    assert_non_null(strstr(sl_plan_why_not(s, SL_PLAN_PHYSICAL, 0), "deadline"));
    assert_non_null(strstr(sl_plan_why_not(s, SL_PLAN_PHYSICAL, 1), "battery"));
    assert_non_null(strstr(sl_plan_why_not(s, SL_PLAN_PHYSICAL, 2), "memory"));
    assert_non_null(strstr(sl_plan_why_not(s, SL_PLAN_PHYSICAL, 3), "gain"));
    free_instance(s);
}

static void solve__cuts_keep_memory_and_privacy_slots_their_number(void **state)
{
    struct sl_plan_scenario *s = physical_instance(12, 4, 2, 6);
    struct sl_plan_choice choice[U];
    uint32_t at_first = 0;

    (void)state;
    assert_non_null(s);
    s->user[0].min_layers = 3;
    s->user[1].max_layers = 1;
    s->server[0].slots = 1;
    for (int m = 0; m < SL_PLAN_METHOD_COUNT; m++) {
        struct sl_plan_report r = solve(s, (enum sl_plan_method)m, choice);
        assert_int_equal(r.unplanned, 0);
        at_first = 0;
        for (uint32_t n = 0; n < 4; n++)
            at_first += choice[n].server == 0;
        assert_true(at_first <= 1);
        assert_true(choice[0].alpha >= 3 && choice[1].alpha == 1);
    }
    free_instance(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(choose__one_phone_has_the_closed_form),
        cmocka_unit_test(choose__twins_share_alike),
        cmocka_unit_test(solve__time_alone_runs_all_clocks_and_powers_fully),
        cmocka_unit_test(solve__energy_alone_uses_up_the_deadline),
        cmocka_unit_test(solve__waiting_is_paid_for),
        cmocka_unit_test(solve__deadline_and_energy_bound_are_kept),
        cmocka_unit_test(solve__who_cannot_is_left_out_and_the_rest_planned),
        cmocka_unit_test(solve__cuts_keep_memory_and_privacy_slots_their_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
