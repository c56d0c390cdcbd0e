/* One user at given prices: bounds kept, the answers of its shares against differences, and what duality says
 * it costs at least. That the whole is the optimum is test_physical_optimum.c's. */
#include "tests/plan/allot_user.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SEEDS = 400, FEW = 20 };

static struct sl_plan_prices draw_prices(uint64_t seed)
{
    return (struct sl_plan_prices){draw_log(seed, "price", 1e-9, 1e-6), draw_log(seed, "clock", 1e-12, 1e-9)};
}

/* With a bound on time that is met by some mu of its range, and, of every other seed, one on energy. */
static struct sl_allot_user bounded(uint64_t seed, const struct sl_plan_prices *prices)
{
    struct sl_allot_user u = draw_user(seed);
    struct sl_allot out = {0};

    u.second_weight = draw_log(seed, "mu", 1e-2, 1e2);
    sl_allot(&u, prices, INFINITY, &out);
    u.time_max_s = out.time_s;
    u.second_weight = 0;
    if (seed % 2) {
        out = (struct sl_allot){0};
        sl_allot(&u, prices, INFINITY, &out);
        u.energy_max_j = u.fixed_j + draw(seed, "energy", 0, 0.9, 1.1) * (out.energy_j - u.fixed_j);
    }
    return u;
}

static void allot__bounds_are_kept(void **state)
{
    uint32_t sparing = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_plan_prices prices = draw_prices(seed);
        struct sl_allot_user u = bounded(seed, &prices);
        struct sl_allot out = {0};
        sl_allot(&u, &prices, INFINITY, &out);
        assert_true(fabs(out.time_s / u.time_max_s - 1) < 1e-9 || out.joule_weight >= u.joule_weight_max ||
                    out.mu >= u.mu_max);
        if (out.joule_weight > u.joule_weight && out.joule_weight < 0.99 * u.joule_weight_max) {
            assert_true(fabs(out.energy_j / u.energy_max_j - 1) < 1e-9);
            sparing++;
        }
    }
    assert_true(sparing > FEW);
}

static bool between(double v, double low, double high)
{
    return v > low * (1 + 1e-6) && v < high * (1 - 1e-6);
}

/* Where what is at a bound stays there. */
static bool alike(const struct sl_allot_user *u, const struct sl_allot *a, const struct sl_allot *b)
{
    return between(a->bandwidth_hz, u->b_min_hz, u->b_max_hz) ==
               between(b->bandwidth_hz, u->b_min_hz, u->b_max_hz) &&
           between(a->power_w, u->p_min_w, u->p_max_w) == between(b->power_w, u->p_min_w, u->p_max_w) &&
           between(a->f_hz, u->f_min_hz, u->f_max_hz) == between(b->f_hz, u->f_min_hz, u->f_max_hz) &&
           between(a->f_edge_hz, u->g_min_hz, u->g_max_hz) ==
               between(b->f_edge_hz, u->g_min_hz, u->g_max_hz) &&
           between(a->mu, u->second_weight, u->mu_max) == between(b->mu, u->second_weight, u->mu_max) &&
           (a->joule_weight > u->joule_weight) == (b->joule_weight > u->joule_weight) &&
           a->joule_weight < 1e-3 * u->joule_weight_max;
}

static void allot__slopes_are_those_of_differences(void **state)
{
    const double h = 1e-4;
    uint32_t plain = 0, sparing = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_plan_prices prices = draw_prices(seed);
        struct sl_allot_user u = bounded(seed, &prices);
        struct sl_allot here = {0};
        sl_allot(&u, &prices, INFINITY, &here);
        for (int price = 0; price < 2; price++) {
            struct sl_plan_prices high = prices, low = prices;
            struct sl_allot more = here, less = here;
            *(price ? &high.clock : &high.bandwidth) *= exp(h);
            *(price ? &low.clock : &low.bandwidth) *= exp(-h);
            sl_allot(&u, &high, INFINITY, &more);
            sl_allot(&u, &low, INFINITY, &less);
            if (!alike(&u, &more, &less))
                continue;
            double b = (more.bandwidth_hz - less.bandwidth_hz) / (2 * h),
                   g = (more.f_edge_hz - less.f_edge_hz) / (2 * h);
            assert_true(fabs(b - here.slope_hz[0][price]) < 1e-4 * here.bandwidth_hz);
            assert_true(fabs(g - here.slope_hz[1][price]) < 1e-4 * here.f_edge_hz);
            *(here.joule_weight > u.joule_weight ? &sparing : &plain) += 1;
        }
    }
    assert_true(plain > FEW && sparing > FEW);
}

static void allot__enough_ends_at_a_bound_of_the_cost(void **state)
{
    uint32_t ended = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_plan_prices prices = draw_prices(seed);
        struct sl_allot_user u = bounded(seed, &prices);
        struct sl_allot out = {0};
        double cost = sl_allot(&u, &prices, INFINITY, &out);
        for (double enough = 0.2 * cost; enough < 1.5 * cost; enough += 0.1 * cost) {
            out = (struct sl_allot){0};
            double told = sl_allot(&u, &prices, enough, &out);
            assert_true(told <= cost * (1 + 1e-9));
            assert_true(told >= fmin(enough, cost * (1 - 1e-9)));
            ended += told < 0.999 * cost;
        }
    }
    assert_true(ended > SEEDS);
}

static void allot_at_least__is_a_bound_and_the_cost_at_the_optimum(void **state)
{
    (void)state;
    for (uint64_t seed = 2; seed <= SEEDS; seed += 2) { /* without a bound on energy */
        struct sl_plan_prices prices = draw_prices(seed);
        struct sl_allot_user u = bounded(seed, &prices);
        struct sl_allot best = {0};
        double cost = sl_allot(&u, &prices, INFINITY, &best);
        for (double factor = 1e-3; factor < 1e4; factor *= 10) {
            struct sl_allot out = {.mu = best.mu * factor};
            assert_true(sl_allot_at_least(&u, &prices, &out) <= cost * (1 + 1e-9));
        }
        struct sl_allot out = best;
        assert_true(fabs(sl_allot_at_least(&u, &prices, &out) / cost - 1) < 1e-8);
    }
}

/* Part t of the way from no layers to all of them. */
static struct sl_allot_user cut(const struct sl_allot_user *all, double t)
{
    struct sl_allot_user u = *all;

    u.device_cycles *= t;
    u.edge_cycles *= 1 - t;
    u.up_bit *= 1 + 0.3 * t;
    u.down_bit_per_hz *= 1 + 0.2 * t;
    u.fixed_s += 0.01 * t;
    return u;
}

static void allot_at_least__is_concave_in_the_cut(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_plan_prices prices = draw_prices(seed);
        struct sl_allot_user all = bounded(seed, &prices);
        double from = 0.1, to = 0.8, value[3];
        for (int i = 0; i < 3; i++) {
            struct sl_allot_user u = cut(&all, from + (to - from) * i / 2);
            struct sl_allot out = {.mu = draw_log(seed, "at", 1e-2, 1e2)};
            value[i] = sl_allot_at_least(&u, &prices, &out);
        }
        assert_true(value[1] >= (value[0] + value[2]) / 2 - 1e-9 * fabs(value[1]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(allot__bounds_are_kept),
        cmocka_unit_test(allot__slopes_are_those_of_differences),
        cmocka_unit_test(allot__enough_ends_at_a_bound_of_the_cost),
        cmocka_unit_test(allot_at_least__is_a_bound_and_the_cost_at_the_optimum),
        cmocka_unit_test(allot_at_least__is_concave_in_the_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
