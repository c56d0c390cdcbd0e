/* One server's shares against nested bisection by other code, and against their optimality conditions. */
#include "tests/plan/exact.h"
#include "tests/plan/instance.h"
#include "trainer/plan/printed.h"
#include "trainer/plan/split.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { USERS = 6, SEEDS = 60 };

static void server_value__equals_bisection(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_plan_scenario *s = open_instance(seed, USERS, 1, 12);
        struct sl_printed *p = sl_printed_create(s);
        struct sl_plan_value v = sl_printed_value(p);
        struct sl_plan_member member[USERS];
        struct sl_plan_prices prices;
        uint32_t user[USERS], alpha[USERS];
        if (seed % 3 == 0)
            s->min_share = 0.15; /* some shares at their bound */
        for (uint32_t i = 0; i < USERS; i++) {
            user[i] = i;
            alpha[i] = 1 + (uint32_t)draw(seed, "cut", i, 0, 11);
            member[i] = (struct sl_plan_member){.user = i, .alpha = alpha[i], .x = 1};
        }
        double value = v.server(v.ctx, 0, member, USERS, INFINITY, &prices);
        assert_true(fabs(value / exact_server(s, 0, user, alpha, USERS) - 1) < 1e-9);
        sl_printed_free(p);
        free_instance(s);
    }
}

/* Equal slopes of all that are not at the bound, no less than the price for those that are. */
static void bandwidth__shares_have_one_price(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_split_bandwidth u[USERS];
        double price = 0, sum = 0, lo = 5e5;
        for (uint32_t i = 0; i < USERS; i++)
            u[i] = (struct sl_split_bandwidth){exp(draw(seed, "a", i, log(1e3), log(1e10))),
                exp(draw(seed, "c", i, 0, 8)), draw(seed, "x", i, 0.1, 1), 0};
        sl_split_bandwidth(u, USERS, 2e7, lo, &price);
        for (uint32_t i = 0; i < USERS; i++) {
            double b = u[i].share, a = u[i].a_hz, h = 1e-4 * b;
            double slope =
                (u[i].c / ((b - h) * log1p(a / (b - h))) - u[i].c / ((b + h) * log1p(a / (b + h)))) / (2 * h);
            sum += u[i].x * b;
            assert_true(b >= lo * (1 - 1e-12));
            if (b > 2e7 * (1 - 1e-6)) /* nobody has more than there is */
                assert_true(slope >= price * (1 - 1e-3));
            else if (b > lo * (1 + 1e-9))
                assert_true(
                    fabs(slope / price - 1) < 1e-3 || a / b < 1e-3); /* flat: the difference cancels */
            else
                assert_true(slope <= price * (1 + 1e-3) || a / b < 1e-3);
        }
        assert_true(fabs(sum / 2e7 - 1) < 1e-12);
    }
}

static void clock__without_energy_shares_go_with_the_root_of_cycles(void **state)
{
    struct sl_split_clock u[3] = {{1e9, 1, 0}, {4e9, 1, 0}, {9e9, 1, 0}};
    double price = 0, cost = sl_split_clock(u, 3, 6e9, 0, 1, 0, &price);

    for (int i = 0; i < 3; i++)
        assert_true(fabs(u[i].share / (1e9 * (i + 1)) - 1) < 1e-9);
    assert_true(fabs(cost / 6 - 1) < 1e-9);
    assert_true(fabs(price * 1e9 - 1) < 1e-6);
}

static void clock__more_than_is_wanted_has_a_negative_price(void **state)
{
    struct sl_split_clock u[2] = {{1e9, 1, 0}, {2e9, 1, 0}};
    double price = 0;

    sl_split_clock(u, 2, 20e9, 0, 1, 1e-27, &price);
    assert_true(price < 0);
    assert_true(fabs((u[0].share + u[1].share) / 20e9 - 1) < 1e-12);
}

/* From no clock at all the first step is 1 / price long, and the way back from there has no end. */
static void clock_at__a_price_near_0_is_like_none(void **state)
{
    const double price[] = {0, 1e-12, -1e-20, -1e-14, -1e-12, -1e-11};
    double hz;
    (void)state;

    for (size_t i = 0; i < sizeof price / sizeof *price; i++) { /* min 1/f + f^2/2 */
        double cost = sl_split_clock_at(1, 1e-6, 1e6, 1, 0.5, price[i], &hz);
        assert_true(fabs(hz - 1) < 1e-8 && fabs(cost - 1.5) < 1e-8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(server_value__equals_bisection),
        cmocka_unit_test(bandwidth__shares_have_one_price),
        cmocka_unit_test(clock__without_energy_shares_go_with_the_root_of_cycles),
        cmocka_unit_test(clock__more_than_is_wanted_has_a_negative_price),
        cmocka_unit_test(clock_at__a_price_near_0_is_like_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
