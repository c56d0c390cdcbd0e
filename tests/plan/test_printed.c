/* Cuts relaxed by fractional programming on one server: descent, and the optimum's closed form. */
#include "tests/plan/instance.h"
#include "trainer/plan/printed.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { STEPS = 3000, USERS = 6, SEEDS = 40 };

static void everybody(struct sl_plan_member *member, uint32_t n, double alpha)
{
    for (uint32_t i = 0; i < n; i++)
        member[i] = (struct sl_plan_member){.user = i, .alpha = alpha, .x = 1};
}

static void relax__never_rises_and_ends_stationary(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_plan_scenario *s = open_instance(seed, USERS, 1, 12);
        struct sl_printed *p = sl_printed_create(s);
        struct sl_plan_member member[USERS];
        double trace[STEPS], residual;
        everybody(member, USERS, 6);
        uint32_t n = sl_printed_relax(p, 0, member, USERS, trace, STEPS, &residual);
        assert_true(n > 1);
        for (uint32_t k = 1; k < n; k++)
            assert_true(trace[k] <= trace[k - 1] * (1 + 1e-12));
        assert_true(residual < 1e-6);
        sl_printed_free(p);
        free_instance(s);
    }
}

/* alpha = layers (1 - sqrt(bound / (layers (B - A)))): B and A the costs of a layer at the edge and here. */
static void relax__interior_cuts_have_their_closed_form(void **state)
{
    uint32_t interior = 0;

    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_plan_scenario *s = open_instance(seed, USERS, 1, 12);
        struct sl_printed *p = sl_printed_create(s);
        struct sl_plan_member member[USERS];
        double trace[STEPS], residual;
        everybody(member, USERS, 6);
        sl_printed_relax(p, 0, member, USERS, trace, STEPS, &residual);
        for (uint32_t i = 0; i < USERS; i++) {
            const struct sl_plan_user *u = &s->user[i];
            double f = sl_printed_f_hz(s, i), e = member[i].f_edge_hz;
            double here = u->layer_flop / (u->cores * u->flop_per_cycle) * (1 / f + u->kappa * f * f);
            double there = u->layer_flop / (s->server[0].cores * s->server[0].flop_per_cycle) *
                           (1 / e + s->server[0].kappa * e * e);
            double bound = 2 * u->lipschitz * u->lipschitz / u->samples;
            double alpha = 12 * (1 - sqrt(bound / (12 * (there - here))));
            if (!(there > here) || alpha < 1.01 || alpha > 10.99)
                continue;
            assert_true(fabs(member[i].alpha - alpha) < 0.1);
            interior++;
        }
        sl_printed_free(p);
        free_instance(s);
    }
    assert_true(interior > SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relax__never_rises_and_ends_stationary),
        cmocka_unit_test(relax__interior_cuts_have_their_closed_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
