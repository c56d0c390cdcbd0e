/* Our transport's flow: the phone sends messages of 192 KiB, several under way, each acknowledged whole
 * before the next takes its place. The edge opens every packet to its place, so that a byte counts once. */
#include "dataplane/io/lcore/clock.h"
#include "dataplane/transport/endpoint.h"
#include "tests/bench/link_flow.h"
#include "tests/bench/tun.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    UNITS = 3072, /* of a message */
    MESSAGES = 8, /* under way */
    SESSION = 1,
    UDP_PORT = 7448,
    IP_UDP_BYTES = 28,
    PACKET_BYTES = 48, /* of ours around the units (dataplane/wire/packet.h) */
    BURST = 32,
    DATAGRAM_MOST = 2048,
    LOOK_NS = 10000000,
};
enum unit { UNIT_FREE, UNIT_CLAIMED, UNIT_RECEIVED };

struct message {
    uint32_t grant;
    uint8_t unit[UNITS];
    uint8_t bytes[UNITS * SL_UNIT_BYTES];
};
struct end {
    struct bench_flow *flow;
    struct sl_endpoint *endpoint;
    struct message *message; /* [MESSAGES]; the phone sends the first over and over */
    uint32_t next_grant;
    unsigned done;
    int fd;
    uint8_t (*room)[DATAGRAM_MOST]; /* [BURST] */
};

static void place_one(struct end *e, struct sl_rx *rx)
{
    struct message *m = &e->message[rx->grant % MESSAGES];

    if (rx->grant > m->grant) { /* the one before is done, or the phone would not have begun this */
        m->grant = rx->grant;
        memset(m->unit, UNIT_FREE, sizeof(m->unit));
    }
    rx->how = SL_SCRATCH;
    if (rx->grant < m->grant)
        return;
    if (rx->unit0 + rx->n_units > UNITS) {
        rx->how = SL_REFUSE;
        rx->reason = SL_DROP_OFF_GRID;
        return;
    }
    if (m->unit[rx->unit0] == UNIT_CLAIMED) {
        rx->how = SL_DEFER;
    } else if (m->unit[rx->unit0] == UNIT_FREE) {
        rx->how = SL_PLACE;
        rx->dst = m->bytes + (size_t)rx->unit0 * SL_UNIT_BYTES;
        memset(m->unit + rx->unit0, UNIT_CLAIMED, rx->n_units);
    }
}

static void place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        place_one(sink, rx[i]);
}

static void commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok_mask)
{
    struct end *e = sink;

    for (unsigned i = 0; i < n; i++) {
        if (rx[i]->how != SL_PLACE)
            continue;
        bool ok = ok_mask >> i & 1;
        memset(e->message[rx[i]->grant % MESSAGES].unit + rx[i]->unit0, ok ? UNIT_RECEIVED : UNIT_FREE,
            rx[i]->n_units);
        if (ok)
            __atomic_add_fetch(
                &e->flow->received, (uint64_t)rx[i]->n_units * SL_UNIT_BYTES, __ATOMIC_RELEASE);
    }
}

static const uint8_t *source(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n)
{
    struct end *e = sink;

    return e->message[0].bytes + (size_t)unit0 * SL_UNIT_BYTES;
}

static void done(void *sink, uint32_t session, uint32_t grant, enum sl_done why)
{
    struct end *e = sink;

    e->done += why == SL_DONE_ACKED;
}

static void frame(void *sink, uint32_t session, const struct sl_frame *f, uint64_t now_ns)
{
}

static const struct sl_sink_ops sink_ops = {
    .place = place, .commit = commit, .source = source, .done = done, .frame = frame};

static struct sl_addr address(enum bench_flow_end end)
{
    return (struct sl_addr){
        .ip = {[10] = 0xff, [11] = 0xff, 10, 99, 0, (uint8_t)(end + 1)}, .port = UDP_PORT};
}

