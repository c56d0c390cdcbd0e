/* The fit of a device from its heartbeats (rules P9), against a device whose figures are known. */
#include "trainer/plan/forecast.h"
#include "trainer/plan/profile.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* A phone: a layer takes cycles / clock, computing kappa clock^3. Its beats come right after a step, and
 * `beats` - 1 times in between. */
struct phone {
    double cycles, kappa, idle_w, tail_w, send_w, receive_w;
    double up_s, down_s, rtt_s, wait_s;
    double hz, cap_hz;
    uint32_t cut;
    struct sl_plan_beat beat;
};

static const struct sl_profile_work work = {
    .layer_flop = 2e9, .up_bit = 8e6, .down_bit = 4e6, .min_layers = 1, .max_layers = 11};
static const double full_hz = 2e9;

static struct phone known(void)
{
    return (struct phone){.cycles = 1e8,
        .kappa = 0.5e-27,
        .idle_w = 0.3,
        .tail_w = 0.6,
        .send_w = 2,
        .receive_w = 1,
        .up_s = 0.8,
        .down_s = 0.2,
        .rtt_s = 0.05,
        .wait_s = 0.5,
        .hz = full_hz,
        .cut = 4,
        .beat = {.clock_max_hz = full_hz,
            .battery = 0.8,
            .battery_floor = 0.1,
            .rtt_s = 0.05,
            .rate_up_bps = 1e7,
            .rate_down_bps = 2e7}};
}

static double step_s(const struct phone *p)
{
    return p->cut * p->cycles / p->hz + p->up_s + p->down_s + p->rtt_s;
}

static double step_j(const struct phone *p)
{
    double compute = p->cut * p->cycles / p->hz, wall = step_s(p) + p->wait_s;
    return p->kappa * pow(p->hz, 3) * compute + p->send_w * p->up_s + p->receive_w * p->down_s +
           p->tail_w * wall + p->idle_w * (wall - compute);
}

static void step(struct phone *p)
{
    double compute = p->cut * p->cycles / p->hz, wall = step_s(p) + p->wait_s;

    p->beat.at_s += wall;
    p->beat.steps++;
    p->beat.cut = p->cut;
    p->beat.step_computed_s = compute;
    p->beat.computed_s += compute;
    p->beat.turn_s += p->up_s + p->down_s + p->rtt_s + p->wait_s;
    p->beat.held_s += p->wait_s;
    p->beat.clock_hz = p->hz;
    p->beat.clock_cap_hz = p->cap_hz;
    p->beat.energy_compute_j += p->kappa * pow(p->hz, 3) * compute;
    p->beat.energy_send_j += p->send_w * p->up_s;
    p->beat.energy_receive_j += p->receive_w * p->down_s;
    p->beat.energy_tail_j += p->tail_w * wall;
    p->beat.energy_idle_j += p->idle_w * (wall - compute);
}

static void run(struct sl_plan_profile *profile, struct phone *p, unsigned steps)
{
    while (steps--) {
        step(p);
        sl_profile_beat(profile, &p->beat);
    }
}

static void near(double got, double wanted, double relative)
{
    if (!(fabs(got - wanted) <= relative * fabs(wanted)))
        fail_msg("%.9g is not within %g of %.9g", got, relative, wanted);
}

static void check_prediction(const struct sl_plan_profile *profile, const struct phone *p, double relative)
{
    double s, j;

    sl_profile_predict(profile, &work, p->cut, &s, &j);
    near(s, step_s(p), relative);
    near(j, step_j(p), relative);
}

