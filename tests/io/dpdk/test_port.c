/* One process, one EAL: what a port takes and what it drops, by every name; and what it refuses to open. */
#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/headers.h"
#include "dataplane/io/dpdk/port.h"
#include "dataplane/io/dpdk/split.h"

#include <errno.h>
#include <pthread.h>
#include <rte_mbuf.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { BURST = 32, PAYLOAD = 100 };
static char dir[] = "/tmp/sluice-test-XXXXXX";
static const struct sl_addr here = {.ip = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, .port = 7000};

static struct sl_port *open_port(const struct sl_dpdk_port_config *c)
{
    struct sl_port *p = NULL;
    char err[512] = "";
    int ret = sl_dpdk_port_open(c, &p, err, sizeof(err));
    if (ret != 0)
        fail_msg("%s: %s", c->device, err);
    for (unsigned i = 0; i < 20000 && !sl_port_link_up(p); i++)
        usleep(500);
    assert_true(sl_port_link_up(p));
    return p;
}

static unsigned make(struct sl_port *p, struct sl_dgram *d, unsigned n)
{
    n = sl_queue_alloc(sl_port_queue(p, 0), d, n);
    for (unsigned i = 0; i < n; i++) {
        d[i].src = d[i].dst = here;
        d[i].len = PAYLOAD;
        d[i].ecn = i & 3;
        memset(d[i].data, (int)i, PAYLOAD);
    }
    return n;
}

/* ---- a loopback: DPDK's ring driver ---- */

static void tx__arrives(void **state)
{
    struct sl_port *p = open_port(&(struct sl_dpdk_port_config){.device = "net_ring0", .n_mbufs = 4096});
    struct sl_dgram d[BURST];
    struct sl_port_stats s;
    assert_int_equal(make(p, d, BURST), BURST);
    assert_int_equal(sl_queue_tx(sl_port_queue(p, 0), d, BURST), BURST);
    assert_int_equal(sl_queue_rx(sl_port_queue(p, 0), d, BURST), BURST);
    for (unsigned i = 0; i < BURST; i++) {
        assert_int_equal(d[i].len, PAYLOAD);
        assert_int_equal(d[i].data[0], i);
        assert_int_equal(d[i].data[PAYLOAD - 1], i);
        assert_int_equal(d[i].ecn, i & 3);
        assert_memory_equal(d[i].src.ip, here.ip, 16);
        assert_int_equal(d[i].dst.port, 7000);
    }
    /* What was received may be sent on. */
    assert_int_equal(sl_queue_tx(sl_port_queue(p, 0), d, BURST), BURST);
    assert_int_equal(sl_queue_rx(sl_port_queue(p, 0), d, BURST), BURST);
    assert_int_equal(d[7].data[0], 7);
    sl_queue_free(sl_port_queue(p, 0), d, BURST);
    sl_port_stats(p, &s);
    assert_int_equal(s.tx_packets, 2 * BURST);
    assert_int_equal(s.tx_bytes, 2 * BURST * PAYLOAD);
    assert_int_equal(s.rx_packets, 2 * BURST);
    assert_int_equal(s.rx_bytes, 2 * BURST * PAYLOAD);
    sl_port_close(p);
}

