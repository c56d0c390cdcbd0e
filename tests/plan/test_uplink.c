/* One uplink against a grid of all bandwidths and powers, and its slopes against differences. */
#include "tests/plan/allot_user.h"
#include "trainer/plan/uplink.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SEEDS = 600, GRID = 120, FEW = 10 };

struct multipliers {
    double mu, w, price;
};

static struct multipliers draw_multipliers(uint64_t seed)
{
    return (struct multipliers){draw_log(seed, "mu", 1e-3, 1e3), draw_log(seed, "w", 1e-2, 10),
        seed % 7 ? draw_log(seed, "price", 1e-10, 1e-5) : 0};
}

static double rate(const struct sl_allot_user *u, double b, double p)
{
    return u->up_bps_per_hz > 0 ? u->up_bps_per_hz * b : b * log2(1 + u->a_hz_per_w * p / b);
}

static double cost(const struct sl_allot_user *u, const struct multipliers *k, double b, double p)
{
    return (k->w * p + k->mu) * u->up_bit / rate(u, b, p) +
           (k->mu + k->w * u->rx_w) * u->down_bit_per_hz / b + k->price * b;
}

static struct sl_uplink find(const struct sl_allot_user *u, struct multipliers k)
{
    struct sl_uplink l = {0};

    sl_uplink(u, k.mu, k.w, k.price, &l);
    return l;
}

static void uplink__no_bandwidth_or_power_costs_less(void **state)
{
    uint32_t open = 0, full = 0, least = 0, wide = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_allot_user u = draw_user(seed);
        struct multipliers k = draw_multipliers(seed);
        struct sl_uplink l = find(&u, k);
        double mine = cost(&u, &k, l.bandwidth_hz, l.power_w);

        assert_true(l.bandwidth_hz >= u.b_min_hz && l.bandwidth_hz <= u.b_max_hz * (1 + 1e-12));
        assert_true(l.power_w >= u.p_min_w && l.power_w <= u.p_max_w);
        assert_true(fabs(l.rate_bps / rate(&u, l.bandwidth_hz, l.power_w) - 1) < 1e-9);
        for (int i = 0; i <= GRID; i++)
            for (int j = 0; j <= GRID; j++) {
                double b = u.b_min_hz * pow(u.b_max_hz / u.b_min_hz, (double)i / GRID);
                /* a measured uplink has one power */
                double p = u.up_bps_per_hz > 0 ? u.p_max_w
                                               : u.p_min_w * pow(u.p_max_w / u.p_min_w, (double)j / GRID);
                assert_true(mine <= cost(&u, &k, b, p) * (1 + 1e-10));
            }
        bool wider = l.bandwidth_hz >= u.b_max_hz * (1 - 1e-12);
        wide += wider;
        full += !wider && l.power_w == u.p_max_w;
        least += !wider && l.power_w == u.p_min_w;
        open += !wider && l.power_w > u.p_min_w && l.power_w < u.p_max_w;
    }
    assert_true(open > FEW && full > FEW && least > FEW && wide > FEW);
}

static double side(double v, double low, double high)
{
    return v <= low * (1 + 1e-9) ? -1 : v >= high * (1 - 1e-9) ? 1 : 0;
}

/* Two answers on the same side of every bound: between them there is no bend. */
static bool alike(const struct sl_allot_user *u, const struct sl_uplink *a, const struct sl_uplink *b)
{
    return side(a->bandwidth_hz, u->b_min_hz, u->b_max_hz) ==
               side(b->bandwidth_hz, u->b_min_hz, u->b_max_hz) &&
           side(a->power_w, u->p_min_w, u->p_max_w) == side(b->power_w, u->p_min_w, u->p_max_w);
}

static double time_of(const struct sl_allot_user *u, const struct sl_uplink *l)
{
    return u->up_bit / l->rate_bps + u->down_bit_per_hz / l->bandwidth_hz;
}

static void uplink__slopes_are_those_of_differences(void **state)
{
    const double h = 1e-4;
    uint32_t compared = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sl_allot_user u = draw_user(seed);
        struct multipliers k = draw_multipliers(seed), up = k, down = k;
        struct sl_uplink l = find(&u, k);
        for (int price = 0; price < 2; price++) {
            up = down = k;
            *(price ? &up.price : &up.mu) *= exp(h);
            *(price ? &down.price : &down.mu) *= exp(-h);
            struct sl_uplink more = find(&u, up), less = find(&u, down);
            if (!alike(&u, &more, &less))
                continue;
            double b = log(more.bandwidth_hz / less.bandwidth_hz) / (2 * h),
                   t = (time_of(&u, &more) - time_of(&u, &less)) / (2 * h);
            assert_true(fabs(b - (price ? l.bandwidth_price : l.bandwidth_mu)) < 1e-5);
            assert_true(fabs(t - (price ? l.time_price : l.time_mu)) < 1e-5 * time_of(&u, &l));
            compared++;
        }
    }
    assert_true(compared > SEEDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uplink__no_bandwidth_or_power_costs_less),
        cmocka_unit_test(uplink__slopes_are_those_of_differences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
