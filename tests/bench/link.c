#include "tests/bench/link.h"

#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/port.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *const bench_backends[] = {"memif", NULL};

enum { MEMORY_MIB = 128, JUMBO_MEMORY_MIB = 256, RECEIVER_PORT = 7444, SENDER_PORT = 40000 };

int bench_link_prepare(struct bench_link *l, char *err, size_t cap)
{
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

int bench_link_open(struct bench_link *l, enum bench_side side, struct sl_port **port, char *err, size_t cap)
{
    char args[1024], path[128];
    struct sl_eal_config eal = {.run_dir = l->dir,
        .file_prefix = side == BENCH_SENDER ? "sender" : "receiver",
        .memory_mib = l->mtu > 2000 ? JUMBO_MEMORY_MIB : MEMORY_MIB,
        .cpu = -1};
    int ret = sl_eal_start(&eal, args, sizeof(args), err, cap);
    if (ret != 0)
        return ret;
    snprintf(path, sizeof(path), "%s/memif.sock", l->dir);
    struct sl_dpdk_port_config c = {
        .device = l->backend, .memif_socket = path, .memif_server = side == BENCH_SENDER, .mtu = l->mtu};
    return sl_dpdk_port_open(&c, port, err, cap);
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

struct sl_addr bench_link_addr(const struct bench_link *l, enum bench_side side)
{
    struct sl_addr a = {.ip = {[10] = 0xff, [11] = 0xff, 10, 77, 0, side == BENCH_RECEIVER ? 1 : 2}};
    a.port = side == BENCH_RECEIVER ? RECEIVER_PORT : SENDER_PORT;
    return a;
}