/* Three queues: what is sent by one comes by that one, from buffers of its own, and all are counted. */
static void queues__are_apart(void **state)
{
    enum { QUEUES = 3 };
    struct sl_port *p =
        open_port(&(struct sl_dpdk_port_config){.device = "net_ring9", .n_queues = QUEUES, .n_mbufs = 1024});
    struct rte_mempool *pool[QUEUES];
    struct sl_port_stats s;
    assert_int_equal(p->n_queues, QUEUES);
    assert_null(sl_port_queue(p, QUEUES));
    for (unsigned q = 0; q < QUEUES; q++) {
        struct sl_queue *queue = sl_port_queue(p, q);
        struct sl_dgram d[BURST], other[1];
        assert_int_equal((uintptr_t)queue % 64, 0); /* its counters share no cache line with another's */
        assert_int_equal(sl_queue_alloc(queue, d, q + 1), q + 1);
        for (unsigned i = 0; i <= q; i++) {
            d[i].src = d[i].dst = here;
            d[i].len = PAYLOAD;
            d[i].data[0] = (uint8_t)q;
        }
        pool[q] = ((struct rte_mbuf *)d[0].buffer)->pool;
        for (unsigned k = 0; k < q; k++)
            assert_ptr_not_equal(pool[k], pool[q]);
        assert_int_equal(sl_queue_tx(queue, d, q + 1), q + 1);
        for (unsigned k = 0; k < QUEUES; k++)
            if (k != q)
                assert_int_equal(sl_queue_rx(sl_port_queue(p, k), other, 1), 0);
        assert_int_equal(sl_queue_rx(queue, d, BURST), q + 1);
        assert_int_equal(d[0].data[0], q);
        sl_queue_free(queue, d, q + 1);
    }
    sl_port_stats(p, &s);
    assert_int_equal(s.tx_packets, 1 + 2 + 3);
    assert_int_equal(s.rx_packets, 1 + 2 + 3);
    sl_port_close(p);
}

/* A device has no more queues than it has: the port then has fewer than it was asked for. */
static void queues__as_many_as_there_are(void **state)
{
    static uint8_t capture[24] = {0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, [16] = 0xff, 0xff, [20] = 1};
    char path[sizeof(dir) + 16], device[sizeof(path) + 8];
    snprintf(path, sizeof(path), "%s/empty.pcap", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(capture, 1, sizeof(capture), f), sizeof(capture));
    fclose(f);
    snprintf(device, sizeof(device), "pcap:%s", path);
    struct sl_port *p =
        open_port(&(struct sl_dpdk_port_config){.device = device, .n_queues = 4, .n_mbufs = 1024});
    assert_int_equal(p->n_queues, 1);
    sl_port_close(p);
    unlink(path);
}

/* An IPv6 datagram may be 20 bytes shorter. */
static void tx__six(void **state)
{
    struct sl_port *p = open_port(&(struct sl_dpdk_port_config){.device = "net_ring6", .n_mbufs = 1024});
    struct sl_dgram d[3];
    struct sl_port_stats s;
    assert_int_equal(make(p, d, 3), 3);
    for (unsigned i = 0; i < 3; i++)
        d[i].src.ip[0] = d[i].dst.ip[0] = 0xfd;
    d[1].len = 1500 - 48;
    d[2].len = 1500 - 48 + 1;
    assert_int_equal(sl_queue_tx(sl_port_queue(p, 0), d, 3), 2);
    assert_int_equal(sl_queue_rx(sl_port_queue(p, 0), d, 3), 2);
    assert_int_equal(d[1].len, 1500 - 48);
    assert_int_equal(d[1].src.ip[0], 0xfd);
    sl_queue_free(sl_port_queue(p, 0), d, 2);
    sl_port_stats(p, &s);
    assert_int_equal(s.drops[SL_PORT_BAD_LENGTH], 1);
    sl_port_close(p);
}

/* A port that answers for itself, with itself as the only other on the link: its question comes back, is
 * answered, and the answer is heard. What it sends meanwhile has nowhere to go. */
