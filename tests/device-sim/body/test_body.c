/* A phone's account: energy that adds up over any history, heat that slows, a battery that empties and is
 * charged. */
#include "device-sim/body/body.h"

#include "tests/wire/test.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>

static const uint64_t second = 1000000000;

/* 4 W at 3 GHz, kappa f^3; two lower steps. */
static struct sl_body_config make_config(void)
{
    struct sl_body_config c = {.clock = {.n_steps = 3, .hz = {1e9, 2e9, 3e9}, .flops = 6e9},
        .thermal =
            {.ambient_c = 25, .resistance_c_w = 8, .capacity_j_c = 120, .throttle_c = 43, .release_c = 41},
        .idle_w = 0.3,
        .send_w = 1.2,
        .receive_w = 0.8,
        .tail_w = 0.5,
        .promotion_w = 1.1,
        .battery_start = 1};

    sl_clock_cubic(&c.clock, sl_clock_kappa(4, 3e9));
    c.battery_j = sl_battery_capacity_j(4500, 3.85);
    return c;
}

static double sum(const struct sl_energy *e)
{
    double s = 0;

    for (int c = 0; c < SL_CAUSE_COUNT; c++)
        s += e->by_cause_j[c];
    return s;
}

static void assert_near(double a, double b, double within)
{
    if (!(fabs(a - b) <= within))
        fail_msg("%.15g is not within %g of %.15g", a, within, b);
}

static void init__refuses_a_phone_without_battery_or_clock(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;

    c.battery_j = 0;
    assert_int_equal(sl_body_init(&b, &c, 0), -EINVAL);
    c = make_config();
    c.clock.n_steps = 0;
    assert_int_equal(sl_body_init(&b, &c, 0), -EINVAL);
}

static void energy__powers_times_times(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;
    struct sl_energy e;
    struct sl_body_state s;

    assert_int_equal(sl_body_init(&b, &c, 5 * second), 0);
    sl_body_awake(&b, true, 10 * second); /* nothing is drawn before */
    assert_int_equal(sl_body_compute(&b, 60e9, 20 * second), 10 * second);
    sl_body_radio(&b,
        &(struct sl_radio_times){.send_ns = 5 * second,
            .receive_ns = 2 * second,
            .connected_ns = 15 * second,
            .promotion_ns = second},
        40 * second);
    sl_body_advance(&b, 70 * second);
    sl_body_energy(&b, &e);
    assert_near(e.by_cause_j[SL_CAUSE_COMPUTE], 40, 1e-9);
    assert_near(e.by_cause_j[SL_CAUSE_IDLE], 0.3 * 50, 1e-9);
    assert_near(e.by_cause_j[SL_CAUSE_SEND], 6, 1e-9);
    assert_near(e.by_cause_j[SL_CAUSE_RECEIVE], 1.6, 1e-9);
    assert_near(e.by_cause_j[SL_CAUSE_TAIL], 0.5 * 8, 1e-9);
    assert_near(e.by_cause_j[SL_CAUSE_PROMOTION], 1.1, 1e-9);
    sl_body_state(&b, &s);
    /* 4500 mAh at 3.85 V: 4.5 Ah * 3600 s/h * 3.85 V = 62,370 J */
    assert_near(s.battery, 1 - sum(&e) / 62370, 1e-12);
}

static void energy__tail_never_shrinks(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;
    struct sl_energy e;

    sl_body_init(&b, &c, 0);
    sl_body_radio(&b, &(struct sl_radio_times){.connected_ns = 10 * second}, 10 * second);
    /* a queue of 30 s is booked as sent when it is taken */
    sl_body_radio(
        &b, &(struct sl_radio_times){.send_ns = 30 * second, .connected_ns = 11 * second}, 11 * second);
    sl_body_radio(
        &b, &(struct sl_radio_times){.send_ns = 30 * second, .connected_ns = 45 * second}, 45 * second);
    sl_body_energy(&b, &e);
    assert_near(e.by_cause_j[SL_CAUSE_TAIL], 0.5 * 15, 1e-9);
}

/* Anything may happen, in any order, with batteries that run dry and fill up: the causes add up to the total,
 * and the total less what was charged to the battery's fall. */