static void beat__known_phone(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_profile_fit f;
    struct phone p = known();
    (void)state;

    assert_false(sl_profile_ready(&profile));
    run(&profile, &p, 20);
    assert_true(sl_profile_ready(&profile));
    sl_profile_fit(&profile, &work, &f);
    near(f.layer_s, p.cycles / full_hz, 1e-2);
    near(f.layer_cycles, p.cycles, 1e-2);
    near(f.kappa, p.kappa, 1e-2);
    near(f.idle_w, p.idle_w, 1e-2);
    near(f.tail_w, p.tail_w, 1e-2);
    near(f.link_s, 1.05, 1e-2);
    near(f.up_s, p.up_s, 1e-2); /* 8 Mbit at 10 Mbit/s against 4 at 20: four fifths */
    near(f.rtt_s, p.rtt_s, 1e-2);
    check_prediction(&profile, &p, 1e-2);
    p.cut = 9; /* never seen */
    check_prediction(&profile, &p, 1e-2);
}

static void beat__fields_of_a_user(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_plan_user u = {.samples = 7, .deadline_s = 3};
    struct phone p = known();
    (void)state;

    run(&profile, &p, 20);
    sl_profile_user(&profile, &work, &u);
    near(work.layer_flop / (u.f_max_hz * u.cores * u.flop_per_cycle), p.cycles / full_hz, 1e-2);
    near(u.kappa * pow(u.f_max_hz, 3) + p.idle_w, p.kappa * pow(full_hz, 3), 1e-2);
    near(u.idle_w, p.idle_w + p.tail_w, 1e-2);
    near(u.up_bit / (u.bandwidth_max_hz * u.up_bps_per_hz), p.up_s, 1e-2);
    near(u.down_bit / u.down_bps, p.down_s, 1e-2);
    near(u.p_max_w, p.send_w, 1e-2);
    near(u.rx_w, p.receive_w, 1e-2);
    near(u.soc, 0.8, 1e-9);
    near(u.samples, 7, 0);
    near(u.deadline_s, 3, 0);
    assert_int_equal(u.max_layers, 11);
}

static void beat__clocks_seen(void **state)
{
    static const double hz[] = {2e9, 1.5e9, 1e9};
    struct sl_plan_profile profile = {0};
    struct sl_profile_fit f;
    struct phone p = known();
    (void)state;

    for (unsigned i = 0; i < 12; i++) {
        p.hz = hz[i % 3];
        run(&profile, &p, 4);
    }
    sl_profile_fit(&profile, &work, &f);
    near(f.layer_cycles, p.cycles, 1e-2);
    near(f.kappa, p.kappa, 1e-2);
}

static void beat__throttled_midway(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_profile_fit f;
    struct phone p = known();
    (void)state;

    run(&profile, &p, 100);
    p.hz = full_hz / 2;
    run(&profile, &p, 60);
    check_prediction(&profile, &p, 1e-2);
    sl_profile_fit(&profile, &work, &f);
    near(f.ceiling_hz, p.hz, 2e-2);
}

static void beat__clock_that_the_plan_holds_down(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_profile_fit f;
    struct phone p = known();
    (void)state;

    run(&profile, &p, 20);
    p.cap_hz = p.hz = full_hz / 2;
    run(&profile, &p, 60);
    sl_profile_fit(&profile, &work, &f);
    near(f.ceiling_hz, full_hz, 2e-2); /* it could have more */
    check_prediction(&profile, &p, 1e-2);
}

static void beat__link_that_the_plan_paces(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_profile_fit f;
    struct sl_plan_user u = {0};
    struct phone p = known();
    (void)state;

    run(&profile, &p, 20);
    p.beat.rate_cap_bps = 2.5e6;
    p.up_s = 3.2;
    p.send_w = 0.5; /* the radio sends a quarter of that time */
    run(&profile, &p, 80);
    check_prediction(&profile, &p, 1e-2);
    sl_profile_fit(&profile, &work, &f);
    near(f.up_s, p.up_s, 1e-2);
    sl_profile_user(&profile, &work, &u);
    near(u.bandwidth_max_hz, 1e7, 1e-2); /* it could have more */
    near(u.p_max_w * u.up_bit / u.bandwidth_max_hz, 1.6, 1e-2);
}

