#include "dataplane/io/dpdk/neighbour.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sl_neighbours t;

static uint64_t who(uint32_t n)
{
    uint8_t mac[6] = {2, 0, (uint8_t)(n >> 24), (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n};
    return sl_neighbour(mac, 0);
}

static int begin(void **state)
{
    sl_neighbours_init(&t, UINT64_C(0x123456789abcdef0));
    return 0;
}

static void put__found_again(void **state)
{
    uint16_t hop[100];
    for (uint32_t i = 0; i < 100; i++) {
        hop[i] = sl_neighbours_put(&t, who(i), 1);
        assert_int_not_equal(hop[i], 0);
    }
    for (uint32_t i = 0; i < 100; i++) {
        assert_int_equal(sl_neighbours_put(&t, who(i), 2), hop[i]);
        assert_int_equal(sl_neighbours_get(&t, hop[i], 2), who(i));
    }
}

static void put__vlans_differ(void **state)
{
    static const uint8_t mac[6] = {2, 1, 1, 1, 1, 1};
    uint16_t none = sl_neighbours_put(&t, sl_neighbour(mac, 0), 1),
             five = sl_neighbours_put(&t, sl_neighbour(mac, 5), 1);
    assert_int_not_equal(none, five);
    assert_int_equal(sl_neighbour_vlan(sl_neighbours_get(&t, five, 1)), 5);
    assert_int_equal(sl_neighbours_get(&t, five, 1) >> 16, sl_neighbours_get(&t, none, 1) >> 16);
}

static void get__nobody(void **state)
{
    assert_int_equal(sl_neighbours_get(&t, 0, 1), 0);
    for (unsigned hop = 1; hop < 65536; hop += 7)
        assert_int_equal(sl_neighbours_get(&t, (uint16_t)hop, 1), 0);
}

/* Whatever is displaced, a hop names its own neighbour or nobody, as long as its generation has not come
 * round; and who is in use is not displaced. */
static void put__flood(void **state)
{
    enum { PEERS = 200, STRANGERS = 30000 };
    uint16_t hop[PEERS], idle = sl_neighbours_put(&t, who(1000000), 1);
    for (uint32_t i = 0; i < PEERS; i++) {
        hop[i] = sl_neighbours_put(&t, who(i), 1);
        assert_int_equal(sl_neighbours_get(&t, hop[i], 1), who(i)); /* sent to */
    }
    for (uint32_t i = 0; i < STRANGERS; i++) {
        sl_neighbours_put(&t, who(2000000 + i), 2 + i / 100);
        uint64_t found = sl_neighbours_get(&t, idle, 0); /* tick 0: without using it */
        assert_true(found == who(1000000) || found == 0);
    }
    assert_int_equal(sl_neighbours_get(&t, idle, 0), 0);
    for (uint32_t i = 0; i < PEERS; i++)
        assert_int_equal(sl_neighbours_get(&t, hop[i], 400), who(i));
}

static void put__all_in_use(void **state)
{
    enum { MANY = 20000 };
    unsigned refused = 0, held = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        uint16_t hop = sl_neighbours_put(&t, who(i), 1);
        if (hop == 0) {
            refused++;
            continue;
        }
        held++;
        assert_int_equal(sl_neighbours_get(&t, hop, 1), who(i));
    }
    assert_int_equal(held, SL_NEIGHBOURS);
    assert_int_equal(refused, MANY - SL_NEIGHBOURS);
    assert_int_equal(t.full, refused);
    /* A minute later there is room again. */
    assert_int_equal(sl_neighbours_put(&t, who(MANY), SL_NEIGHBOUR_KEPT), 0);
    assert_int_not_equal(sl_neighbours_put(&t, who(MANY), SL_NEIGHBOUR_KEPT + 1), 0);
}

/* 15 replacements in one place: 15 different hops, then the first one's again. */
static void put__generations(void **state)
{
    unsigned n = 0;
    uint16_t first = sl_neighbours_put(&t, who(0), 1), again = 0;
    for (uint32_t i = 1; i < 2000000 && again != first; i++) {
        uint16_t hop = sl_neighbours_put(&t, who(i), 1);
        if ((hop & 0xfff) != (first & 0xfff))
            continue;
        n++;
        again = hop;
        assert_true(hop == first || sl_neighbours_get(&t, first, 0) == 0);
    }
    assert_int_equal(n, 15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(put__found_again, begin),
        cmocka_unit_test_setup(put__vlans_differ, begin),
        cmocka_unit_test_setup(get__nobody, begin),
        cmocka_unit_test_setup(put__flood, begin),
        cmocka_unit_test_setup(put__all_in_use, begin),
        cmocka_unit_test_setup(put__generations, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