static void energy__adds_up_over_random_histories(void **state)
{
    uint64_t key = sl_rng_key(5, "histories");

    for (uint64_t h = 0; h < 300; h++) {
        uint64_t k = sl_rng_u64(key, h), i = 0, now = 0;
        struct sl_body_config c = make_config();
        struct sl_radio_times r = {0};
        struct sl_body b;
        struct sl_energy e, before = {0};
        c.battery_j = 10 + (double)(sl_rng_u64(k, i++) % 5000);
        c.battery_start = (double)(sl_rng_u64(k, i++) % 1001) / 1000;
        c.thermal.capacity_j_c = (double)(sl_rng_u64(k, i++) % 20);
        assert_int_equal(sl_body_init(&b, &c, now), 0);
        for (int event = 0; event < 400; event++) {
            now += sl_rng_u64(k, i++) % (20 * second);
            switch (sl_rng_u64(k, i++) % 6) {
            case 0:
                sl_body_compute(&b, (double)(sl_rng_u64(k, i++) % 200) * 1e9, now);
                break;
            case 1:
                sl_body_awake(&b, sl_rng_u64(k, i++) % 4 > 0, now);
                break;
            case 2:
                sl_body_plug(&b, sl_rng_u64(k, i++) % 2, 7.5, now);
                break;
            case 3:
                sl_body_advance(&b, now);
                break;
            default:
                r.send_ns += sl_rng_u64(k, i++) % second;
                r.receive_ns += sl_rng_u64(k, i++) % second;
                r.connected_ns += sl_rng_u64(k, i++) % (3 * second);
                r.promotion_ns += sl_rng_u64(k, i++) % second;
                sl_body_radio(&b, &r, now);
            }
            sl_body_energy(&b, &e);
            assert_near(sum(&e), e.total_j, 1e-9 * (e.total_j + 1e-3));
            assert_near(c.battery_start * c.battery_j - b.battery.level_j, e.total_j - e.charged_j,
                1e-9 * (c.battery_j + e.total_j));
            assert_true(b.battery.level_j >= 0 && b.battery.level_j <= c.battery_j * (1 + 1e-12));
            for (int cause = 0; cause < SL_CAUSE_COUNT; cause++)
                assert_true(e.by_cause_j[cause] >= before.by_cause_j[cause]);
            before = e;
        }
    }
}

/* How often one looks changes nothing. */
static void advance__is_the_same_in_one_go(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body often, once;

    c.thermal.capacity_j_c = 3; /* hot within seconds */
    sl_body_init(&often, &c, 0);
    sl_body_init(&once, &c, 0);
    sl_body_awake(&often, true, 0);
    sl_body_awake(&once, true, 0);
    for (uint64_t t = 0; t < 400; t += 100) {
        uint64_t took = sl_body_compute(&once, 300e9, t * second);
        assert_true(sl_body_compute(&often, 300e9, t * second) == took);
        for (uint64_t ms = 0; ms < 100000; ms += 37)
            sl_body_advance(&often, t * second + ms * (second / 1000));
    }
    sl_body_advance(&often, 400 * second);
    sl_body_advance(&once, 400 * second);
    assert_near(often.battery.drawn_j, once.battery.drawn_j, 1e-6);
    assert_near(often.temperature_c, once.temperature_c, 1e-9);
    assert_int_equal(often.step, once.step);
}

/* Cold: the step response of 4 W, at any time of a pass that is short enough. */
static void heat__is_the_closed_form_before_throttling(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;

    sl_body_init(&b, &c, 0);
    sl_body_awake(&b, true, 0);
    assert_int_equal(sl_body_compute(&b, 6e9 * 600, 0), 600 * second);
    for (uint64_t t = 1; t <= 600; t += 7) {
        sl_body_advance(&b, t * second);
        assert_near(b.temperature_c, 25 + 32 * (1 - exp(-(double)t / 960)), 1e-9);
    }
    /* then 0.3 W: settles at 27.4 */
    sl_body_advance(&b, 600 * second);
    double hot = b.temperature_c;
    sl_body_advance(&b, 900 * second);
    assert_near(b.temperature_c, 27.4 + (hot - 27.4) * exp(-300.0 / 960), 1e-9);
}

/* By hand. 4 W settle at 57 degrees, 32/27 W (2 GHz) at 34.5. From 25 the chip is at 43 after
 * -960 ln(1 - 18/32) = 793.6 s, so the look at 794 s steps down to 2 GHz; it cools to 41 (below) and steps
 * up.
 */