/* The joules are of all that went over the air, the adapter of the phone's layers too. */
static void user__adapters_have_their_part_of_the_radio(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_profile_work more = work;
    struct sl_plan_user plain = {0}, u = {0};
    struct phone p = known();
    (void)state;

    run(&profile, &p, 20);
    more.layer_up_bit = more.layer_down_bit = 0.5 * work.up_bit;
    sl_profile_user(&profile, &work, &plain);
    sl_profile_user(&profile, &more, &u);
    near(u.layer_up_bit, 4e6, 1e-12);
    near(u.layer_down_bit, 4e6, 1e-12);
    near(plain.p_max_w / u.p_max_w, 1 + p.beat.cut * 0.5, 1e-12);
    near(plain.rx_w / u.rx_w, 1 + p.beat.cut * 0.5 * work.up_bit / work.down_bit, 1e-12);
    near(u.up_bit, plain.up_bit, 1e-12);
}

static void beat__changed_cut(void **state)
{
    struct sl_plan_profile profile = {0};
    struct phone p = known();
    (void)state;

    run(&profile, &p, 20);
    p.cut = 7;
    check_prediction(&profile, &p, 1e-2);
    p.cut = 4;
    step(&p);
    p.beat.cut = p.cut =
        7; /* the edge knows already, the phone's last step was still at the old one: not believed */
    sl_profile_beat(&profile, &p.beat);
    check_prediction(&profile, &p, 1e-2);
    run(&profile, &p, 20);
    check_prediction(&profile, &p, 1e-2);
}

/* Every number of a beat, one at a time and all together, in every absurd way. */
static void beat__garbage(void **state)
{
    static const double absurd[] = {NAN, INFINITY, -INFINITY, -1, 1e300, 1e14, 0, 5e-324};
    struct sl_plan_profile profile = {0};
    struct phone p = known();
    (void)state;

    run(&profile, &p, 20);
    for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
        static const size_t field[] = {offsetof(struct sl_plan_beat, computed_s),
            offsetof(struct sl_plan_beat, turn_s), offsetof(struct sl_plan_beat, held_s),
            offsetof(struct sl_plan_beat, energy_compute_j), offsetof(struct sl_plan_beat, energy_send_j),
            offsetof(struct sl_plan_beat, energy_receive_j), offsetof(struct sl_plan_beat, energy_tail_j),
            offsetof(struct sl_plan_beat, energy_idle_j), offsetof(struct sl_plan_beat, energy_promotion_j)};
        for (size_t k = 0; k < sizeof(field) / sizeof(field[0]); k++) {
            struct sl_plan_beat bad = p.beat;
            memcpy((char *)&bad + field[k], &absurd[i], sizeof(double));
            if (absurd[i] == 0 || absurd[i] == 5e-324)
                bad.energy_send_j = bad.energy_promotion_j = 0; /* one of those was 0 all along */
            bad.at_s += 0.01;
            sl_profile_beat(&profile, &bad);
            run(&profile, &p, 1);
            check_prediction(&profile, &p, 1e-2);
        }
    }
    assert_true(profile.refused >= 60);
}

/* What is told besides sums: no number, infinite, negative or beyond anything. */
static void beat__garbage_beside_the_sums(void **state)
{
    static const double absurd[] = {NAN, INFINITY, -INFINITY, -1, 1e300, 1e14, 5e-324};
    static const size_t field[] = {offsetof(struct sl_plan_beat, rate_up_bps),
        offsetof(struct sl_plan_beat, rate_down_bps), offsetof(struct sl_plan_beat, rtt_s),
        offsetof(struct sl_plan_beat, clock_hz), offsetof(struct sl_plan_beat, clock_max_hz),
        offsetof(struct sl_plan_beat, step_computed_s), offsetof(struct sl_plan_beat, at_s),
        offsetof(struct sl_plan_beat, computed_s), offsetof(struct sl_plan_beat, energy_compute_j)};
    struct sl_plan_profile profile = {0};
    struct sl_profile_fit f;
    struct phone p = known();
    (void)state;

    run(&profile, &p, 20);
    for (size_t i = 0; i < sizeof(absurd) / sizeof(absurd[0]); i++) {
        for (size_t k = 0; k < sizeof(field) / sizeof(field[0]); k++) {
            struct sl_plan_beat bad = p.beat;
            memcpy((char *)&bad + field[k], &absurd[i], sizeof(double));
            sl_profile_beat(&profile, &bad);
            run(&profile, &p, 1);
        }
    }
    run(&profile, &p, 80);
    sl_profile_fit(&profile, &work, &f);
    near(f.kappa, p.kappa, 1e-2);
    near(f.layer_cycles, p.cycles, 1e-2);
    near(f.ceiling_hz, p.hz, 1e-2);
    near(f.clock_hz, p.hz, 1e-2);
    near(f.up_s, p.up_s, 1e-2);
    near(f.rtt_s, p.rtt_s, 1e-2);
    check_prediction(&profile, &p, 1e-2);
}

