/* What a phone takes of a Plan's bounds: an edge may be broken or hostile. */
#include "device-sim/device/bounds.h"

#include "tests/wire/test.h"

#include <math.h>

static void bounds__that_make_sense_are_taken(void **state)
{
    Sluice__Plan plan = SLUICE__PLAN__INIT;
    struct sl_phone_bounds b;

    plan.clock_hz = 1.5e9;
    plan.power_w = 0.1;
    plan.rate_up_bps = 5e6;
    assert_null(sl_phone_bounds_of(&plan, &b));
    assert_true(b.clock_hz == 1.5e9 && b.power_w == 0.1 && b.rate_up_bps == 5e6);
}

static void bounds__that_are_not_there_bound_nothing(void **state)
{
    Sluice__Plan plan = SLUICE__PLAN__INIT;
    struct sl_phone_bounds b = {1, 2, 3};

    assert_null(sl_phone_bounds_of(&plan, &b));
    assert_true(b.clock_hz == 0 && b.power_w == 0 && b.rate_up_bps == 0);
}

static void bounds__nonsense_is_left_out_by_name(void **state)
{
    static const double nonsense[] = {NAN, INFINITY, -INFINITY, -1, 1e-300, 1e300, 5e-324};
    struct sl_phone_bounds b;

    for (unsigned i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        Sluice__Plan plan = SLUICE__PLAN__INIT;
        plan.clock_hz = nonsense[i];
        plan.power_w = 0.1;
        plan.rate_up_bps = 5e6;
        assert_string_equal(sl_phone_bounds_of(&plan, &b), "clock_hz");
        assert_true(b.clock_hz == 0 && b.power_w == 0.1 && b.rate_up_bps == 5e6);
        plan.clock_hz = 1e9;
        plan.power_w = nonsense[i];
        assert_string_equal(sl_phone_bounds_of(&plan, &b), "power_w");
        assert_true(b.clock_hz == 1e9 && b.power_w == 0 && b.rate_up_bps == 5e6);
        plan.power_w = 0.1;
        plan.rate_up_bps = nonsense[i];
        assert_string_equal(sl_phone_bounds_of(&plan, &b), "rate_up_bps");
        assert_true(b.power_w == 0.1 && b.rate_up_bps == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds__that_make_sense_are_taken),
        cmocka_unit_test(bounds__that_are_not_there_bound_nothing),
        cmocka_unit_test(bounds__nonsense_is_left_out_by_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