static void heat__slows_the_phone_and_lets_it_go_again(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;
    struct sl_body_state s;

    sl_body_init(&b, &c, 0);
    sl_body_awake(&b, true, 0);
    uint64_t took = sl_body_compute(&b, 6e9 * 1000, 0);
    assert_true(took > 1000 * second);
    sl_body_advance(&b, 794 * second - 1);
    sl_body_state(&b, &s);
    assert_true(s.clock_hz == 3e9);
    sl_body_advance(&b, 794 * second);
    sl_body_state(&b, &s);
    assert_true(s.clock_hz == 2e9);
    double hot = 25 + 32 * (1 - exp(-794.0 / 960)), settled = 25 + 8 * 32.0 / 27;
    uint64_t cool_s = (uint64_t)ceil(960 * log((hot - settled) / (41 - settled)));
    sl_body_advance(&b, (794 + cool_s) * second - 1);
    sl_body_state(&b, &s);
    assert_true(s.clock_hz == 2e9);
    sl_body_advance(&b, (794 + cool_s) * second);
    sl_body_state(&b, &s);
    assert_true(s.clock_hz == 3e9);
    /* until 794 at 6 GFLOP/s, then cool_s at 4, the rest at 6 again */
    double rest = (1000.0 - 794) * 6 - (double)cool_s * 4;
    assert_true(rest > 0);
    assert_near((double)took * 1e-9, 794 + (double)cool_s + rest / 6, 1e-6);
}

static void heat__none_without_a_capacity(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;

    c.thermal.capacity_j_c = 0;
    sl_body_init(&b, &c, 0);
    sl_body_awake(&b, true, 0);
    assert_int_equal(sl_body_compute(&b, 6e9 * 100000, 0), 100000 * second);
    sl_body_advance(&b, 100000 * second);
    assert_true(b.temperature_c == 25);
}

static void battery__low_at_its_floor_and_back_above(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;

    c.battery_j = 1000;
    c.battery_start = 0.21;
    c.battery_floor = 0.2;
    sl_body_init(&b, &c, 0);
    sl_body_awake(&b, true, 0);
    assert_false(sl_body_is_low(&b));
    sl_body_advance(&b, 34 * second); /* 10.2 J */
    assert_true(sl_body_is_low(&b));
    assert_false(sl_body_has_recovered(&b));
    sl_body_awake(&b, false, 34 * second);
    sl_body_plug(&b, true, 5, 34 * second);
    sl_body_advance(&b, 44 * second); /* 199.8 + 50 */
    assert_false(sl_body_is_low(&b));
    assert_false(sl_body_has_recovered(&b));
    sl_body_advance(&b, 45 * second);
    assert_true(sl_body_has_recovered(&b));
    sl_body_advance(&b, 1000 * second); /* full, and no more */
    assert_near(b.battery.level_j, 1000, 1e-9);
    assert_near(b.battery.charged_j, 1000 - 199.8, 1e-9);
}

static void battery__empty_gives_nothing_more(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;
    struct sl_energy e;

    c.battery_j = 30;
    sl_body_init(&b, &c, 0);
    sl_body_awake(&b, true, 0);
    sl_body_compute(&b, 6e9 * 5, 0);
    sl_body_advance(&b, 10000 * second);
    sl_body_energy(&b, &e);
    assert_near(e.by_cause_j[SL_CAUSE_COMPUTE], 20, 1e-9);
    assert_near(e.by_cause_j[SL_CAUSE_IDLE], 10, 1e-9);
    assert_true(sl_body_is_low(&b) && b.battery.level_j == 0);
}

/* A pass that the machine gave up: the next one begins at once, and the chip does one thing at a time. */
static void compute__a_new_job_ends_the_old_one(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;

    sl_body_init(&b, &c, 0);
    sl_body_awake(&b, true, 0);
    sl_body_compute(&b, 60e9, 0);
    assert_int_equal(sl_body_compute(&b, 12e9, 4 * second), 2 * second);
    sl_body_advance(&b, 100 * second);
    assert_near(b.compute_s, 6, 1e-9);
}

/* At two thirds of the clock: 3/2 of the time, (2/3)^2 of the joules. */
static void bound_clock__slows_and_saves_as_the_cube_says(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body free_one, bounded;
    struct sl_energy a, b;
    struct sl_body_state s;

    c.thermal.capacity_j_c = 0;
    assert_int_equal(sl_body_init(&free_one, &c, 0), 0);
    assert_int_equal(sl_body_init(&bounded, &c, 0), 0);
    sl_body_awake(&free_one, true, 0);
    sl_body_awake(&bounded, true, 0);
    sl_body_bound_clock(&bounded, 2.7e9, 0);
    sl_body_state(&bounded, &s);
    assert_near(s.clock_hz, 2e9, 0);
    assert_near(s.clock_max_hz, 3e9, 0);
    assert_int_equal(sl_body_compute(&free_one, 60e9, 0), 10 * second);
    assert_int_equal(sl_body_compute(&bounded, 60e9, 0), 15 * second);
    sl_body_advance(&free_one, 10 * second);
    sl_body_advance(&bounded, 15 * second);
    sl_body_energy(&free_one, &a);
    sl_body_energy(&bounded, &b);
    assert_near(b.by_cause_j[SL_CAUSE_COMPUTE] / a.by_cause_j[SL_CAUSE_COMPUTE], 4.0 / 9, 1e-9);
    sl_body_bound_clock(&bounded, 0, 15 * second);
    assert_int_equal(sl_body_compute(&bounded, 60e9, 15 * second), 10 * second);
}

