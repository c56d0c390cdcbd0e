#include "tests/bench/ends.h"

#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/uring/udp_port.h"
#include "tests/bench/machine.h"

#include <errno.h>
#include <ftw.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *const bench_backends[] = {"memif", "af_xdp", "af_packet", "uring_udp", "uring_udp_plain", NULL};

enum { MEMORY_MIB = 128, JUMBO_MEMORY_MIB = 256, RECEIVER_PORT = 7444, SENDER_PORT = 40000 };
#define INTERFACE "sl0"

static const uint8_t macs[2][6] = {{2, 0x53, 0x4c, 0, 0, 1}, {2, 0x53, 0x4c, 0, 0, 2}};
static const uint64_t join_within_ns = 10000000000u;

static bool is(const struct bench_link *l, const char *backend)
{
    return strcmp(l->backend, backend) == 0;
}

bool bench_link_lossy(const struct bench_link *l)
{
    return !is(l, "memif");
}

/* ---- two namespaces ---- */

static int own_namespace(char *err, size_t cap)
{
    if (unshare(CLONE_NEWNET) == 0)
        return 0;
    int e = errno;
    snprintf(err, cap, "network namespaces take root: %s", strerror(e));
    return e == ENOSYS || e == EINVAL ? -ENOTSUP : -e;
}

static int ip(char *err, size_t cap, const char *format, ...)
{
    char command[300] = "ip ";
    va_list args;
    va_start(args, format);
    vsnprintf(command + 3, sizeof(command) - 3, format, args);
    va_end(args);
    if (system(command) == 0)
        return 0;
    snprintf(err, cap, "`%s` failed: is iproute2 installed?", command);
    return -EIO;
}

static void reach(struct bench_link *l, uint32_t step)
{
    __atomic_store_n(l->step, step, __ATOMIC_RELEASE);
}

