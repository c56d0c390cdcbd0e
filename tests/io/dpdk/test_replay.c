/* A capture is replayed into an edge that knows its sessions' secret: what was sealed lands in the slot, and
 * every other frame of the file is counted by its name, by the port or by the endpoint. */
#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/headers.h"
#include "dataplane/io/dpdk/port.h"
#include "tests/ingest/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { SESSION = 1, FRAMES_MAX = 64, ROOM = 700, SPENT = 20 };
static char dir[] = "/tmp/sluice-test-XXXXXX";
static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};

struct file {
    FILE *at;
    unsigned frames;
};

static void open_file(struct file *f, const char *path)
{
    static const uint32_t header[6] = {0xa1b2c3d4, 4 << 16 | 2, 0, 0, 65535, 1}; /* libpcap's, Ethernet */
    f->at = fopen(path, "wb");
    f->frames = 0;
    assert_non_null(f->at);
    fwrite(header, sizeof(header), 1, f->at);
}

static void put_frame(struct file *f, const uint8_t *frame, uint32_t len)
{
    uint32_t record[4] = {f->frames++, 0, len, len};
    fwrite(record, sizeof(record), 1, f->at);
    fwrite(frame, len, 1, f->at);
}

/* Every other one over a tagged link. */
static uint32_t frame_of(const struct file *f, const uint8_t *payload, uint16_t len, uint8_t room[ROOM])
{
    uint64_t to = sl_neighbour(mac, f->frames & 1 ? 9 : 0);
    unsigned headers = sl_headers_bytes(true, to);
    struct sl_dgram d = {.data = room + headers, .len = len, .src = device_addr, .dst = edge_addr};
    memcpy(d.data, payload, len);
    sl_headers_write(&d, mac, to, SL_UDP_SUM_SOFTWARE);
    return headers + len;
}

static void put(struct file *f, const uint8_t *payload, uint16_t len)
{
    uint8_t room[ROOM];
    uint32_t n = frame_of(f, payload, len, room);
    put_frame(f, room, n);
}

static void put_units(
    struct file *f, struct edge *e, uint32_t grant, uint32_t unit0, uint16_t n, uint8_t fill)
{
    uint8_t bytes[600];
    put(f, bytes, seal_data(&e->sealer[SESSION], e->pn[SESSION]++, grant, unit0, n, fill, bytes));
}

/* What is no datagram: one of each name. */
static void put_refused_by_port(struct file *f)
{
    static const uint8_t payload[40] = {1};
    uint8_t room[ROOM];
    f->frames += f->frames & 1; /* untagged */
    uint32_t n = frame_of(f, payload, sizeof(payload), room);
    room[12] = 0x88; /* neither IPv4 nor IPv6 */
    put_frame(f, room, n);
    f->frames += f->frames & 1;
    n = frame_of(f, payload, sizeof(payload), room);
    room[SL_ETH_BYTES + 8]--; /* TTL */
    put_frame(f, room, n);
    f->frames += f->frames & 1;
    n = frame_of(f, payload, sizeof(payload), room);
    put_frame(f, room, n - 1);
    f->frames += f->frames & 1;
    n = frame_of(f, payload, sizeof(payload), room);
    room[SL_ETH_BYTES + 6] = 0x20; /* DF becomes MF, and the sum moves with it */
    room[SL_ETH_BYTES + 10] = (uint8_t)(room[SL_ETH_BYTES + 10] + 0x20);
    put_frame(f, room, n);
}

/* What is no packet of ours, or not wanted: one of each name. */
static void put_refused_by_endpoint(struct file *f, struct edge *e, uint32_t grant)
{
    uint8_t bytes[600];
    struct sealer *s = &e->sealer[SESSION];
    uint16_t len = seal_data(s, e->pn[SESSION]++, grant, 4, 4, 'x', bytes);
    put(f, bytes, 10); /* too_short */
    bytes[len - 1] ^= 1;
    put(f, bytes, len); /* bad_tag */
    bytes[0] ^= 0x40;
    put(f, bytes, len); /* version */
    len = seal_data(s, 0, grant, 0, 4, 'x', bytes);
    put(f, bytes, len); /* replayed: the number is the REQUEST's */
    bytes[15] ^= 1;
    put(f, bytes, len); /* unknown_session */
    len = seal_data(s, e->pn[SESSION]++, grant + 7, 0, 4, 'x', bytes);
    put(f, bytes, len); /* no_grant */
    len = seal_data(s, e->pn[SESSION]++, grant, 2, 4, 'x', bytes);
    put(f, bytes, len); /* off_grid */
}

