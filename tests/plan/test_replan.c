/* When to plan again, and what of a plan is taken. */
#include "tests/plan/instance.h"
#include "trainer/plan/replan.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { USERS = 6, LAYERS = 12 };

/* A device at cut 3 that says after each step that a step took step_s. */
struct beats {
    struct sl_replan r;
    struct sl_replan_watch w;
    uint64_t steps;
    double own_s, battery;
};

static void begin(struct beats *b, double predicted_s)
{
    memset(b, 0, sizeof *b);
    b->battery = 1;
    sl_replan_begin(&b->r, 30);
    sl_replan_asked(&b->r, 100);
    sl_replan_answered(&b->r, 0.01);
    sl_replan_predict(&b->w, 3, predicted_s);
}

static void beat(struct beats *b, uint32_t cut, uint32_t steps, double step_s)
{
    b->steps += steps;
    b->own_s += steps * step_s;
    sl_replan_beat(&b->r, &b->w, cut, b->steps, b->own_s, b->battery, 0.1);
}

static void due__first_then_each_period(void **state)
{
    struct sl_replan r;
    sl_replan_begin(&r, 30);
    assert_int_equal(sl_replan_due(&r, 0), SL_REPLAN_FIRST);
    sl_replan_asked(&r, 100);
    assert_int_equal(sl_replan_due(&r, 129.9), SL_REPLAN_NOTHING);
    assert_int_equal(sl_replan_due(&r, 130), SL_REPLAN_PERIOD);
    sl_replan_answered(&r, 9); /* a solver that takes so long is not asked all the time */
    assert_int_equal(sl_replan_due(&r, 130), SL_REPLAN_NOTHING);
    assert_int_equal(sl_replan_due(&r, 190), SL_REPLAN_PERIOD);
}

static void due__earlier_with_a_reason_but_not_at_once(void **state)
{
    struct sl_replan r;
    sl_replan_begin(&r, 30);
    sl_replan_asked(&r, 100);
    sl_replan_members(&r);
    assert_int_equal(sl_replan_due(&r, 100 + SL_REPLAN_LEAST_S - 0.1), SL_REPLAN_NOTHING);
    assert_int_equal(sl_replan_due(&r, 100 + SL_REPLAN_LEAST_S), SL_REPLAN_MEMBERS);
    sl_replan_asked(&r, 106);
    assert_int_equal(sl_replan_due(&r, 120), SL_REPLAN_NOTHING);
}

static void beat__two_steps_in_a_row_outside_the_range(void **state)
{
    struct beats b;
    begin(&b, 1);
    beat(&b, 3, 1, 9); /* begun before the plan: not counted */
    beat(&b, 3, 1, 1.24);
    beat(&b, 3, 1, 1.3);
    beat(&b, 3, 0, 0); /* no step in between says nothing either way */
    beat(&b, 3, 1, 1.2);
    beat(&b, 3, 1, 0.7);
    assert_int_equal(sl_replan_due(&b.r, 110), SL_REPLAN_NOTHING);
    beat(&b, 3, 4, 0.7);
    assert_int_equal(sl_replan_due(&b.r, 110), SL_REPLAN_STEPS);
}

static void beat__another_cut_or_a_new_start_is_no_measurement(void **state)
{
    struct beats b;
    begin(&b, 1);
    for (int i = 0; i < 5; i++)
        beat(&b, 2, 1, 9); /* the change has not come yet */
    beat(&b, 3, 1, 9);     /* half of it at the old cut */
    beat(&b, 3, 1, 9);
    b.steps = 0;
    b.own_s = 0;
    beat(&b, 3, 1, 9);
    beat(&b, 3, 1, 1);
    assert_int_equal(sl_replan_due(&b.r, 110), SL_REPLAN_NOTHING);
    sl_replan_beat(&b.r, &b.w, 3, b.steps + 1, NAN, 1, 0.1);
    sl_replan_beat(&b.r, &b.w, 3, b.steps + 2, INFINITY, 1, 0.1);
    assert_int_equal(sl_replan_due(&b.r, 110), SL_REPLAN_NOTHING);
}