static void beat__all_garbage(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_plan_user u = {0};
    double s, j;
    uint64_t x = 88172645463325252u;
    (void)state;

    for (unsigned i = 0; i < 200000; i++) {
        struct sl_plan_beat b;
        double *d = (double *)&b;
        for (size_t k = 0; k < sizeof(b) / sizeof(double); k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            /* Every fourth of them any bits at all, the others numbers that pass for some. */
            if (i % 4 == 0)
                memcpy(&d[k], &x, sizeof(x));
            else
                d[k] = ldexp((double)(x >> 11), -(int)(x % 60) - 20);
        }
        b.steps = i % 3 ? x % 1000000 : i;
        b.cut = (uint32_t)(x >> 40) % 12;
        sl_profile_beat(&profile, &b);
        if (i % 10 == 9)
            sl_profile_rest(&profile);
        sl_profile_predict(&profile, &work, 5, &s, &j);
        sl_profile_user(&profile, &work, &u);
        assert_true(isfinite(s) && s >= 0 && isfinite(j) && j >= 0);
        assert_true(isfinite(u.f_max_hz) && isfinite(u.flop_per_cycle) && isfinite(u.kappa) && u.kappa >= 0);
        assert_true(
            isfinite(u.p_max_w) && isfinite(u.rx_w) && isfinite(u.bandwidth_max_hz) && isfinite(u.down_bps));
    }
}

static void beat__one_that_jumps_back_alone(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_plan_beat zeros = {0};
    struct phone p = known();
    (void)state;

    run(&profile, &p, 20);
    zeros.cut = 4;
    zeros.at_s = p.beat.at_s + 0.1;
    sl_profile_beat(&profile, &zeros);
    run(&profile, &p, 5);
    check_prediction(&profile, &p, 1e-2);
    assert_int_equal(profile.steps, 23);
}

static void beat__device_began_anew(void **state)
{
    struct sl_plan_profile profile = {0};
    struct phone p = known(), q = known();
    (void)state;

    run(&profile, &p, 20);
    q.beat.at_s = p.beat.at_s + 30;
    q.hz = full_hz / 2;
    q.wait_s = 0.1;
    run(&profile, &q, 80);
    check_prediction(&profile, &q, 1e-2);
    assert_int_equal(profile.refused, 2);
}

static void rest__time_away_is_no_step(void **state)
{
    struct sl_plan_profile profile = {0};
    struct phone p = known();
    (void)state;

    run(&profile, &p, 20);
    p.beat.at_s += 1000;
    sl_profile_rest(&profile);
    run(&profile, &p, 5);
    check_prediction(&profile, &p, 1e-2);
}

static void beat__nothing_costs_anything(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_plan_user u = {0};
    struct sl_plan_beat b = {.cut = 1};
    double s, j;
    (void)state;

    for (unsigned i = 0; i < 10; i++) {
        b.steps++;
        sl_profile_beat(&profile, &b);
    }
    sl_profile_predict(&profile, &work, 1, &s, &j);
    assert_true(s == 0 && j == 0); /* not ready: no computing seen */
    for (unsigned i = 0; i < 10; i++) {
        b.steps++;
        b.at_s++;
        b.computed_s++;
        sl_profile_beat(&profile, &b);
    }
    sl_profile_user(&profile, &work, &u);
    near(work.layer_flop / (u.f_max_hz * u.flop_per_cycle), 1, 1e-2);
    assert_true(u.p_max_w > 0 && u.down_bps > 0 && isfinite(u.down_bps) && isfinite(u.bandwidth_max_hz));
}