/* How long a job takes was said at its beginning: what comes in the middle of it is the next one's. */
static void bound_clock__leaves_the_job_under_way_alone(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;
    struct sl_energy e;

    c.thermal.capacity_j_c = 0;
    assert_int_equal(sl_body_init(&b, &c, 0), 0);
    sl_body_awake(&b, true, 0);
    assert_int_equal(sl_body_compute(&b, 60e9, 0), 10 * second);
    sl_body_bound_clock(&b, 1e9, 4 * second);
    sl_body_advance(&b, 10 * second);
    sl_body_energy(&b, &e);
    assert_near(e.by_cause_j[SL_CAUSE_COMPUTE], 40, 1e-9);
    assert_int_equal(sl_body_compute(&b, 60e9, 10 * second), 30 * second);
}

/* Heat still slows a bounded phone, and never speeds it beyond the bound. */
static void bound_clock__and_heat_the_lower_one_counts(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;
    struct sl_body_state s;

    c.thermal.resistance_c_w = 40; /* 1.2 W at 2 GHz settle at 72 degrees: too hot; 0.15 W at 31 */
    assert_int_equal(sl_body_init(&b, &c, 0), 0);
    sl_body_awake(&b, true, 0);
    sl_body_bound_clock(&b, 2e9, 0);
    bool lowest = false;
    for (uint64_t at = 0; at < 4000; at += 10) {
        sl_body_compute(&b, 1e12, at * second);
        sl_body_advance(&b, (at + 10) * second);
        sl_body_state(&b, &s);
        assert_true(s.clock_hz <= 2e9);
        lowest |= s.clock_hz == 1e9;
    }
    assert_true(lowest);
    sl_body_advance(&b, 4000 * second);
    sl_body_bound_clock(&b, 1e9, 4000 * second);
    sl_body_compute(&b, 1, 4000 * second);
    sl_body_state(&b, &s);
    assert_near(s.clock_hz, 1e9, 0);
}

/* 0.2 W at the antenna through an amplifier of 35 %: 0.571 of the 1.2 W; half of that output saves half of
 * it. */
static void bound_power__moves_the_amplifiers_part(void **state)
{
    struct sl_body_config c = make_config();
    struct sl_body b;
    struct sl_energy e;

    c.radiated_w = 0.2;
    assert_int_equal(sl_body_init(&b, &c, 0), 0);
    sl_body_awake(&b, true, 0);
    sl_body_radio(&b, &(struct sl_radio_times){.send_ns = second}, second);
    sl_body_bound_power(&b, 0.1, second);
    sl_body_radio(&b, &(struct sl_radio_times){.send_ns = 2 * second}, 2 * second);
    sl_body_energy(&b, &e);
    assert_near(e.by_cause_j[SL_CAUSE_SEND], 1.2 + 1.2 - 0.1 / 0.35, 1e-9);
    assert_near(sl_body_power_share(&c, 0.1), 0.5, 0);
    assert_near(sl_body_power_share(&c, 5), 1, 0);
    assert_near(sl_body_power_share(&c, 0), 1, 0);
    assert_near(sl_body_power_share(&c, 1e-12), 5e-7, 0); /* -40 dBm, whatever is asked for */
    c.radiated_w = 0;
    assert_near(sl_body_power_share(&c, 0.1), 1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bound_clock__slows_and_saves_as_the_cube_says),
        cmocka_unit_test(bound_clock__leaves_the_job_under_way_alone),
        cmocka_unit_test(bound_clock__and_heat_the_lower_one_counts),
        cmocka_unit_test(bound_power__moves_the_amplifiers_part),
        cmocka_unit_test(init__refuses_a_phone_without_battery_or_clock),
        cmocka_unit_test(energy__powers_times_times),
        cmocka_unit_test(energy__tail_never_shrinks),
        cmocka_unit_test(energy__adds_up_over_random_histories),
        cmocka_unit_test(advance__is_the_same_in_one_go),
        cmocka_unit_test(heat__is_the_closed_form_before_throttling),
        cmocka_unit_test(heat__slows_the_phone_and_lets_it_go_again),
        cmocka_unit_test(heat__none_without_a_capacity),
        cmocka_unit_test(battery__low_at_its_floor_and_back_above),
        cmocka_unit_test(battery__empty_gives_nothing_more),
        cmocka_unit_test(compute__a_new_job_ends_the_old_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