static int await(struct bench_link *l, uint32_t step, char *err, size_t cap)
{
    uint64_t until = bench_now_ns() + join_within_ns;
    while (__atomic_load_n(l->step, __ATOMIC_ACQUIRE) < step) {
        if (bench_now_ns() > until) {
            snprintf(err, cap, "the other process did not join its network namespace");
            return -ETIMEDOUT;
        }
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    return 0;
}

static int bring_up(enum bench_side side, char *err, size_t cap)
{
    int ret = ip(err, cap, "link set lo up");
    if (ret == 0)
        ret = ip(err, cap, "address add 10.77.0.%d/24 dev " INTERFACE, side + 1);
    return ret != 0 ? ret : ip(err, cap, "link set " INTERFACE " up");
}

/* The sender leaves for a namespace of its own (1), the receiver makes the pair (2), both bring their ends up
 * (3, 4).
 */
static int join(struct bench_link *l, enum bench_side side, char *err, size_t cap)
{
    int ret = 0;
    if (side == BENCH_SENDER) {
        ret = own_namespace(err, cap);
        reach(l, ret == 0 ? 1 : 0);
        ret = ret != 0 ? ret : await(l, 2, err, cap);
        ret = ret != 0 ? ret : bring_up(side, err, cap);
        reach(l, ret == 0 ? 3 : 2);
        return ret != 0 ? ret : await(l, 4, err, cap);
    }
    ret = await(l, 1, err, cap);
    if (ret == 0)
        ret = ip(err, cap,
            "link add " INTERFACE " mtu %u address 02:53:4c:00:00:01 type veth peer name " INTERFACE
            " mtu %u address 02:53:4c:00:00:02 netns %d",
            l->mtu, l->mtu, (int)l->peer);
    if (ret == 0)
        reach(l, 2);
    ret = ret != 0 ? ret : bring_up(side, err, cap);
    ret = ret != 0 ? ret : await(l, 3, err, cap);
    if (ret == 0)
        reach(l, 4);
    return ret;
}

/* ---- opening ---- */

int bench_link_prepare(struct bench_link *l, char *err, size_t cap)
{
    if (bench_link_lossy(l)) {
        int ret = own_namespace(err, cap);
        if (ret != 0)
            return ret;
    }
    const char *tmp = getenv("TMPDIR");
    if (tmp == NULL || strlen(tmp) > 24) /* a socket's path must fit its address */
        tmp = "/tmp";
    snprintf(l->dir, sizeof(l->dir), "%s/sluice-bench-XXXXXX", tmp);
    if (mkdtemp(l->dir) == NULL) {
        int e = errno;
        snprintf(err, cap, "cannot make a directory in %s: %s; set TMPDIR", tmp, strerror(e));
        l->dir[0] = '\0';
        return -e;
    }
    return 0;
}

static int open_uring(
    struct bench_link *l, enum bench_side side, struct sl_port **port, char *err, size_t cap)
{
    struct sl_uring_port_config c = {.local = bench_link_addr(l, side, 0),
        .n_queues = side == BENCH_RECEIVER ? l->cores : 1,
        .mtu = l->mtu,
        .plain = is(l, "uring_udp_plain")};
    return sl_uring_port_open(&c, port, err, cap);
}

static int open_dpdk(struct bench_link *l, enum bench_side side, struct sl_port **port, char *err, size_t cap)
{
    char args[1024], path[128], device[64];
    struct sl_eal_config eal = {.run_dir = l->dir,
        .file_prefix = side == BENCH_SENDER ? "sender" : "receiver",
        .memory_mib = l->mtu > 2000 ? JUMBO_MEMORY_MIB : MEMORY_MIB,
        .cpu = -1};
    int ret = sl_eal_start(&eal, args, sizeof(args), err, cap);
    if (ret != 0)
        return ret;
    snprintf(path, sizeof(path), "%s/memif.sock", l->dir);
    snprintf(device, sizeof(device), "%s%s", l->backend, is(l, "memif") ? "" : ":" INTERFACE);
    struct sl_dpdk_port_config c = {.device = device,
        .memif_socket = path,
        .memif_server = side == BENCH_SENDER,
        .mtu = l->mtu,
        .udp_port = side == BENCH_SENDER ? SENDER_PORT : RECEIVER_PORT,
        .n_udp_ports = (uint16_t)(side == BENCH_SENDER ? 1 : l->cores),
        .n_queues = (uint16_t)(side == BENCH_SENDER ? 1 : l->cores)};
    if (side == BENCH_SENDER && l->cores > 1 && is(l, "memif")) {
        c.n_rings = (uint16_t)l->cores;
        c.ring_port = RECEIVER_PORT;
    }
    if (bench_link_lossy(l))
        memcpy(c.peer_mac, macs[side == BENCH_SENDER ? 0 : 1], sizeof(c.peer_mac));
    return sl_dpdk_port_open(&c, port, err, cap);
}

int bench_link_open(struct bench_link *l, enum bench_side side, struct sl_port **port, char *err, size_t cap)
{
    if (bench_link_lossy(l)) {
        int ret = join(l, side, err, cap);
        if (ret != 0)
            return ret;
    }
    return strncmp(l->backend, "uring", 5) == 0 ? open_uring(l, side, port, err, cap)
                                                : open_dpdk(l, side, port, err, cap);
}

void bench_link_close(struct sl_port *p)
{
    sl_port_close(p);
    sl_eal_stop();
}

static int remove_one(const char *path, const struct stat *s, int type, struct FTW *at)
{
    return remove(path);
}

void bench_link_remove(struct bench_link *l)
{
    if (l->dir[0] != '\0')
        nftw(l->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    l->dir[0] = '\0';
}

struct sl_addr bench_link_addr(const struct bench_link *l, enum bench_side side, unsigned core)
{
    struct sl_addr a = {.ip = {[10] = 0xff, [11] = 0xff, 10, 77, 0, side == BENCH_RECEIVER ? 1 : 2}};
    a.port = (uint16_t)(side == BENCH_RECEIVER ? RECEIVER_PORT + core : SENDER_PORT);
    return a;
}
