/* DVFS steps: kappa f^3 fitted to the class's power, speed in proportion to the clock. */
#include "device-sim/body/clock.h"

#include "tests/wire/test.h"

#include <math.h>

static const struct sl_clock phone = {.n_steps = 3, .hz = {0.75e9, 1.5e9, 3e9}, .flops = 8e9};

static void assert_near(double a, double b)
{
    assert_true(fabs(a - b) <= 1e-12 * fabs(b));
}

static void kappa__is_fitted_at_the_full_clock(void **state)
{
    /* 4 W at 3 GHz: 4 / 27e27 W/Hz^3 (rules P6) */
    assert_near(sl_clock_kappa(4, 3e9), 4.0 / 27e27);
    assert_near(sl_clock_kappa(4, 3e9), 1.4814814814814815e-28);
}

static void cubic__half_the_clock_draws_an_eighth(void **state)
{
    struct sl_clock c = phone;

    sl_clock_cubic(&c, sl_clock_kappa(4, 3e9));
    assert_near(c.power_w[2], 4);
    assert_near(c.power_w[1], 0.5);
    assert_near(c.power_w[0], 0.0625);
}

static void flops__follow_the_clock(void **state)
{
    assert_near(sl_clock_flops(&phone, 2), 8e9);
    assert_near(sl_clock_flops(&phone, 1), 4e9);
    assert_near(sl_clock_flops(&phone, 0), 2e9);
}

/* The paper's energy of a job, kappa f^2 cycles: at half the clock a quarter. */
static void cubic__energy_of_a_job_falls_with_the_square(void **state)
{
    struct sl_clock c = phone;
    double joules[3];

    sl_clock_cubic(&c, sl_clock_kappa(4, 3e9));
    for (uint32_t i = 0; i < 3; i++)
        joules[i] = c.power_w[i] * 1e10 / sl_clock_flops(&c, i);
    assert_near(joules[2] / joules[1], 4);
    assert_near(joules[1] / joules[0], 4);
}

static void step_below__is_the_highest_not_above(void **state)
{
    assert_int_equal(sl_clock_step_below(&phone, 0), 2);
    assert_int_equal(sl_clock_step_below(&phone, 4e9), 2);
    assert_int_equal(sl_clock_step_below(&phone, 3e9), 2);
    assert_int_equal(sl_clock_step_below(&phone, 2.99e9), 1);
    assert_int_equal(sl_clock_step_below(&phone, 1.5e9), 1);
    assert_int_equal(sl_clock_step_below(&phone, 0.8e9), 0);
    assert_int_equal(sl_clock_step_below(&phone, 1), 0); /* a governor has nothing lower */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kappa__is_fitted_at_the_full_clock),
        cmocka_unit_test(cubic__half_the_clock_draws_an_eighth),
        cmocka_unit_test(flops__follow_the_clock),
        cmocka_unit_test(step_below__is_the_highest_not_above),
        cmocka_unit_test(cubic__energy_of_a_job_falls_with_the_square),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
