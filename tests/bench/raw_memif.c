#include "tests/bench/raw_memif.h"

#include "dataplane/io/dpdk/eal.h"
#include "tests/bench/machine.h"

#include <errno.h>
#include <rte_bus_vdev.h>
#include <rte_ethdev.h>
#include <rte_lcore.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { MBUFS = 4096, MEMORY_MIB = 64, LINK_WITHIN_S = 20, NAP_US = 200, AGAIN_MS = 500 };

static int fail(struct bench_twin *s, int ret, const char *what)
{
    snprintf(s->err, s->err_cap, "bare memif: %s: %s", what, strerror(-ret));
    return ret;
}

static void nap(void)
{
    nanosleep(&(struct timespec){.tv_nsec = NAP_US * 1000}, NULL);
}

static int configure(struct bench_twin *s, unsigned ring_log2, struct bench_raw_memif *m)
{
    struct rte_eth_conf conf = {0};
    int ret = rte_eth_dev_configure(m->id, 1, 1, &conf);
    if (ret == 0)
        ret = rte_eth_rx_queue_setup(m->id, 0, (uint16_t)(1u << ring_log2), 0, NULL, m->pool);
    if (ret == 0)
        ret = rte_eth_tx_queue_setup(m->id, 0, (uint16_t)(1u << ring_log2), 0, NULL);
    return ret == 0 ? 0 : fail(s, ret, "cannot set it up");
}

static bool link_up(const struct bench_raw_memif *m)
{
    struct rte_eth_link link = {0};
    return rte_eth_link_get_nowait(m->id, &link) == 0 && link.link_status == RTE_ETH_LINK_UP;
}

/* The client's start fails until the server listens; and where the server had not started by then, the
 * connection comes to nothing and is tried again. */
static int start(struct bench_twin *s, const struct bench_raw_memif *m)
{
    uint64_t until = bench_now_ns() + LINK_WITHIN_S * UINT64_C(1000000000), again = 0;
    bool started = false;
    while (!link_up(m)) {
        if (bench_now_ns() > until || bench_twin_cancelled(s))
            return fail(s, -ETIMEDOUT, "no link");
        if (started && s->index == 1 && bench_now_ns() > again) {
            rte_eth_dev_stop(m->id);
            started = false;
        }
        if (!started && rte_eth_dev_start(m->id) == 0) {
            started = true;
            again = bench_now_ns() + AGAIN_MS * UINT64_C(1000000);
        }
        nap();
    }
    return 0;
}

int bench_raw_memif_open(struct bench_twin *s, unsigned ring_log2, struct bench_raw_memif *m)
{
    char args[1024], dev[256];
    struct sl_eal_config eal = {
        .run_dir = s->dir, .file_prefix = s->index == 0 ? "a" : "b", .memory_mib = MEMORY_MIB, .cpu = -1};
    int ret = sl_eal_start(&eal, args, sizeof(args), s->err, s->err_cap);
    if (ret != 0)
        return ret;
    if (rte_thread_register() != 0)
        return fail(s, -ENOMEM, "DPDK does not take the thread");
    m->pool = rte_pktmbuf_pool_create("bare", MBUFS, 256, 0, 2048 + RTE_PKTMBUF_HEADROOM, SOCKET_ID_ANY);
    if (m->pool == NULL)
        return fail(s, -ENOMEM, "no packet buffers");
    snprintf(dev, sizeof(dev), "role=%s,id=0,socket=%s/bare.sock,socket-abstract=no,rsize=%u,bsize=2048%s",
        s->index == 0 ? "server" : "client", s->dir, ring_log2, s->index == 0 ? "" : ",zero-copy=yes");
    ret = rte_vdev_init("net_memif0", dev);
    if (ret == 0)
        ret = rte_eth_dev_get_port_by_name("net_memif0", &m->id);
    if (ret != 0)
        return fail(s, ret, "cannot make it");
    ret = configure(s, ring_log2, m);
    return ret == 0 ? start(s, m) : ret;
}