/* The grant's index is the same for the same history: told by a rehearsal. */
static uint32_t rehearse(void)
{
    static struct edge e;
    edge_init(&e, &(struct edge_options){.n_slots = 2});
    edge_open(&e, SESSION, 1);
    ask(&e, SESSION, SPENT);
    turn(&e);
    uint32_t grant = granted_index(&e, SESSION);
    edge_free(&e);
    return grant;
}

static void write_capture(const char *path, struct edge *e, uint32_t grant)
{
    struct file f;
    uint8_t bytes[600];
    struct sl_frame request = {.type = SL_FRAME_REQUEST, .request = request_of(SPENT, ROWS)};
    open_file(&f, path);
    put(&f, bytes, seal_frame(&e->sealer[SESSION], e->pn[SESSION]++, &request, bytes));
    put_units(&f, e, grant, 8, 3, 'c');
    put_refused_by_port(&f);
    put_units(&f, e, grant, 0, 4, 'a');
    put_refused_by_endpoint(&f, e, grant);
    put_units(&f, e, grant, 4, 4, 'b');
    put_units(&f, e, grant, 4, 4, 'B'); /* late: it is there */
    fclose(f.at);
}

static unsigned replay(struct sl_port *port, struct edge *e)
{
    struct sl_queue *q = sl_port_queue(port, 0);
    struct sl_dgram d;
    unsigned got = 0;
    for (unsigned i = 0; i < 1000; i++) {
        if (sl_queue_rx(q, &d, 1) == 1) {
            struct sl_rx rx = {.pkt = d.data, .len = d.len, .ecn = d.ecn, .local = d.dst, .remote = d.src};
            sl_rx_burst(e->endpoint, &rx, 1, e->now_ns);
            sl_queue_free(q, &d, 1);
            sl_ingest_poll(e->ingest, e->now_ns);
            got++;
        }
    }
    return got;
}

static void replay__fills_the_slot(void **state)
{
    static struct edge e;
    char path[64], device[80], err[512];
    struct sl_port *port;
    struct sl_port_stats p;
    struct sl_endpoint_stats s;
    uint32_t grant = rehearse();
    snprintf(path, sizeof(path), "%s/run.pcap", dir);
    snprintf(device, sizeof(device), "pcap:%s", path);
    edge_init(&e, &(struct edge_options){.n_slots = 2});
    edge_open(&e, SESSION, 1);
    write_capture(path, &e, grant);
    struct sl_dpdk_port_config c = {.device = device, .n_mbufs = 1024};
    if (sl_dpdk_port_open(&c, &port, err, sizeof(err)) != 0)
        fail_msg("%s", err);
    unsigned got = replay(port, &e);
    sl_port_stats(port, &p);
    assert_int_equal(got, 12);
    assert_int_equal(p.rx_packets, 12);
    assert_int_equal(p.drops[SL_PORT_NOT_UDP], 1);
    assert_int_equal(p.drops[SL_PORT_BAD_CHECKSUM], 1);
    assert_int_equal(p.drops[SL_PORT_BAD_LENGTH], 1);
    assert_int_equal(p.drops[SL_PORT_IP_FRAGMENT], 1);
    static const enum sl_drop once[] = {SL_DROP_TOO_SHORT, SL_DROP_BAD_TAG, SL_DROP_VERSION, SL_DROP_REPLAYED,
        SL_DROP_UNKNOWN_SESSION, SL_DROP_NO_GRANT, SL_DROP_OFF_GRID};
    sl_endpoint_stats(e.endpoint, &s);
    for (unsigned i = 0; i < sizeof(once) / sizeof(once[0]); i++)
        assert_int_equal(s.drops[once[i]], 1);
    assert_accounts(e.endpoint);
    assert_int_equal(s.packets_rx, 12);
    assert_int_equal(s.delivered_data, 3);
    assert_int_equal(s.scratch, 1);
    struct sl_slot *slot = trainer_takes(&e);
    assert_non_null(slot);
    for (unsigned i = 0; i < UNITS * SL_UNIT_BYTES; i++)
        assert_int_equal(slot->data[i], i / SL_UNIT_BYTES < 4 ? 'a' : i / SL_UNIT_BYTES < 8 ? 'b' : 'c');
    assert_null(trainer_takes(&e));
    sl_port_close(port);
    edge_free(&e);
}

static int begin(void **state)
{
    char args[1024], err[512];
    struct sl_eal_config c = {.run_dir = dir, .file_prefix = "replay", .memory_mib = 64, .cpu = -1};
    if (mkdtemp(dir) == NULL)
        return -1;
    int ret = sl_eal_start(&c, args, sizeof(args), err, sizeof(err));
    if (ret != 0)
        print_error("%s\n", err);
    return ret;
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
    const struct CMUnitTest tests[] = {cmocka_unit_test(replay__fills_the_slot)};
    return cmocka_run_group_tests(tests, begin, end);
}
