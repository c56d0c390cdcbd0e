/* Heat: the closed form of one RC node against small Euler steps, and the governor's rule. */
#include "device-sim/body/thermal.h"

#include "tests/wire/test.h"

#include <math.h>

static const struct sl_thermal phone = {
    .ambient_c = 25, .resistance_c_w = 8, .capacity_j_c = 120, .throttle_c = 43, .release_c = 41};

static void after__is_the_step_response(void **state)
{
    /* One time constant, R C = 960 s, under 4 W from ambient: 63.2 % of the way to 25 + 32. */
    assert_true(fabs(sl_thermal_after(&phone, 25, 4, 960) - (25 + 32 * (1 - exp(-1)))) < 1e-12);
    assert_true(fabs(sl_thermal_after(&phone, 25, 4, 0) - 25) < 1e-12);
    assert_true(fabs(sl_thermal_after(&phone, 25, 4, 1e6) - 57) < 1e-9);
    assert_true(fabs(sl_thermal_settled(&phone, 4) - 57) < 1e-12);
}

static void after__agrees_with_the_differential_equation(void **state)
{
    const double dt = 1e-3;
    double t = 31;

    for (int i = 0; i < 600000; i++)
        t += dt / phone.capacity_j_c * (2.5 - (t - phone.ambient_c) / phone.resistance_c_w);
    assert_true(fabs(sl_thermal_after(&phone, 31, 2.5, 600) - t) < 1e-4);
}

static void after__composes(void **state)
{
    double once = sl_thermal_after(&phone, 30, 3, 500);
    double twice = sl_thermal_after(&phone, sl_thermal_after(&phone, 30, 3, 123), 3, 377);

    assert_true(fabs(once - twice) < 1e-12);
}

static void step__goes_down_only_while_it_rises(void **state)
{
    assert_int_equal(sl_thermal_step(&phone, 3, 3, 42.9, 4), 3);
    assert_int_equal(sl_thermal_step(&phone, 3, 3, 43, 4), 2);
    assert_int_equal(sl_thermal_step(&phone, 3, 3, 44, 2), 3); /* settles at 41: it cools by itself */
    assert_int_equal(sl_thermal_step(&phone, 0, 3, 50, 4), 0);
}

static void step__goes_up_at_the_release_temperature(void **state)
{
    assert_int_equal(sl_thermal_step(&phone, 1, 3, 42, 0.5), 1);
    assert_int_equal(sl_thermal_step(&phone, 1, 3, 41, 0.5), 2);
    assert_int_equal(sl_thermal_step(&phone, 3, 3, 30, 0.5), 3);
}

/* Quiet is what a governor that looks for two hours does not change; and the other way round. */
static void quiet__is_what_no_look_changes(void **state)
{
    for (double from = 25; from <= 60; from += 1.5) {
        for (double power = 0.25; power <= 5; power += 0.5) {
            for (uint32_t step = 0; step < 4; step++) {
                bool moved = false;
                for (int s = 1; s <= 7200 && !moved; s++)
                    moved = sl_thermal_step(
                                &phone, step, 3, sl_thermal_after(&phone, from, power, s), power) != step;
                if (sl_thermal_quiet(&phone, step, 3, from, power))
                    assert_false(moved);
                else
                    assert_true(moved || fabs(sl_thermal_settled(&phone, power) - phone.throttle_c) < 0.1 ||
                                fabs(sl_thermal_settled(&phone, power) - phone.release_c) < 0.1);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after__is_the_step_response),
        cmocka_unit_test(after__agrees_with_the_differential_equation),
        cmocka_unit_test(after__composes),
        cmocka_unit_test(step__goes_down_only_while_it_rises),
        cmocka_unit_test(step__goes_up_at_the_release_temperature),
        cmocka_unit_test(quiet__is_what_no_look_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
