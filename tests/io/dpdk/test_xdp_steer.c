/* The kernel itself runs the program on frames of every kind. No queue has a socket here: what is steered
 * comes out as XDP_TX, what is not as XDP_DROP. */
#include "dataplane/io/dpdk/headers.h"
#include "dataplane/io/dpdk/xdp_steer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h>

enum { PORT = 7000, PORTS = 3, PAYLOAD = 30 };
static const enum xdp_action STEERED = XDP_TX, LEFT = XDP_DROP;
static int program = -1;

static int bpf(int what, union bpf_attr *a)
{
    return (int)syscall(SYS_bpf, what, a, sizeof(*a));
}

static int load(uint16_t first, uint16_t n_ports)
{
    static char log[65536];
    struct bpf_insn insns[SL_XDP_STEER_MAX];
    unsigned map_at, n = sl_xdp_steer(insns, first, n_ports, LEFT, STEERED, &map_at);
    union bpf_attr map = {
        .map_type = BPF_MAP_TYPE_XSKMAP, .key_size = 4, .value_size = 4, .max_entries = SL_XDP_QUEUES};
    int fd = bpf(BPF_MAP_CREATE, &map);
    if (fd < 0)
        return -errno;
    insns[map_at].src_reg = BPF_PSEUDO_MAP_FD;
    insns[map_at].imm = fd;
    union bpf_attr a = {.prog_type = BPF_PROG_TYPE_XDP,
        .insn_cnt = n,
        .insns = (uintptr_t)insns,
        .license = (uintptr_t) "Apache-2.0",
        .log_buf = (uintptr_t)log,
        .log_size = sizeof(log),
        .log_level = 1};
    program = bpf(BPF_PROG_LOAD, &a);
    int ret = program < 0 ? -errno : 0;
    if (ret != 0 && ret != -EPERM)
        print_error("%s\n", log);
    close(fd);
    return ret;
}

static uint32_t run(const uint8_t *frame, uint32_t n)
{
    uint8_t out[2048];
    union bpf_attr a = {.test = {.prog_fd = (uint32_t)program,
                            .data_in = (uintptr_t)frame,
                            .data_size_in = n,
                            .data_out = (uintptr_t)out,
                            .data_size_out = sizeof(out),
                            .repeat = 1}};
    return bpf(BPF_PROG_TEST_RUN, &a) == 0 ? a.test.retval : UINT32_MAX;
}

static uint32_t make(uint8_t frame[256], bool four, uint16_t vlan, uint16_t port)
{
    static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
    uint64_t to = sl_neighbour(mac, vlan);
    unsigned headers = sl_headers_bytes(four, to);
    struct sl_dgram d = {.data = frame + headers, .len = PAYLOAD};
    d.src = d.dst = (struct sl_addr){.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = port};
    if (!four)
        d.src.ip[0] = d.dst.ip[0] = 0xfd;
    memset(frame, 0, 256);
    sl_headers_write(&d, mac, to, SL_UDP_SUM_SOFTWARE);
    return headers + PAYLOAD;
}

static void steer__our_ports(void **state)
{
    uint8_t frame[256];
    for (unsigned kind = 0; kind < 4; kind++) {
        for (uint16_t port = PORT - 2; port < PORT + PORTS + 2; port++) {
            uint32_t n = make(frame, kind & 1, kind & 2 ? 5 : 0, port);
            assert_int_equal(run(frame, n), port >= PORT && port < PORT + PORTS ? STEERED : LEFT);
        }
        uint32_t n = make(frame, kind & 1, kind & 2 ? 5 : 0, 0);
        assert_int_equal(run(frame, n), LEFT);
        n = make(frame, kind & 1, kind & 2 ? 5 : 0, 65535);
        assert_int_equal(run(frame, n), LEFT);
    }
}

static void steer__highest_port(void **state)
{
    uint8_t frame[256];
    int before = program;
    assert_int_equal(load(65535, 1), 0);
    assert_int_equal(run(frame, make(frame, true, 0, 65535)), STEERED);
    assert_int_equal(run(frame, make(frame, true, 0, 0)), LEFT);
    close(program);
    program = before;
}

static void steer__other_protocols(void **state)
{
    uint8_t frame[256];
    uint32_t n = make(frame, true, 0, PORT);
    frame[SL_ETH_BYTES + 9] = 6; /* TCP */
    assert_int_equal(run(frame, n), LEFT);
    n = make(frame, true, 0, PORT);
    frame[13] = 0x06; /* ARP */
    assert_int_equal(run(frame, n), LEFT);
    n = make(frame, false, 0, PORT);
    frame[SL_ETH_BYTES + 6] = 58; /* ICMPv6: neighbour discovery, ping */
    assert_int_equal(run(frame, n), LEFT);
}

/* The first fragment has the ports and is dropped by name in our port; a later one might hold anything there.
 */
static void steer__fragments(void **state)
{
    uint8_t frame[256];
    uint32_t n = make(frame, true, 0, PORT);
    frame[SL_ETH_BYTES + 6] = 0x20;
    assert_int_equal(run(frame, n), STEERED);
    frame[SL_ETH_BYTES + 7] = 1;
    assert_int_equal(run(frame, n), LEFT);
    frame[SL_ETH_BYTES + 6] = 0x1f;
    frame[SL_ETH_BYTES + 7] = 0;
    assert_int_equal(run(frame, n), LEFT);
}

static void steer__options(void **state)
{
    uint8_t frame[256];
    uint32_t n = make(frame, true, 0, PORT);
    for (unsigned words = 6; words <= 15; words++) {
        uint8_t longer[320] = {0};
        unsigned more = (words - 5) * 4;
        memcpy(longer, frame, SL_ETH_BYTES + SL_IPV4_BYTES);
        memcpy(longer + SL_ETH_BYTES + SL_IPV4_BYTES + more, frame + SL_ETH_BYTES + SL_IPV4_BYTES,
            n - SL_ETH_BYTES - SL_IPV4_BYTES);
        longer[SL_ETH_BYTES] = (uint8_t)(0x40 | words);
        assert_int_equal(run(longer, n + more), STEERED);
    }
}

static void steer__cut_short(void **state)
{
    uint8_t frame[256];
    for (unsigned kind = 0; kind < 4; kind++) {
        uint32_t n = make(frame, kind & 1, kind & 2 ? 5 : 0, PORT);
        for (uint32_t len = 14; len < n - PAYLOAD; len++)
            assert_int_equal(run(frame, len), LEFT);
        assert_int_equal(run(frame, n - PAYLOAD), STEERED);
    }
}

static void object__written(void **state)
{
    uint8_t bytes[64];
    int fd = sl_xdp_steer_object(PORT, PORTS);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_memory_equal(bytes, "\177ELF", 4);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steer__our_ports),
        cmocka_unit_test(steer__highest_port),
        cmocka_unit_test(steer__other_protocols),
        cmocka_unit_test(steer__fragments),
        cmocka_unit_test(steer__options),
        cmocka_unit_test(steer__cut_short),
        cmocka_unit_test(object__written),
    };
    int ret = load(PORT, PORTS);
    if (ret == -EPERM) {
        puts("SKIP: CAP_BPF and CAP_NET_ADMIN, to have the kernel run a program");
        return 77;
    }
    if (ret != 0)
        return 1;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
