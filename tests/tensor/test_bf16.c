#include "tests/tensor/twin.h"
#include "trainer/tensor/bf16.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

/* By definition: the nearer of the two neighbours, the even one of equals. */
static sl_bf16 nearest(float x)
{
    float down, up;
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t low = bits & 0xFFFF0000u, high = low + 0x10000u;
    memcpy(&down, &low, sizeof down);
    memcpy(&up, &high, sizeof up);
    double below = fabs((double)x - down), above = fabs((double)up - x);
    bool take_up = above < below || (above == below && (high >> 16 & 1) == 0);
    return (sl_bf16)((take_up ? high : low) >> 16);
}

static void bf16_round__takes_the_nearest_ties_to_even(void **state)
{
    static const float ties[] = {1.00390625f, 1.01171875f, -1.00390625f, 3.0f, 0.0f, -0.0f, 1e-30f, 65280.0f};
    for (unsigned i = 0; i < sizeof ties / sizeof *ties; i++)
        assert_int_equal(sl_bf16_round(ties[i]), nearest(ties[i]));
    float *x = twin_data("x", 10000, 100);
    for (unsigned i = 0; i < 10000; i++)
        assert_int_equal(sl_bf16_round(x[i]), nearest(x[i]));
    free(x);
    assert_true(isinf(sl_bf16_widen(sl_bf16_round(INFINITY))));
    assert_true(isinf(sl_bf16_widen(sl_bf16_round(3.4e38f))));
    uint32_t low_nan = 0x7F800001u; /* its payload lies in the half that is cut off */
    float nan_value;
    memcpy(&nan_value, &low_nan, sizeof nan_value);
    assert_true(isnan(sl_bf16_widen(sl_bf16_round(nan_value))));
}

static void bf16_arrays__agree_with_single_values(void **state)
{
    enum { MOST = 131 };
    float *x = twin_data("x", MOST, 10), back[MOST + 1];
    sl_bf16 y[MOST + 1];
    x[5] = INFINITY;
    for (unsigned n = 0; n <= MOST; n++) {
        y[n] = 0x1234;
        back[n] = 7;
        sl_bf16_from_f32(x, n, y);
        sl_bf16_to_f32(y, n, back);
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(y[i], sl_bf16_round(x[i]));
            assert_true(back[i] == sl_bf16_widen(y[i]));
        }
        assert_int_equal(y[n], 0x1234);
        assert_true(back[n] == 7);
    }
    free(x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_round__takes_the_nearest_ties_to_even),
        cmocka_unit_test(bf16_arrays__agree_with_single_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
