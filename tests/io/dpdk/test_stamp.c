/* Stamps of received packets: made-up mbufs, and a clock that is ours. */
#include "dataplane/io/dpdk/stamp.h"
#include "dataplane/io/lcore/clock.h"

#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

/* Where DPDK would put the field: dynamic room, aligned as a stamp has to be. */
enum { BURST = 4, FLAG = 1, FIELD = (offsetof(struct rte_mbuf, dynfield1) + 7) / 8 * 8 };
static const uint64_t ms = 1000000;

/* A NIC whose counter is our clock, two seconds of readings old. */
static struct sl_stamps stamps(void)
{
    struct sl_stamps s = {.on = true, .offset = FIELD, .flag = FLAG};
    uint64_t now = sl_clock_ns();
    sl_nic_clock_read(&s.clock, now - 2000 * ms, now - 2000 * ms, now - 2000 * ms);
    sl_nic_clock_read(&s.clock, now, now, now);
    return s;
}

static uint64_t total(const struct sl_port_stats *stats)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < SL_PORT_WAIT_BUCKETS; i++)
        n += stats->rx_wait[i];
    return n;
}

static void count__by_the_time_since_the_stamp(void **state)
{
    struct sl_stamps s = stamps();
    static struct rte_mbuf m[BURST];
    struct rte_mbuf *burst[BURST];
    struct sl_port_stats stats = {0};
    const uint64_t ago[BURST] = {1 * ms, 1000 * ms, 0, 0};
    for (unsigned i = 0; i < BURST; i++) {
        burst[i] = &m[i];
        m[i].ol_flags = i == 3 ? 0 : FLAG; /* the last has no stamp */
        *RTE_MBUF_DYNFIELD(&m[i], s.offset, rte_mbuf_timestamp_t *) = sl_clock_ns() - ago[i];
    }
    *RTE_MBUF_DYNFIELD(&m[2], s.offset, rte_mbuf_timestamp_t *) =
        sl_clock_ns() + 500 * ms; /* its clock is ahead */
    sl_stamps_count(&s, burst, BURST, &stats);
    assert_int_equal(total(&stats), 3);
    assert_int_equal(stats.rx_wait[0], 1);
    assert_true(sl_port_wait_quantile(stats.rx_wait, 0.5) > 1 * ms);
    assert_true(sl_port_wait_quantile(stats.rx_wait, 1.0) > 1000 * ms);
}

static void count__not_before_the_clock_is_known(void **state)
{
    struct sl_stamps s = stamps();
    struct rte_mbuf m = {.ol_flags = FLAG}, *burst[1] = {&m};
    struct sl_port_stats stats = {0};
    memset(&s.clock, 0, sizeof(s.clock));
    sl_stamps_count(&s, burst, 1, &stats);
    assert_int_equal(total(&stats), 0);
    assert_int_equal(sl_port_wait_quantile(stats.rx_wait, 0.5), 0);
}

static void offered__by_the_driver(void **state)
{
    assert_true(sl_stamps_offered(RTE_ETH_RX_OFFLOAD_TIMESTAMP | RTE_ETH_RX_OFFLOAD_VLAN_STRIP));
    assert_false(sl_stamps_offered(RTE_ETH_RX_OFFLOAD_VLAN_STRIP));
}

static void wait_bucket__bounds(void **state)
{
    for (uint64_t ns = 0; ns < 5000; ns++) {
        unsigned b = sl_port_wait_bucket(ns);
        assert_true(ns < UINT64_C(1) << b && (b == 0 || ns >= UINT64_C(1) << (b - 1)));
    }
    assert_int_equal(sl_port_wait_bucket(UINT64_MAX), SL_PORT_WAIT_BUCKETS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(count__by_the_time_since_the_stamp),
        cmocka_unit_test(count__not_before_the_clock_is_known),
        cmocka_unit_test(offered__by_the_driver),
        cmocka_unit_test(wait_bucket__bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
