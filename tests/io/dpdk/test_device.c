#include "dataplane/io/dpdk/device.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char err[512];

static void parse__kinds(void **state)
{
    static const struct {
        const char *text;
        enum sl_device_kind kind;
        const char *name, *argument;
    } cases[] = {
        {"memif", SL_DEVICE_MEMIF, "", ""},
        {"af_xdp:veth0", SL_DEVICE_AF_XDP, "net_af_xdp0", "veth0"},
        {"af_packet:eth0.5", SL_DEVICE_AF_PACKET, "net_af_packet0", "eth0.5"},
        {"tap:sluice0", SL_DEVICE_TAP, "net_tap0", "sluice0"},
        {"pcap:/tmp/a file.pcap", SL_DEVICE_PCAP, "net_pcap0", "/tmp/a file.pcap"},
        {"0000:02:00.0", SL_DEVICE_PCI, "0000:02:00.0", ""},
        {"02:00.0,representor=1", SL_DEVICE_PCI, "02:00.0", "representor=1"},
        {"net_ring0", SL_DEVICE_OTHER, "net_ring0", ""},
        {"net_af_xdp3,iface=eth0,start_queue=2", SL_DEVICE_OTHER, "net_af_xdp3", "iface=eth0,start_queue=2"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sl_device d;
        assert_int_equal(sl_device_parse(cases[i].text, &d, err, sizeof(err)), 0);
        assert_int_equal(d.kind, cases[i].kind);
        assert_string_equal(d.name, cases[i].name);
        assert_string_equal(d.argument, cases[i].argument);
    }
}

static void parse__refused(void **state)
{
    static const char *const texts[] = {"", ",iface=x", "af_xdp:", "af_packet:a_name_of_16_or_more",
        "af_xdp:a,b", "tap:", "pcap:", "pcap:a,b.pcap"};
    for (unsigned i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sl_device d;
        err[0] = '\0';
        assert_int_equal(sl_device_parse(texts[i], &d, err, sizeof(err)), -EINVAL);
        assert_int_not_equal(err[0], '\0');
        assert_null(strchr(err, '\n'));
    }
    char text[2000];
    struct sl_device d;
    memset(text, 'x', sizeof(text));
    text[sizeof(text) - 1] = '\0';
    assert_int_equal(sl_device_parse(text, &d, err, sizeof(err)), -EINVAL);
    text[10] = ',';
    assert_int_equal(sl_device_parse(text, &d, err, sizeof(err)), -EINVAL);
}

/* AF_PACKET's frames fill whole blocks, and blocks whole pages: the driver counts on it. */
static void arguments__af_packet(void **state)
{
    struct sl_device d;
    char args[256];
    assert_int_equal(sl_device_parse("af_packet:eth0", &d, err, sizeof(err)), 0);
    for (uint32_t mtu = 576; mtu <= 9000; mtu += 4) {
        unsigned frame, block, count;
        struct sl_device_needs needs = {.mtu = mtu, .n_queues = 1};
        assert_int_equal(sl_device_arguments(&d, &needs, args, sizeof(args)), 0);
        assert_int_equal(
            sscanf(args, "iface=eth0,qpairs=1,framesz=%u,blocksz=%u,framecnt=%u", &frame, &block, &count), 3);
        assert_int_equal(block % 4096, 0);
        assert_int_equal(block % frame, 0);
        assert_int_equal(count % (block / frame), 0);
        assert_true(frame >= mtu + 18 + 52);
        assert_true(sl_device_buffer_bytes(&d, mtu) >= frame - 32);
    }
}

static void arguments__af_xdp(void **state)
{
    struct sl_device d;
    char args[128];
    struct sl_device_needs needs = {.mtu = 1500, .n_queues = 2, .xdp_object = 7};
    assert_int_equal(sl_device_parse("af_xdp:eth0", &d, err, sizeof(err)), 0);
    assert_int_equal(sl_device_arguments(&d, &needs, args, sizeof(args)), 0);
    assert_string_equal(args, "iface=eth0,start_queue=0,queue_count=2,xdp_prog=/proc/self/fd/7");
    assert_int_equal(sl_device_arguments(&d, &needs, args, 20), -ENAMETOOLONG);
    /* Head of the pool's object and of the buffer, DPDK's and the kernel's headroom, the frame: in a page. */
    assert_true(64 + 128 + 128 + sl_device_buffer_bytes(&d, 3400) <= 4032);
}

static void check__in_the_way(void **state)
{
    static const struct {
        const char *device;
        uint32_t mtu;
        int ret;
        const char *says;
    } cases[] = {
        {"af_xdp:sl-none", 1500, -ENODEV, "ip link"},
        {"af_packet:sl-none", 1500, -ENODEV, "sl-none"},
        {"af_xdp:lo", 9000, -EINVAL, "at most 3400"},
        {"af_xdp:lo", 1500, -EINVAL, "sudo ip link set dev lo mtu 3400"}, /* the loopback's is 65,536 */
        {"pcap:/nonexistent.pcap", 1500, -ENOENT, "/nonexistent.pcap"},
    };
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sl_device d;
        struct sl_device_needs needs = {.mtu = cases[i].mtu, .n_queues = 1};
        assert_int_equal(sl_device_parse(cases[i].device, &d, err, sizeof(err)), 0);
        assert_int_equal(sl_device_check(&d, &needs, err, sizeof(err)), cases[i].ret);
        assert_non_null(strstr(err, cases[i].says));
    }
}

static void package__of_drivers(void **state)
{
    struct sl_device d;
    sl_device_parse("af_xdp:eth0", &d, err, sizeof(err));
    assert_string_equal(sl_device_package(&d), "librte-net-af-xdp23");
    sl_device_parse("net_unheard_of", &d, err, sizeof(err));
    assert_null(sl_device_package(&d));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__kinds),
        cmocka_unit_test(parse__refused),
        cmocka_unit_test(arguments__af_packet),
        cmocka_unit_test(arguments__af_xdp),
        cmocka_unit_test(check__in_the_way),
        cmocka_unit_test(package__of_drivers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