static int open_end(struct end *e, enum bench_flow_end end)
{
    bool edge = end == BENCH_FLOW_EDGE;
    uint64_t id[2] = {sl_session_id(0, SESSION, 0xe), sl_session_id(0, SESSION, 0xd)};
    struct sl_endpoint_config c = {.max_sessions = SESSION + 1,
        .max_sends = MESSAGES,
        .max_message_units = UNITS,
        .window_packets = e->flow->window,
        .is_edge = edge};
    struct sl_session_config s = {.local_id = id[edge ? 0 : 1],
        .peer_id = id[edge ? 1 : 0],
        .secret = {7},
        .fragment_units = (uint16_t)((e->flow->mtu - IP_UDP_BYTES - PACKET_BYTES) / SL_UNIT_BYTES),
        .mtu = e->flow->mtu,
        .local = address(end)};
    struct sockaddr_in own = bench_tun_address(end, UDP_PORT), other = bench_tun_address(1 - end, UDP_PORT);

    if (!edge)
        s.remote = address(BENCH_FLOW_EDGE);
    e->message = calloc(MESSAGES, sizeof(*e->message));
    e->room = calloc(BURST, sizeof(*e->room));
    if (e->message == NULL || e->room == NULL)
        return -ENOMEM;
    e->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (e->fd < 0 || bind(e->fd, (struct sockaddr *)&own, sizeof(own)) != 0 ||
        connect(e->fd, (struct sockaddr *)&other, sizeof(other)) != 0)
        return -errno;
    int ret = sl_endpoint_create(&c, &sink_ops, e, &e->endpoint);
    return ret != 0 ? ret : sl_endpoint_open(e->endpoint, &s, sl_clock_ns());
}

static void receive(struct end *e, enum bench_flow_end end)
{
    struct sl_rx rx[BURST] = {0};
    unsigned n = 0;

    for (; n < BURST; n++) {
        ssize_t len = recv(e->fd, e->room[n], DATAGRAM_MOST, 0);
        if (len <= 0)
            break;
        rx[n] = (struct sl_rx){
            .pkt = e->room[n], .len = (uint16_t)len, .local = address(end), .remote = address(1 - end)};
    }
    if (n > 0)
        sl_rx_burst(e->endpoint, rx, n, sl_clock_ns());
}

static void transmit(struct end *e)
{
    struct sl_tx tx[BURST];
    unsigned n;

    do {
        for (unsigned i = 0; i < BURST; i++)
            tx[i] = (struct sl_tx){.buf = e->room[i], .cap = DATAGRAM_MOST};
        n = sl_tx_burst(e->endpoint, tx, BURST, sl_clock_ns());
        for (unsigned i = 0; i < n; i++)
            if (send(e->fd, tx[i].buf, tx[i].len, 0) < 0 && errno != EAGAIN && errno != ECONNREFUSED)
                bench_flow_fail(e->flow, "a UDP socket: %s", strerror(errno));
    } while (n == BURST);
}

static void feed(struct end *e)
{
    while (e->next_grant < e->done + MESSAGES &&
           sl_endpoint_send(e->endpoint, SESSION, e->next_grant + 1, UNITS, sl_clock_ns()) == 0)
        e->next_grant++;
}

static void rest(struct end *e)
{
    uint64_t now = sl_clock_ns(), at = sl_next_deadline(e->endpoint);
    uint64_t ns = at <= now ? 0 : at - now < LOOK_NS ? at - now : LOOK_NS;
    struct pollfd p = {.fd = e->fd, .events = POLLIN};

    ppoll(&p, 1, &(struct timespec){.tv_nsec = (long)ns}, NULL);
}

static void look(struct end *e)
{
    struct sl_session_stats s;

    if (sl_session_stats(e->endpoint, SESSION, &s) != 0)
        return;
    __atomic_store_n(&e->flow->rtt_ns, s.smoothed_rtt_ns, __ATOMIC_RELEASE);
    __atomic_store_n(&e->flow->sent_again, s.retransmits, __ATOMIC_RELEASE);
}

void bench_flow_sluice(struct bench_flow *f, enum bench_flow_end end)
{
    struct end e = {.flow = f, .fd = -1};
    int ret = open_end(&e, end);

    if (ret != 0)
        bench_flow_fail(f, "an end of our transport: %s", strerror(-ret));
    pthread_barrier_wait(&f->met);
    while (!bench_flow_over(f)) {
        if (end == BENCH_FLOW_PHONE) {
            feed(&e);
            look(&e);
        }
        transmit(&e);
        rest(&e);
        receive(&e, end);
    }
    if (e.fd >= 0)
        close(e.fd);
    sl_endpoint_free(e.endpoint);
    free(e.message);
    free(e.room);
}