static void beat__a_battery_near_its_floor_once(void **state)
{
    struct beats b;
    begin(&b, 1);
    b.battery = 0.16;
    beat(&b, 3, 1, 1);
    assert_int_equal(sl_replan_due(&b.r, 110), SL_REPLAN_NOTHING);
    b.battery = 0.14;
    beat(&b, 3, 1, 1);
    assert_int_equal(sl_replan_due(&b.r, 110), SL_REPLAN_BATTERY);
    sl_replan_asked(&b.r, 110);
    beat(&b, 3, 1, 1);
    assert_int_equal(sl_replan_due(&b.r, 120), SL_REPLAN_NOTHING);
}

static void worth__no_message_for_noise(void **state)
{
    assert_false(sl_replan_worth(0, 0));
    assert_true(sl_replan_worth(0, 1e9));
    assert_true(sl_replan_worth(1e9, 0));
    assert_false(sl_replan_worth(1e9, 1.04e9));
    assert_true(sl_replan_worth(1e9, 0.94e9));
}

struct decided {
    uint32_t cuts[USERS], was[USERS];
    struct sl_plan_choice choice[USERS];
    struct sl_plan_cost cost[USERS];
    struct sl_plan plan;
    struct sl_replan_result r;
};

static void decide(struct decided *d, struct sl_plan_scenario *s, double hysteresis)
{
    memcpy(d->was, d->cuts, sizeof d->was);
    d->plan.user = d->choice;
    assert_int_equal(
        sl_replan_decide(s, SL_PLAN_PRINTED, hysteresis, 1, NULL, d->cuts, &d->plan, d->cost, &d->r), 0);
    struct sl_plan_score score;
    sl_plan_score(s, SL_PLAN_PRINTED, &d->plan, NULL, &score);
    assert_true(score.violation < 1e-9);
    assert_true(fabs(score.objective - d->r.objective) <= 1e-12 * score.objective);
    for (uint32_t n = 0; n < USERS; n++)
        assert_int_equal(d->cuts[n], d->choice[n].alpha);
}

/* Nothing is planned at a bound of its own: the solver would be at liberty again. */
static void bounds_are_back(const struct sl_plan_scenario *s)
{
    for (uint32_t n = 0; n < USERS; n++)
        assert_true(s->user[n].min_layers < s->user[n].max_layers);
}

static void decide__takes_a_better_plan_and_then_stays(void **state)
{
    uint32_t changed = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct sl_plan_scenario *s = open_instance(seed, USERS, 1, LAYERS);
        struct decided d = {0};
        for (uint32_t n = 0; n < USERS; n++)
            d.cuts[n] = 1 + (uint32_t)(seed + 5 * n) % (LAYERS - 1);
        decide(&d, s, 0.05);
        bounds_are_back(s);
        assert_true(d.r.objective <= d.r.objective_now * (1 + 1e-9));
        if (d.r.changed) {
            assert_true(d.r.free_objective <= 0.95 * d.r.objective_now);
            assert_true(d.r.objective <= 0.97 * d.r.objective_now);
        } else {
            assert_memory_equal(d.cuts, d.was, sizeof d.cuts);
        }
        changed += d.r.changed;
        decide(&d, s, 0.05);
        assert_int_equal(d.r.changed, 0);
        assert_memory_equal(d.cuts, d.was, sizeof d.cuts);
        free_instance(s);
    }
    assert_true(changed > 40);
}

static void decide__within_the_hysteresis_only_shares_move(void **state)
{
    struct sl_plan_scenario *s = open_instance(3, USERS, 1, LAYERS);
    struct decided d = {0};
    for (uint32_t n = 0; n < USERS; n++)
        d.cuts[n] = 6;
    decide(&d, s, 10);
    assert_int_equal(d.r.changed, 0);
    assert_true(d.r.free_objective < d.r.objective_now);
    /* The best shares for those cuts, not just any. */
    struct sl_plan_choice equal[USERS];
    struct sl_plan_score score;
    for (uint32_t n = 0; n < USERS; n++) {
        equal[n] = d.choice[n];
        equal[n].f_edge_hz = s->server[0].f_max_hz / USERS;
        equal[n].bandwidth_hz = s->server[0].bandwidth_hz / USERS;
    }
    sl_plan_score(s, SL_PLAN_PRINTED, &(struct sl_plan){.n = USERS, .user = equal}, NULL, &score);
    assert_true(d.r.objective < score.objective);
    free_instance(s);
}