/* Windows of a known phone, its cut changed on the way: what was foretold is what came, the first time at the
 * new cut too. */
static void forecast__known_phone(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_forecast forecast = {0};
    struct sl_forecast_result r;
    struct phone p = known();
    unsigned windows = 0, new_cuts = 0;
    (void)state;

    for (unsigned i = 0; i < 60; i++) {
        p.cut = i < 30 ? 4 : 7;
        run(&profile, &p, 1);
        if (!sl_forecast_beat(&forecast, &profile, &work, &r))
            continue;
        windows++;
        new_cuts += r.changed;
        assert_int_equal(r.cut, p.cut);
        assert_int_equal(r.steps, SL_FORECAST_STEPS);
        near(r.measured_s, step_s(&p), 1e-9);
        near(r.measured_j, step_j(&p), 1e-9);
        near(r.predicted_s, r.measured_s, 1e-2);
        near(r.predicted_j, r.measured_j, 1e-2);
    }
    assert_int_equal(windows, 6); /* of 8 steps: three from step 3 to 30, three from there on */
    assert_int_equal(new_cuts, 1);
}

/* A phone that has halved its clock since the prediction: the error is seen. */
static void forecast__slower_than_foretold(void **state)
{
    struct sl_plan_profile profile = {0};
    struct sl_forecast forecast = {0};
    struct sl_forecast_result r;
    struct phone p = known();
    double before;
    (void)state;

    for (unsigned i = 0; i < 4; i++) { /* the window has begun */
        run(&profile, &p, 1);
        sl_forecast_beat(&forecast, &profile, &work, &r);
    }
    before = step_s(&p);
    p.hz /= 2;
    do
        run(&profile, &p, 1);
    while (!sl_forecast_beat(&forecast, &profile, &work, &r));
    near(r.predicted_s, before, 1e-2);
    assert_true(r.measured_s > 1.1 * before);
}

static void gang__speed(void **state)
{
    struct sl_profile_edge e = {0};
    (void)state;

    assert_true(sl_profile_edge_flops(&e) == 0);
    sl_profile_gang(&e, NAN, 1);
    sl_profile_gang(&e, 1e9, 0);
    sl_profile_gang(&e, 1e9, -1);
    assert_true(sl_profile_edge_flops(&e) == 0);
    for (unsigned i = 0; i < 5; i++)
        sl_profile_gang(&e, 3e9, 0.1);
    near(sl_profile_edge_flops(&e), 3e10, 1e-9);
    for (unsigned i = 0; i < 200; i++)
        sl_profile_gang(&e, 3e9, 0.2);
    near(sl_profile_edge_flops(&e), 1.5e10, 1e-2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(beat__known_phone),
        cmocka_unit_test(beat__fields_of_a_user),
        cmocka_unit_test(beat__clocks_seen),
        cmocka_unit_test(beat__throttled_midway),
        cmocka_unit_test(beat__clock_that_the_plan_holds_down),
        cmocka_unit_test(beat__link_that_the_plan_paces),
        cmocka_unit_test(user__adapters_have_their_part_of_the_radio),
        cmocka_unit_test(beat__changed_cut),
        cmocka_unit_test(beat__garbage),
        cmocka_unit_test(beat__garbage_beside_the_sums),
        cmocka_unit_test(beat__all_garbage),
        cmocka_unit_test(beat__one_that_jumps_back_alone),
        cmocka_unit_test(beat__device_began_anew),
        cmocka_unit_test(rest__time_away_is_no_step),
        cmocka_unit_test(beat__nothing_costs_anything),
        cmocka_unit_test(forecast__known_phone),
        cmocka_unit_test(forecast__slower_than_foretold),
        cmocka_unit_test(gang__speed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