static void tx__resolves(void **state)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        struct sl_dpdk_port_config c = {
            .device = kind == 0 ? "net_ring7" : "net_ring8", .n_mbufs = 1024, .mac = {2, 0, 0, 0, 0, 7}};
        struct sl_dgram d[SL_PORT_BURST];
        struct sl_port_stats s;
        unsigned tried = 0, got = 0, n;
        memcpy(c.own_ip, here.ip, 16);
        if (kind == 1)
            c.own_ip[0] = 0xfd;
        struct sl_port *p = open_port(&c);
        struct sl_queue *q = sl_port_queue(p, 0);
        for (; tried < 2000 && got == 0; tried++) {
            assert_int_equal(make(p, d, 1), 1);
            d[0].src.ip[0] = d[0].dst.ip[0] = c.own_ip[0];
            sl_queue_tx(q, d, 1);
            usleep(1000);
            while ((n = sl_queue_rx(q, d, SL_PORT_BURST)) > 0 || sl_queue_rests(q)) {
                for (unsigned i = 0; i < n; i++)
                    assert_int_not_equal(d[i].src.hop, 0);
                sl_queue_free(q, d, n);
                got += n;
            }
        }
        sl_port_stats(p, &s);
        assert_int_equal(got, 1);
        assert_int_equal(s.drops[SL_PORT_UNREACHABLE], tried - 1);
        assert_int_equal(s.drops[SL_PORT_ANSWERED], 2); /* the question, and its answer */
        sl_port_close(p);
    }
}

static void rx__not_ours(void **state)
{
    struct sl_dpdk_port_config c = {
        .device = "net_ring9", .n_mbufs = 1024, .udp_port = 7000, .mac = {2, 0, 0, 0, 0, 7}, .peer_mac = {2}};
    struct sl_dgram d[4];
    struct sl_port_stats s;
    memcpy(c.own_ip, here.ip, 16);
    struct sl_port *p = open_port(&c);
    struct sl_queue *q = sl_port_queue(p, 0);
    assert_int_equal(make(p, d, 4), 4);
    d[1].dst.ip[15] = 77;
    d[2].dst.port = 7001;
    assert_int_equal(sl_queue_tx(q, d, 4), 4);
    assert_int_equal(sl_queue_rx(q, d, 4), 2);
    assert_int_equal(d[0].src.hop, d[1].src.hop);
    /* What came by a hop is answered by it, also where the peer's MAC is given. */
    d[0].dst.hop = d[0].src.hop;
    d[1].dst.hop = 0;
    assert_int_equal(sl_queue_tx(q, d, 2), 2);
    assert_int_equal(sl_queue_rx(q, d, 4), 2);
    assert_int_equal(d[0].src.hop, d[1].src.hop);
    sl_queue_free(q, d, 2);
    sl_port_stats(p, &s);
    assert_int_equal(s.drops[SL_PORT_NOT_OURS], 2);
    sl_port_close(p);
}

static void tx__full(void **state)
{
    struct sl_port *p = open_port(&(struct sl_dpdk_port_config){.device = "net_ring1", .n_mbufs = 8192});
    struct sl_dgram d[BURST];
    struct sl_port_stats s;
    unsigned offered = 0, went = 0;
    for (; offered < 2048; offered += BURST) { /* the driver's ring holds 1,023 */
        assert_int_equal(make(p, d, BURST), BURST);
        went += sl_queue_tx(sl_port_queue(p, 0), d, BURST);
    }
    sl_port_stats(p, &s);
    assert_true(went < offered);
    assert_int_equal(s.drops[SL_PORT_TX_FULL], offered - went);
    assert_int_equal(s.tx_packets, went);
    for (unsigned n; (n = sl_queue_rx(sl_port_queue(p, 0), d, BURST)) > 0;)
        sl_queue_free(sl_port_queue(p, 0), d, n);
    sl_port_close(p);
}

static void tx__unsendable(void **state)
{
    struct sl_port *p = open_port(&(struct sl_dpdk_port_config){.device = "net_ring2", .n_mbufs = 1024});
    struct sl_dgram d[3];
    struct sl_port_stats s;
    assert_int_equal(make(p, d, 3), 3);
    d[0].dst.ip[0] = 0x20; /* IPv6, from an IPv4 address */
    d[1].len = 1500 - 28 + 1;
    assert_int_equal(sl_queue_tx(sl_port_queue(p, 0), d, 3), 1);
    sl_port_stats(p, &s);
    assert_int_equal(s.drops[SL_PORT_BAD_LENGTH], 2);
    assert_int_equal(sl_queue_rx(sl_port_queue(p, 0), d, 3), 1);
    sl_queue_free(sl_port_queue(p, 0), d, 1);
    sl_port_close(p);
}

