/* The energy account: powers times times, causes that add up, a battery that empties. */
#include "device-sim/device/energy.h"

#include "tests/wire/test.h"

#include <math.h>

static const struct sl_power phone = {.compute_w = 4,
    .radio_tx_w = 1.2,
    .radio_rx_w = 0.8,
    .idle_w = 0.3,
    .battery_mah = 4500,
    .battery_v = 3.85,
    .battery_start = 1};

static void account__causes_add_up(void **state)
{
    struct sl_activity a = {.compute_s = 10, .tx_s = 5, .rx_s = 2.5, .awake_s = 60};
    struct sl_energy e;

    sl_energy_account(&phone, &a, &e);
    assert_true(fabs(e.compute_j - 40) < 1e-12);
    assert_true(fabs(e.tx_j - 6) < 1e-12);
    assert_true(fabs(e.rx_j - 2) < 1e-12);
    assert_true(fabs(e.idle_j - 0.3 * 42.5) < 1e-12);
    assert_true(fabs(e.total_j - (e.compute_j + e.tx_j + e.rx_j + e.idle_j)) < 1e-12);
    /* 4500 mAh at 3.85 V: 4.5 Ah * 3600 s/h * 3.85 V = 62,370 J */
    assert_true(fabs(e.battery - (1 - e.total_j / 62370)) < 1e-12);
}

static void account__nothing_done_is_idle(void **state)
{
    struct sl_activity a = {.awake_s = 100};
    struct sl_energy e;

    sl_energy_account(&phone, &a, &e);
    assert_true(e.total_j == e.idle_j && fabs(e.idle_j - 30) < 1e-12);
}

static void account__overlap_is_no_negative_idle(void **state)
{
    struct sl_activity a = {.compute_s = 6, .tx_s = 5, .rx_s = 5, .awake_s = 10};
    struct sl_energy e;

    sl_energy_account(&phone, &a, &e);
    assert_true(e.idle_j == 0);
}

static void account__battery_stops_at_empty(void **state)
{
    struct sl_activity a = {.compute_s = 1e6, .awake_s = 1e6};
    struct sl_energy e;

    sl_energy_account(&phone, &a, &e);
    assert_true(e.battery == 0);
    assert_true(e.total_j > 62370);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(account__causes_add_up),
        cmocka_unit_test(account__nothing_done_is_idle),
        cmocka_unit_test(account__overlap_is_no_negative_idle),
        cmocka_unit_test(account__battery_stops_at_empty),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
