/* Assignment against all of them, the relaxed association's descent, moves and swaps against all plans. */
#include "tests/plan/exact.h"
#include "tests/plan/instance.h"
#include "trainer/plan/associate.h"
#include "trainer/plan/printed.h"
#include "trainer/plan/search.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { USERS = 6, SERVERS = 3, PLANS = 729 /* 3^6 */, SEEDS = 60, FEW = 24 };

static double least_assignment(const struct sl_plan_scenario *s, const double *cost)
{
    double best = INFINITY;

    for (uint32_t plan = 0; plan < PLANS; plan++) {
        uint32_t used[SERVERS] = {0}, rest = plan;
        double sum = 0;
        for (uint32_t n = 0; n < USERS; n++, rest /= SERVERS) {
            sum += cost[n * SERVERS + rest % SERVERS];
            used[rest % SERVERS]++;
        }
        for (uint32_t m = 0; m < SERVERS; m++)
            if (used[m] > sl_plan_room(s, m))
                sum = INFINITY;
        best = fmin(best, sum);
    }
    return best;
}

static void assign__is_the_least_of_all(void **state)
{
    uint32_t solved = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_plan_scenario *s = open_instance(seed, USERS, SERVERS, 6);
        double cost[USERS * SERVERS], sum = 0;
        uint32_t server[USERS] = {0};
        for (uint32_t m = 0; m < SERVERS; m++)
            s->server[m].slots = 2 + (seed + m) % 2;
        for (uint32_t i = 0; i < USERS * SERVERS; i++)
            cost[i] = draw(seed, "closed", i, 0, 1) < 0.3 ? INFINITY : draw(seed, "cost", i, -1, 1);
        int rc = sl_assign(s, cost, server);
        double best = least_assignment(s, cost);
        assert_true(rc >= 0);
        assert_int_equal(rc == 0, isfinite(best));
        for (uint32_t n = 0; n < USERS && rc == 0; n++)
            sum += cost[n * SERVERS + server[n]];
        if (rc == 0)
            assert_true(fabs(sum - best) < 1e-12);
        solved += rc == 0;
        free_instance(s);
    }
    assert_true(solved > SEEDS / 2);
}

static void associate__surrogate_falls_within_a_round(void **state)
{
    uint32_t steps = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_plan_scenario *s = open_instance(seed, USERS, SERVERS, 6);
        struct sl_printed *p = sl_printed_create(s);
        struct sl_plan_value v = sl_printed_value(p);
        double alpha[USERS], value[200];
        uint32_t server[USERS] = {0}, round[200];
        struct sl_associate_trace trace = {value, round, 0, 200};
        for (uint32_t n = 0; n < USERS; n++)
            alpha[n] = draw(seed, "cut", n, 1, 5);
        assert_int_equal(sl_associate(&v, alpha, false, server, &trace), 0);
        for (uint32_t k = 1; k < trace.n; k++)
            if (round[k] == round[k - 1]) {
                assert_true(value[k] < value[k - 1]);
                steps++;
            }
        for (uint32_t n = 0; n < USERS; n++)
            assert_true(server[n] < SERVERS);
        sl_printed_free(p);
        free_instance(s);
    }
    assert_true(steps > SEEDS);
}

/* From one random start: no single move or swap helps any more, which is mostly the optimum. */
static void search__mostly_ends_at_the_exact_optimum(void **state)
{
    uint32_t there = 0;

    for (uint64_t seed = 1; seed <= FEW; seed++) {
        struct sl_plan_scenario *s = open_instance(seed, 4, 2, 6);
        struct sl_printed *p = sl_printed_create(s);
        struct sl_plan_value v = sl_printed_value(p);
        struct exact best;
        uint32_t server[4], alpha[4], moves;
        double before, after;
        exact_optimum(s, &best);
        for (uint32_t n = 0; n < 4; n++) {
            server[n] = (uint32_t)draw(seed, "server", n, 0, 2);
            alpha[n] = 1 + (uint32_t)draw(seed, "cut", n, 0, 5);
        }
        assert_int_equal(sl_plan_whole_value(&v, server, alpha, &before, NULL, NULL), 0);
        assert_int_equal(
            sl_plan_search(&v, SL_SEARCH_CUTS | SL_SEARCH_SERVERS, server, alpha, &after, &moves), 0);
        assert_true(after <= before && after >= best.objective * (1 - 1e-9));
        there += after <= best.objective * 1.001;
        sl_printed_free(p);
        free_instance(s);
    }
    assert_true(2 * there >= FEW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(assign__is_the_least_of_all),
        cmocka_unit_test(associate__surrogate_falls_within_a_round),
        cmocka_unit_test(search__mostly_ends_at_the_exact_optimum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