static void alloc__exhausted(void **state)
{
    enum { ALL = 256 };
    struct sl_port *p = open_port(&(struct sl_dpdk_port_config){.device = "net_ring3", .n_mbufs = ALL});
    static struct sl_dgram d[ALL];
    struct sl_port_stats s;
    unsigned n = 0, got;
    while ((got = sl_queue_alloc(sl_port_queue(p, 0), d + n, BURST)) > 0)
        n += got;
    sl_port_stats(p, &s);
    assert_true(n > ALL / 2);
    assert_int_equal(s.drops[SL_PORT_NO_BUFFER], BURST);
    sl_queue_free(sl_port_queue(p, 0), d, n);
    assert_int_equal(sl_queue_alloc(sl_port_queue(p, 0), d, BURST), BURST);
    sl_queue_free(sl_port_queue(p, 0), d, BURST);
    sl_port_close(p);
}

/* ---- a capture that is replayed: DPDK's pcap driver ---- */

static void write_frame(FILE *f, const uint8_t *frame, uint32_t len)
{
    uint32_t record[4] = {0, 0, len, len}; /* libpcap's file format: time, captured and true length */
    fwrite(record, sizeof(record), 1, f);
    fwrite(frame, len, 1, f);
}

static void write_capture(const char *path)
{
    static const uint32_t header[6] = {0xa1b2c3d4, 4 << 16 | 2, 0, 0, 65535, 1};
    static const uint8_t mac[6] = {2};
    uint8_t good[SL_UDP4_BYTES + PAYLOAD] = {0}, bad[sizeof(good)];
    struct sl_dgram d = {.len = PAYLOAD, .src = here, .dst = here};
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    d.data = good + SL_UDP4_BYTES;
    sl_headers_write(&d, mac, SL_NEIGHBOUR_ALL, SL_UDP_SUM_SOFTWARE);
    fwrite(header, sizeof(header), 1, f);
    write_frame(f, good, sizeof(good));
    memcpy(bad, good, sizeof(good));
    bad[12] = 0x88; /* neither IPv4 nor IPv6 */
    write_frame(f, bad, sizeof(bad));
    memcpy(bad, good, sizeof(good));
    bad[SL_ETH_BYTES + 8]--; /* TTL, and the checksum is wrong */
    write_frame(f, bad, sizeof(bad));
    write_frame(f, bad, sizeof(bad));
    write_frame(f, good, sizeof(good) - 1);
    memcpy(bad, good, sizeof(good));
    bad[SL_ETH_BYTES + 6] = 0x20; /* DF becomes MF; one's complement: the sum moves by 0x2000 */
    bad[SL_ETH_BYTES + 10] = (uint8_t)(bad[SL_ETH_BYTES + 10] + 0x20);
    write_frame(f, bad, sizeof(bad));
    write_frame(f, good, sizeof(good));
    fclose(f);
}

static void rx__drops_by_name(void **state)
{
    char path[64], device[128];
    struct sl_dgram d[BURST];
    struct sl_port_stats s;
    snprintf(path, sizeof(path), "%s/frames.pcap", dir);
    snprintf(device, sizeof(device), "net_pcap0,rx_pcap=%s", path);
    write_capture(path);
    struct sl_port *p = open_port(&(struct sl_dpdk_port_config){.device = device, .n_mbufs = 1024});
    unsigned got = 0;
    for (unsigned i = 0; i < 100; i++) {
        unsigned n = sl_queue_rx(sl_port_queue(p, 0), d, BURST);
        sl_queue_free(sl_port_queue(p, 0), d, n);
        got += n;
    }
    sl_port_stats(p, &s);
    assert_int_equal(got, 2);
    assert_int_equal(s.rx_packets, 2);
    assert_int_equal(s.drops[SL_PORT_NOT_UDP], 1);
    assert_int_equal(s.drops[SL_PORT_BAD_CHECKSUM], 2);
    assert_int_equal(s.drops[SL_PORT_BAD_LENGTH], 1);
    assert_int_equal(s.drops[SL_PORT_IP_FRAGMENT], 1);
    sl_port_close(p);
}