static void decide__a_change_that_brings_nothing_is_left(void **state)
{
    struct sl_plan_scenario *s = open_instance(5, USERS, 1, LAYERS);
    struct decided best = {0}, d = {0};
    for (uint32_t n = 0; n < USERS; n++)
        best.cuts[n] = 6;
    decide(&best, s, 0);
    /* One far off; the others where they belong, but for one whose costs are next to nothing. */
    for (uint32_t n = 0; n < USERS; n++)
        d.cuts[n] = best.cuts[n];
    d.cuts[0] = best.cuts[0] > LAYERS / 2 ? 1 : LAYERS - 1;
    s->user[1].layer_flop *= 1e-6;
    s->user[1].lipschitz *= 1e-3;
    d.cuts[1] = best.cuts[1] > LAYERS / 2 ? 1 : LAYERS - 1;
    uint32_t stays = d.cuts[1];
    decide(&d, s, 1e-4);
    assert_true(d.r.changed >= 1);
    assert_int_equal(d.cuts[1], stays);
    assert_int_not_equal(d.cuts[0], d.was[0]);
    free_instance(s);
}

static void decide__who_cannot_be_planned_keeps_its_cut(void **state)
{
    struct sl_plan_scenario *s = open_instance(4, USERS, 1, LAYERS);
    struct decided d = {0};
    for (uint32_t n = 0; n < USERS; n++)
        d.cuts[n] = 6;
    s->user[2].layer_flop = NAN;
    d.plan.user = d.choice;
    assert_int_equal(sl_replan_decide(s, SL_PLAN_PRINTED, 0, 1, NULL, d.cuts, &d.plan, d.cost, &d.r), 0);
    assert_int_equal(d.cuts[2], 6);
    assert_int_equal(d.choice[2].server, SL_PLAN_NOBODY);
    assert_int_equal(d.r.planned, USERS - 1);
    free_instance(s);
}

/* A fleet in groups: feasible as a whole, no worse than before, and near what one plan for all finds. */
static void decide__large_fleets_in_groups(void **state)
{
    enum { MANY = 3 * SL_REPLAN_GROUP + 5 };
    struct sl_plan_scenario *s = open_instance(7, MANY, 1, LAYERS);
    struct sl_plan_choice *choice = calloc(MANY, sizeof *choice), *all = calloc(MANY, sizeof *all);
    struct sl_plan_cost *cost = calloc(MANY, sizeof *cost);
    struct sl_plan plan = {.user = choice}, one = {.n = MANY, .user = all};
    struct sl_plan_report *report = malloc(sizeof *report);
    struct sl_replan_result r;
    uint32_t cuts[MANY];
    bool stop = false;

    for (uint32_t n = 0; n < MANY; n++)
        cuts[n] = 6;
    s->min_share = 1e-4;
    assert_int_equal(sl_replan_decide(s, SL_PLAN_PRINTED, 0, 1, &stop, cuts, &plan, cost, &r), 0);
    assert_int_equal(r.planned, MANY);
    assert_true(r.score.violation < 1e-9 && r.changed > 0);
    assert_true(r.objective < r.objective_now);
    assert_int_equal(sl_plan_solve(s, SL_PLAN_PRINTED, SL_PLAN_PROPOSED, 1, &one, report), 0);
    assert_true(r.free_objective < 1.05 * report->score.objective);
    stop = true;
    assert_int_equal(sl_replan_decide(s, SL_PLAN_PRINTED, 0, 1, &stop, cuts, &plan, cost, &r), -ECANCELED);
    free(choice);
    free(all);
    free(cost);
    free(report);
    free_instance(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(due__first_then_each_period),
        cmocka_unit_test(due__earlier_with_a_reason_but_not_at_once),
        cmocka_unit_test(beat__two_steps_in_a_row_outside_the_range),
        cmocka_unit_test(beat__another_cut_or_a_new_start_is_no_measurement),
        cmocka_unit_test(beat__a_battery_near_its_floor_once),
        cmocka_unit_test(worth__no_message_for_noise),
        cmocka_unit_test(decide__takes_a_better_plan_and_then_stays),
        cmocka_unit_test(decide__within_the_hysteresis_only_shares_move),
        cmocka_unit_test(decide__a_change_that_brings_nothing_is_left),
        cmocka_unit_test(decide__large_fleets_in_groups),
        cmocka_unit_test(decide__who_cannot_be_planned_keeps_its_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
