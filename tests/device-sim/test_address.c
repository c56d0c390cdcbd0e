/* Phones' addresses: number to address and back, and what the experiment file can say. */
#include "device-sim/fleet/address.h"

#include "dataplane/io/lcore/address.h"
#include "tests/wire/test.h"

#include <errno.h>
#include <stdlib.h>

enum { N = 4096 };

static struct sl_phone_addresses of(const char *backend, const char *edge, const char *fleet, uint32_t n)
{
    struct sl_experiment *e = calloc(1, sizeof(*e));
    struct sl_phone_addresses a;
    char err[256] = "";

    strcpy(e->edge.data.fleet_backend, backend);
    strcpy(e->edge.data.address, edge);
    strcpy(e->edge.data.fleet_address, fleet);
    e->n_devices = n;
    if (sl_phone_addresses(e, &a, err, sizeof(err)))
        fail_msg("%s", err);
    free(e);
    return a;
}

static void assert_address(const struct sl_phone_addresses *p, uint32_t phone, const char *expected)
{
    struct sl_addr a = sl_phone_address(p, phone);
    char text[SL_ADDR_TEXT];

    sl_addr_format(&a, text, sizeof(text));
    assert_string_equal(text, expected);
}

static void assert_there_and_back(const struct sl_phone_addresses *p)
{
    struct sl_addr a;

    for (uint32_t i = 0; i < N; i++) {
        a = sl_phone_address(p, i);
        assert_int_equal(sl_phone_of_address(p, &a, N), (int)i);
        assert_int_equal(sl_phone_of_address(p, &a, i), -1);
    }
    a = sl_phone_address(p, 3);
    a.ip[13]++;
    assert_int_equal(sl_phone_of_address(p, &a, N), -1);
    a = sl_phone_address(p, 0);
    a.port--;
    assert_int_equal(sl_phone_of_address(p, &a, N), -1);
    a = (struct sl_addr){.port = a.port};
    assert_int_equal(sl_phone_of_address(p, &a, N), -1);
}

static void address__each_phone_has_one(void **state)
{
    struct sl_phone_addresses p = of("memif", "10.77.0.1:4433", "", N);

    assert_address(&p, 0, "10.77.1.1:5000");
    assert_address(&p, 250, "10.77.2.1:5000");
    assert_there_and_back(&p);
    p = of("uring_udp", "127.0.0.1:4433", "", N);
    assert_address(&p, 251, "127.77.2.2:5000");
    assert_there_and_back(&p);
    p = of("memif", "10.77.0.1:4433", "[fd00::]", N);
    assert_address(&p, 251, "[fd00::202]:5000");
    assert_there_and_back(&p);
}

static void address__each_phone_has_a_port(void **state)
{
    struct sl_phone_addresses p = of("uring_udp", "192.0.2.1:4433", "192.0.2.7:6000", N);

    assert_address(&p, 0, "192.0.2.7:6000");
    assert_address(&p, 4095, "192.0.2.7:10095");
    assert_there_and_back(&p);
    p = of("uring_udp", "[::1]:4433", "[::1]:6000", N);
    assert_address(&p, 7, "[::1]:6007");
    assert_there_and_back(&p);
}

static void address__what_cannot_be_is_refused(void **state)
{
    static const char *const bad[] = {"10.77.0", "0.0.0.0:5000", "10.77.0.0:65000", "phones"};
    struct sl_experiment *e = calloc(1, sizeof(*e));
    struct sl_phone_addresses a;
    char err[256];

    strcpy(e->edge.data.fleet_backend, "uring_udp");
    strcpy(e->edge.data.address, "10.77.0.1:4433");
    e->n_devices = N;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        strcpy(e->edge.data.fleet_address, bad[i]);
        assert_int_equal(sl_phone_addresses(e, &a, err, sizeof(err)), -EINVAL);
        assert_non_null(strstr(err, "edge.data.fleet_address"));
    }
    free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(address__each_phone_has_one),
        cmocka_unit_test(address__each_phone_has_a_port),
        cmocka_unit_test(address__what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