/* ---- a packet in two pieces, as ports with buffer split give it ---- */

static void split__joined(void **state)
{
    struct rte_mempool *heads = sl_split_heads(9, 0, 64);
    struct rte_mempool *bodies = rte_pktmbuf_pool_create("bodies", 64, 0, 0, 2048, SOCKET_ID_ANY);
    assert_non_null(heads);
    assert_non_null(bodies);
    struct rte_mbuf *head = rte_pktmbuf_alloc(heads), *body = rte_pktmbuf_alloc(bodies);
    memset(rte_pktmbuf_append(head, SL_UDP4_BYTES), 'h', SL_UDP4_BYTES);
    memset(rte_pktmbuf_append(body, PAYLOAD), 'b', PAYLOAD);
    assert_int_equal(rte_pktmbuf_chain(head, body), 0);
    assert_ptr_equal(sl_split_join(head), body);
    assert_int_equal(body->nb_segs, 1);
    assert_int_equal(body->data_len, SL_UDP4_BYTES + PAYLOAD);
    assert_int_equal(body->pkt_len, SL_UDP4_BYTES + PAYLOAD);
    const char *bytes = rte_pktmbuf_mtod(body, const char *);
    assert_int_equal(bytes[SL_UDP4_BYTES - 1], 'h');
    assert_int_equal(bytes[SL_UDP4_BYTES], 'b');
    assert_int_equal(rte_mempool_in_use_count(heads), 0); /* the head's buffer is free again */
    assert_ptr_equal(sl_split_join(body), body);
    rte_pktmbuf_free(body);
    rte_mempool_free(heads);
    rte_mempool_free(bodies);
}

/* ---- what does not open ---- */

static void open__refused(void **state)
{
    char err[512], far[300];
    struct sl_port *p;
    struct sl_dpdk_port_config c = {.device = "net_nosuchdriver0"};
    assert_true(sl_dpdk_port_open(&c, &p, err, sizeof(err)) < 0);
    assert_non_null(strstr(err, "net_nosuchdriver0"));
    c.device = "0000:7f:1f.7";
    assert_int_equal(sl_dpdk_port_open(&c, &p, err, sizeof(err)), -ENODEV);
    assert_non_null(strstr(err, "scripts/nic bind"));
    c = (struct sl_dpdk_port_config){.device = "net_ring4", .mtu = 20000};
    assert_int_equal(sl_dpdk_port_open(&c, &p, err, sizeof(err)), -EINVAL);
    c = (struct sl_dpdk_port_config){.device = "net_ring5", .n_mbufs = 10000000};
    assert_int_equal(sl_dpdk_port_open(&c, &p, err, sizeof(err)), -ENOMEM);
    assert_non_null(strstr(err, "memory_mib"));
    memset(far, 'x', sizeof(far));
    far[sizeof(far) - 1] = '\0';
    c = (struct sl_dpdk_port_config){.device = "memif", .memif_socket = far};
    assert_int_equal(sl_dpdk_port_open(&c, &p, err, sizeof(err)), -ENAMETOOLONG);
    assert_non_null(strstr(err, "shorter path"));
}

