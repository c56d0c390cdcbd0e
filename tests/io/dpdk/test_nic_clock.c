/* The NIC's clock against one whose rate and offset are known. */
#include "dataplane/io/dpdk/nic_clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static const uint64_t ms = 1000000, start = UINT64_C(5000000000000);

/* 312.5 MHz and a little fast, started long before. */
static uint64_t counter(uint64_t ns)
{
    return (uint64_t)((double)(ns - start) * 0.3125 * 1.00002) + UINT64_C(0xfffffffff0000000);
}

static void ns__before_two_readings(void **state)
{
    struct sl_nic_clock c = {0};
    assert_int_equal(sl_nic_clock_ns(&c, 5), 0);
    sl_nic_clock_read(&c, counter(start), start, start + 1000);
    assert_int_equal(sl_nic_clock_ns(&c, counter(start)), 0);
    sl_nic_clock_read(&c, counter(start + 500 * ms), start + 500 * ms, start + 500 * ms); /* too soon */
    assert_int_equal(sl_nic_clock_ns(&c, counter(start)), 0);
}

/* Readings are off by up to 25 us; the line's error at its end stays near that. The counter wraps on the way.
 */
static void ns__follows_the_counter(void **state)
{
    struct sl_nic_clock c = {0};
    unsigned seed = 7;
    for (uint64_t t = start; t < start + 60000 * ms; t += 100 * ms) {
        uint64_t took = (uint64_t)rand_r(&seed) % 50000, at = (uint64_t)rand_r(&seed) % (took + 1);
        sl_nic_clock_read(&c, counter(t + at), t, t + took);
        if (t < start + 2000 * ms)
            continue;
        uint64_t then = t + 50 * ms, told = sl_nic_clock_ns(&c, counter(then));
        assert_true(llabs((long long)(told - then)) < 30000);
        then = t - 40 * ms; /* a packet that lay in the ring */
        told = sl_nic_clock_ns(&c, counter(then));
        assert_true(llabs((long long)(told - then)) < 30000);
    }
}

static void read__slow_ones_are_left_out(void **state)
{
    struct sl_nic_clock c = {0};
    for (uint64_t t = start; t < start + 5000 * ms; t += 100 * ms)
        sl_nic_clock_read(&c, counter(t), t, t + 50001);
    assert_int_equal(sl_nic_clock_ns(&c, counter(start)), 0);
}

static void read__counter_set_back(void **state)
{
    struct sl_nic_clock c = {0};
    uint64_t t = start;
    for (; t < start + 3000 * ms; t += 100 * ms)
        sl_nic_clock_read(&c, counter(t), t, t);
    assert_int_not_equal(sl_nic_clock_ns(&c, counter(t)), 0);
    sl_nic_clock_read(&c, counter(start), t, t);
    assert_int_equal(sl_nic_clock_ns(&c, counter(start)), 0);
    for (uint64_t back = t - start; t < start + 6000 * ms; t += 100 * ms)
        sl_nic_clock_read(&c, counter(t - back), t, t);
    assert_true(
        llabs((long long)(sl_nic_clock_ns(&c, counter(start + 2950 * ms)) - (start + 5950 * ms))) < 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ns__before_two_readings),
        cmocka_unit_test(ns__follows_the_counter),
        cmocka_unit_test(read__slow_ones_are_left_out),
        cmocka_unit_test(read__counter_set_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
