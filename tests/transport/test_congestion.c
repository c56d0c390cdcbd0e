#include "dataplane/transport/congestion.h"
#include "tests/transport/model.h"

static void sl_cc_can_send__fixed_window(void **state)
{
    struct sl_cc cc;
    sl_cc_init(&cc, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(sl_cc_can_send(&cc));
        sl_cc_on_sent(&cc, 1000, i);
    }
    assert_false(sl_cc_can_send(&cc));
    sl_cc_on_sent(&cc, 500, 9); /* a probe does not ask */
    sl_cc_on_ack(&cc, 1, 1000, NULL, 10);
    assert_false(sl_cc_can_send(&cc));
    sl_cc_on_loss(&cc, 2, 2000, 2, 11);
    assert_true(sl_cc_can_send(&cc));
    assert_int_equal(cc.in_flight_packets, 1);
    assert_int_equal(cc.in_flight_bytes, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(sl_cc_can_send__fixed_window)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