/* The last test: a memif port is opened once. */
static void tx__link_down(void **state)
{
    char path[64], err[512], text[256];
    struct sl_port *p, *second;
    struct sl_dgram d[BURST];
    struct sl_port_stats s;
    snprintf(path, sizeof(path), "%s/memif.sock", dir);
    struct sl_dpdk_port_config c = {
        .device = "memif", .memif_socket = path, .n_mbufs = 1024, .peer_timeout_ns = 1};
    assert_int_equal(sl_dpdk_port_open(&c, &p, err, sizeof(err)), 0);
    assert_false(sl_port_link_up(p));
    assert_int_equal(make(p, d, BURST), BURST);
    assert_int_equal(sl_queue_tx(sl_port_queue(p, 0), d, BURST), 0);
    assert_int_equal(sl_queue_rx(sl_port_queue(p, 0), d, BURST), 0);
    sl_port_stats(p, &s);
    assert_int_equal(s.drops[SL_PORT_LINK_DOWN], BURST);
    assert_false(s.link_up);
    assert_int_equal(sl_port_wait(p, text, sizeof(text)), -ETIMEDOUT);
    assert_non_null(strstr(text, path));
    assert_int_equal(sl_dpdk_port_open(&c, &second, err, sizeof(err)), -EBUSY);
    sl_port_close(p);
}

static void drop_name__all_differ(void **state)
{
    for (unsigned i = 0; i < SL_PORT_DROP_COUNT; i++) {
        assert_non_null(sl_port_drop_name((enum sl_port_drop)i));
        for (unsigned k = 0; k < i; k++)
            assert_string_not_equal(
                sl_port_drop_name((enum sl_port_drop)i), sl_port_drop_name((enum sl_port_drop)k));
    }
}

static void eal__does_not_pin(void **state)
{
    cpu_set_t now;
    assert_int_equal(sched_getaffinity(0, sizeof(now), &now), 0);
    assert_true(CPU_EQUAL(&now, (cpu_set_t *)*state));
}

static void eal__twice(void **state)
{
    char args[256], err[256];
    struct sl_eal_config c = {.run_dir = dir, .file_prefix = "twice", .cpu = -1};
    assert_int_equal(sl_eal_start(&c, args, sizeof(args), err, sizeof(err)), -EALREADY);
}

static int begin(void **state)
{
    static cpu_set_t before;
    char args[1024], err[512];
    if (mkdtemp(dir) == NULL || sched_getaffinity(0, sizeof(before), &before) != 0)
        return -1;
    *state = &before;
    static const char *const extra[] = {"--log-level", "lib.eal:info", NULL};
    struct sl_eal_config c = {
        .run_dir = dir, .file_prefix = "port", .memory_mib = 128, .cpu = 0, .extra = extra};
    struct sl_eal_config nowhere = {.run_dir = "/nonexistent/run", .file_prefix = "port", .cpu = -1};
    if (sl_eal_start(&nowhere, args, sizeof(args), err, sizeof(err)) >= 0 ||
        strstr(err, "/nonexistent/run") == NULL)
        return -1;
    if (sl_eal_start(&c, args, sizeof(args), err, sizeof(err)) != 0) {
        print_error("%s\n", err);
        return -1;
    }
    return strstr(args,
               "--no-huge --no-shconf -m 128 --single-file-segments --no-pci --log-level lib.eal:info") !=
                   NULL
               ? 0
               : -1;
}

static int end(void **state)
{
    char command[64];
    sl_eal_stop();
    snprintf(command, sizeof(command), "rm -rf '%s'", dir);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(eal__does_not_pin),
        cmocka_unit_test(eal__twice),
        cmocka_unit_test(drop_name__all_differ),
        cmocka_unit_test(tx__arrives),
        cmocka_unit_test(queues__are_apart),
        cmocka_unit_test(queues__as_many_as_there_are),
        cmocka_unit_test(tx__six),
        cmocka_unit_test(tx__resolves),
        cmocka_unit_test(rx__not_ours),
        cmocka_unit_test(tx__full),
        cmocka_unit_test(tx__unsendable),
        cmocka_unit_test(alloc__exhausted),
        cmocka_unit_test(rx__drops_by_name),
        cmocka_unit_test(split__joined),
        cmocka_unit_test(open__refused),
        cmocka_unit_test(tx__link_down),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
