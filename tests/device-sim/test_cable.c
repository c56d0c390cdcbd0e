/* The cable of virtual time: order, counts, buffers. */
#include "device-sim/virtual/cable.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct sl_queue *end_of(struct sl_cable *c, unsigned end)
{
    return sl_port_queue(sl_cable_port(c, end), 0);
}

static void tx__arrives_at_the_other_end_in_order(void **state)
{
    struct sl_cable *c;
    struct sl_dgram d[8], got[8];
    struct sl_port_stats stats;

    assert_int_equal(sl_cable_create(1500, 512, &c), 0);
    struct sl_queue *phones = end_of(c, SL_CABLE_PHONES), *edge = end_of(c, SL_CABLE_EDGE);
    assert_int_equal(sl_queue_alloc(phones, d, 8), 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_true(d[i].len >= 1500);
        memset(d[i].data, (int)i, 100);
        d[i].len = (uint16_t)(100 + i);
    }
    assert_int_equal(sl_queue_tx(phones, d, 8), 8);
    assert_int_equal(sl_queue_rx(phones, got, 8), 0); /* not its own */
    assert_int_equal(sl_queue_rx(edge, got, 3), 3);
    assert_int_equal(sl_queue_rx(edge, got + 3, 8), 5);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(got[i].len, 100 + i);
        assert_int_equal(got[i].data[99], i);
    }
    sl_queue_free(edge, got, 8);
    sl_port_stats(sl_cable_port(c, SL_CABLE_EDGE), &stats);
    assert_int_equal(stats.rx_packets, 8);
    assert_int_equal(stats.rx_bytes, 8 * 100 + 28);
    assert_int_equal(stats.tx_packets, 0);
    sl_cable_free(c);
}

static void alloc__buffers_come_back_from_the_other_end(void **state)
{
    struct sl_cable *c;
    struct sl_dgram d[64], got[64];
    struct sl_port_stats stats;

    assert_int_equal(sl_cable_create(1500, 256, &c), 0);
    struct sl_queue *phones = end_of(c, SL_CABLE_PHONES), *edge = end_of(c, SL_CABLE_EDGE);
    for (unsigned round = 0; round < 100; round++) {
        for (unsigned i = 0; i < 4; i++) { /* all that there are */
            assert_int_equal(sl_queue_alloc(phones, d, 64), 64);
            assert_int_equal(sl_queue_tx(phones, d, 64), 64);
        }
        assert_int_equal(sl_queue_alloc(phones, d, 1), 0);
        for (unsigned i = 0; i < 4; i++) {
            assert_int_equal(sl_queue_rx(edge, got, 64), 64);
            sl_queue_free(edge, got, 64);
        }
        assert_int_equal(sl_queue_rx(edge, got, 1), 0);
    }
    sl_port_stats(sl_cable_port(c, SL_CABLE_PHONES), &stats);
    assert_int_equal(stats.drops[SL_PORT_NO_BUFFER], 100);
    assert_int_equal(stats.tx_packets, 100 * 256);
    sl_cable_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tx__arrives_at_the_other_end_in_order),
        cmocka_unit_test(alloc__buffers_come_back_from_the_other_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
