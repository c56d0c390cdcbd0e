/* Two UDP ports of one process talk over loopback: what goes in comes out, or is dropped under a name. */
#include "dataplane/io/uring/udp_internal.h"
#include "tests/wire/test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE = 20000, LEN = 1400 };

static struct sl_addr v4(uint8_t b, uint8_t c, uint8_t d, uint16_t port)
{
    return (struct sl_addr){.ip = {[10] = 0xff, [11] = 0xff, [12] = 127, b, c, d}, .port = port};
}

static const struct sl_addr v6_loopback = {.ip = {[15] = 1}}, v4_any = {.ip = {[10] = 0xff, [11] = 0xff}};

struct end {
    struct sl_port *port;
    struct sl_queue *queue;
    struct sl_addr at;
};

static struct end open_end(struct sl_uring_port_config c)
{
    struct end e;
    char err[256] = "";

    if (sl_uring_port_open(&c, &e.port, err, sizeof(err)) != 0)
        fail_msg("%s", err);
    e.queue = sl_port_queue(e.port, 0);
    if (sl_queue_enter(e.queue, err, sizeof(err)) != 0)
        fail_msg("%s", err);
    e.at = sl_uring_port_address(e.port, 0);
    return e;
}

static struct end loopback(bool plain)
{
    return open_end((struct sl_uring_port_config){.local = v4(0, 0, 1, 0), .plain = plain});
}

static void close_end(struct end *e)
{
    sl_queue_leave(e->queue);
    sl_port_close(e->port);
}

static uint64_t dropped(const struct end *e, enum sl_port_drop why)
{
    struct sl_port_stats s;

    sl_port_stats(e->port, &s);
    return s.drops[why];
}

/* A datagram's bytes follow from its number. */
static void fill(struct sl_dgram *d, uint16_t len, uint32_t number)
{
    d->len = len;
    for (unsigned i = 0; i < len; i++)
        d->data[i] = (uint8_t)(number * 31 + i);
}

static void assert_filled(const struct sl_dgram *d, uint16_t len, uint32_t number)
{
    assert_int_equal(d->len, len);
    for (unsigned i = 0; i < len; i++)
        if (d->data[i] != (uint8_t)(number * 31 + i))
            fail_msg("datagram %u: byte %u differs", number, i);
}

static unsigned send_some(
    struct end *from, const struct sl_addr *to, unsigned n, const uint16_t *len, uint32_t first)
{
    struct sl_dgram d[SL_PORT_BURST];

    assert_int_equal(sl_queue_alloc(from->queue, d, n), n);
    for (unsigned i = 0; i < n; i++) {
        fill(&d[i], len[i], first + i);
        d[i].src = from->at;
        d[i].dst = *to;
    }
    return sl_queue_tx(from->queue, d, n);
}

static unsigned send_equal(struct end *from, const struct sl_addr *to, unsigned n, uint32_t first)
{
    uint16_t len[SL_PORT_BURST];

    for (unsigned i = 0; i < n; i++)
        len[i] = LEN;
    return send_some(from, to, n, len, first);
}

/* At least `least`, unless nothing comes for long. */
static unsigned receive(struct end *e, struct sl_dgram *d, unsigned least, unsigned cap)
{
    unsigned got = 0;

    for (unsigned i = 0; i < PATIENCE && got < least; i++) {
        unsigned n = cap - got < SL_PORT_BURST ? cap - got : SL_PORT_BURST;
        got += sl_queue_rx(e->queue, d + got, n);
        if (got < least)
            usleep(10);
    }
    return got;
}

static void free_all(struct end *e, struct sl_dgram *d, unsigned n)
{
    sl_queue_free(e->queue, d, n);
}

static void tx__a_run_of_equal_ones_is_one_message_each_way(void **state)
{
    struct end a = loopback(false), b = loopback(false);
    struct sl_uring_port_calls sent, received;
    struct sl_dgram d[32];
    uint16_t len[32];

    for (unsigned i = 0; i < 32; i++)
        len[i] = i == 31 ? 100 : LEN;
    assert_int_equal(send_some(&a, &b.at, 32, len, 0), 32);
    assert_int_equal(receive(&b, d, 32, 32), 32);
    for (unsigned i = 0; i < 32; i++) {
        assert_filled(&d[i], len[i], i);
        assert_memory_equal(&d[i].src, &a.at, sizeof(a.at));
        assert_memory_equal(&d[i].dst, &b.at, sizeof(b.at));
    }
    sl_uring_port_calls(a.port, &sent);
    sl_uring_port_calls(b.port, &received);
    assert_int_equal(sent.sends, 1);
    assert_int_equal(received.receives, 1);
    /* They share a buffer, which goes back with the last of them, in whatever order. */
    for (unsigned i = 0; i < 32; i++)
        free_all(&b, &d[(i * 7) % 32], 1);
    assert_int_equal(((struct sl_udp_queue *)b.queue)->n_out, 0);
    close_end(&a);
    close_end(&b);
}

static void tx__another_length_address_or_mark_ends_a_run(void **state)
{
    struct end a = loopback(false), b = loopback(false), c = loopback(false);
    static const uint16_t len[8] = {LEN, LEN, 700, 700, 900, LEN, LEN, LEN};
    struct sl_uring_port_calls calls;
    struct sl_dgram d[8];

    assert_int_equal(sl_queue_alloc(a.queue, d, 8), 8);
    for (unsigned i = 0; i < 8; i++) {
        fill(&d[i], len[i], i);
        d[i].src = a.at;
        d[i].dst = i == 6 ? c.at : b.at;
        d[i].ecn = i == 7 ? 1 : 0;
    }
    assert_int_equal(sl_queue_tx(a.queue, d, 8), 8);
    sl_uring_port_calls(a.port, &calls);
    assert_int_equal(calls.sends, 6); /* 1400 1400 700 | 700 | 900 | 1400 | to c | marked */
    assert_int_equal(receive(&b, d, 7, 8), 7);
    for (unsigned i = 0; i < 7; i++) {
        unsigned number = i < 6 ? i : 7;
        assert_filled(&d[i], len[number], number);
        assert_int_equal(d[i].ecn, i < 6 ? 0 : 1);
    }
    free_all(&b, d, 7);
    assert_int_equal(receive(&c, d, 1, 8), 1);
    assert_filled(&d[0], LEN, 6);
    free_all(&c, d, 1);
    close_end(&a);
    close_end(&b);
    close_end(&c);
}

static void plain__is_one_by_one(void **state)
{
    struct end a = loopback(true), b = loopback(true);
    struct sl_uring_port_calls sent, received;
    struct sl_dgram d[32];

    assert_int_equal(send_equal(&a, &b.at, 32, 0), 32);
    assert_int_equal(receive(&b, d, 32, 32), 32);
    for (unsigned i = 0; i < 32; i++)
        assert_filled(&d[i], LEN, i);
    free_all(&b, d, 32);
    sl_uring_port_calls(a.port, &sent);
    sl_uring_port_calls(b.port, &received);
    assert_int_equal(sent.sends, 32);
    assert_int_equal(received.receives, 32);
    assert_true(sent.enters < 8); /* none for each */
    close_end(&a);
    close_end(&b);
}

/* sent = received + dropped by name, where the receiver sleeps and the sender does not stop. */
static void rx__a_flood_is_received_or_counted(void **state)
{
    enum { BURSTS = 2000, N = 32 };
    struct end a = loopback(true), b = loopback(true);
    struct sl_dgram d[SL_PORT_BURST];
    struct sl_port_stats sent, received;
    uint64_t got = 0;

    for (unsigned i = 0; i < BURSTS; i++)
        send_equal(&a, &b.at, N, 0);
    for (unsigned quiet = 0; quiet < 100;) {
        unsigned n = sl_queue_rx(b.queue, d, SL_PORT_BURST);
        free_all(&b, d, n);
        got += n;
        quiet = n ? 0 : quiet + 1;
        if (!n)
            usleep(100);
    }
    sl_port_stats(a.port, &sent);
    sl_port_stats(b.port, &received);
    assert_int_equal(received.rx_packets, got);
    assert_true(received.drops[SL_PORT_RX_FULL] > 0);
    assert_int_equal(sent.tx_packets, got + received.drops[SL_PORT_RX_FULL]);
    assert_int_equal(sent.tx_packets + sent.drops[SL_PORT_TX_FULL], BURSTS * N);
    close_end(&a);
    close_end(&b);
}

static void rx__goes_on_after_every_buffer_was_held(void **state)
{
    enum { N = 4 * SL_UDP_RX_BUFFERS };
    struct end a = loopback(true), b = open_end((struct sl_uring_port_config){
                                       .local = v4(0, 0, 1, 0), .plain = true, .n_buffers = 8});
    struct sl_dgram *d = calloc(N, sizeof(*d));
    struct sl_uring_port_calls calls;

    for (unsigned i = 0; i < N; i += 32)
        assert_int_equal(send_equal(&a, &b.at, 32, i), 32);
    unsigned held = receive(&b, d, SL_UDP_RX_BUFFERS + 8, N);
    assert_int_equal(held, SL_UDP_RX_BUFFERS + 8); /* every buffer, and the pool's by copying */
    struct sl_dgram none;
    assert_int_equal(sl_queue_rx(b.queue, &none, 1), 0);
    sl_uring_port_calls(b.port, &calls);
    assert_int_equal(calls.copies, 8);
    uint64_t before = calls.rearms;
    for (unsigned i = 0; i < held; i++)
        assert_filled(&d[i], LEN, i);
    free_all(&b, d, held);
    for (unsigned at = held; at < N;) {
        unsigned n = receive(&b, d, 1, 32);
        assert_true(n > 0);
        for (unsigned i = 0; i < n; i++)
            assert_filled(&d[i], LEN, at + i);
        free_all(&b, d, n);
        at += n;
    }
    sl_uring_port_calls(b.port, &calls);
    assert_true(calls.rearms > before);
    free(d);
    close_end(&a);
    close_end(&b);
}

static void alloc__is_all_or_nothing(void **state)
{
    struct end a = open_end((struct sl_uring_port_config){.local = v4(0, 0, 1, 0), .n_buffers = 8});
    struct sl_dgram d[8];

    assert_int_equal(sl_queue_alloc(a.queue, d, 6), 6);
    assert_int_equal(sl_queue_alloc(a.queue, d + 6, 4), 0);
    assert_int_equal(dropped(&a, SL_PORT_NO_BUFFER), 4);
    free_all(&a, d, 6);
    assert_int_equal(sl_queue_alloc(a.queue, d, 8), 8);
    free_all(&a, d, 8);
    close_end(&a);
}

static void rx__what_the_mtu_forbids_is_dropped(void **state)
{
    struct end a = open_end((struct sl_uring_port_config){.local = v4(0, 0, 1, 0), .mtu = 9000}),
               b = loopback(false);
    static const uint16_t len[3] = {1472, 1473, 8972};
    struct sl_dgram d[4];

    assert_int_equal(send_some(&a, &b.at, 3, len, 0), 3);
    assert_int_equal(receive(&b, d, 1, 4), 1);
    assert_filled(&d[0], 1472, 0);
    for (unsigned i = 0; i < PATIENCE && dropped(&b, SL_PORT_BAD_LENGTH) < 2; i++) {
        assert_int_equal(sl_queue_rx(b.queue, d + 1, 1), 0);
        usleep(10);
    }
    assert_int_equal(dropped(&b, SL_PORT_BAD_LENGTH), 2);
    free_all(&b, d, 1);
    close_end(&a);
    close_end(&b);
}

static void tx__what_has_no_way_is_dropped_by_name(void **state)
{
    struct end a = loopback(false);
    struct sl_addr broadcast = v4(0, 0, 0, 9), six = v6_loopback;
    struct sl_dgram d;

    memset(broadcast.ip + 12, 255, 4); /* EACCES: not asked for */
    six.port = 9;
    assert_int_equal(send_equal(&a, &broadcast, 2, 0), 2);
    for (unsigned i = 0; i < PATIENCE && dropped(&a, SL_PORT_UNREACHABLE) < 2; i++)
        assert_int_equal(sl_queue_rx(a.queue, &d, 1), 0);
    assert_int_equal(dropped(&a, SL_PORT_UNREACHABLE), 2);
    assert_int_equal(send_equal(&a, &six, 2, 0), 0);
    assert_int_equal(dropped(&a, SL_PORT_UNREACHABLE), 4);
    assert_int_equal(((struct sl_udp_queue *)a.queue)->n_slot_free, SL_UDP_SLOTS);
    assert_int_equal(((struct sl_udp_queue *)a.queue)->n_pool_free, 8192);
    close_end(&a);
}

static void tx__one_by_one_where_the_interface_cannot_cut_runs(void **state)
{
    struct end a = loopback(false), b = loopback(false);
    struct sl_udp_queue *q = (struct sl_udp_queue *)a.queue;
    struct sl_dgram d[4];

    /* As the kernel answers then: the run's one completion is -EIO. */
    assert_int_equal(sl_queue_alloc(a.queue, d, 4), 4);
    unsigned index = q->slot_free[--q->n_slot_free];
    struct sl_udp_slot *s = &q->slots[index];
    s->n = 4;
    s->socket = 0;
    s->ecn = 2;
    s->from = a.at;
    sl_udp_write_name(&s->to, &b.at);
    for (unsigned i = 0; i < 4; i++) {
        fill(&d[i], LEN, i);
        s->buffer[i] = d[i].buffer;
        s->iov[i] = (struct iovec){.iov_base = d[i].data, .iov_len = LEN};
    }
    sl_udp_sent(q, index, -EIO, 0);
    assert_int_equal(q->n_slot_free, SL_UDP_SLOTS - 4);
    assert_int_equal(sl_queue_rx(a.queue, d, 1), 0); /* submits, and takes the answers */
    assert_int_equal(receive(&b, d, 4, 4), 4);
    for (unsigned i = 0; i < 4; i++) {
        assert_filled(&d[i], LEN, i);
        assert_int_equal(d[i].ecn, 2);
    }
    assert_int_equal(q->n_pool_free, q->n_slot_free == SL_UDP_SLOTS ? 8192 : 0);
    free_all(&b, d, 4);
    assert_int_equal(send_equal(&a, &b.at, 4, 0), 4); /* no run any more */
    struct sl_uring_port_calls calls;
    sl_uring_port_calls(a.port, &calls);
    assert_int_equal(calls.sends, 8);
    close_end(&a);
    close_end(&b);
}

static void ipv6__carries_runs_and_marks(void **state)
{
    struct end a, b;
    struct sl_dgram d[16];
    int fd = socket(AF_INET6, SOCK_DGRAM, 0);
    union sl_udp_name name;
    bool there = fd >= 0 && bind(fd, &name.any, sl_udp_write_name(&name, &v6_loopback)) == 0;

    if (fd >= 0)
        close(fd);
    if (!there) {
        printf("SKIP: IPv6 on the loopback interface\n");
        skip();
    }
    a = open_end((struct sl_uring_port_config){.local = v6_loopback});
    b = open_end((struct sl_uring_port_config){.local = v6_loopback});
    assert_int_equal(sl_queue_alloc(a.queue, d, 16), 16);
    for (unsigned i = 0; i < 16; i++) {
        assert_int_equal(d[i].len, 1500 - 48);
        fill(&d[i], LEN, i);
        d[i].src = a.at;
        d[i].dst = b.at;
        d[i].ecn = 2;
    }
    assert_int_equal(sl_queue_tx(a.queue, d, 16), 16);
    assert_int_equal(receive(&b, d, 16, 16), 16);
    for (unsigned i = 0; i < 16; i++) {
        assert_filled(&d[i], LEN, i);
        assert_int_equal(d[i].ecn, 2);
        assert_memory_equal(&d[i].src, &a.at, sizeof(a.at));
        assert_memory_equal(&d[i].dst, &b.at, sizeof(b.at));
    }
    free_all(&b, d, 16);
    close_end(&a);
    close_end(&b);
}

/* The simulator's phones with an address each: one socket. */
static void any_address__keeps_apart_whom_it_stands_for(void **state)
{
    struct end edge = loopback(false), phones = open_end((struct sl_uring_port_config){.local = v4_any});
    struct sl_dgram d[8];

    assert_int_equal(sl_queue_alloc(phones.queue, d, 8), 8);
    for (unsigned i = 0; i < 8; i++) {
        fill(&d[i], LEN, i);
        d[i].src = v4(77, 1, (uint8_t)(1 + i / 2), phones.at.port);
        d[i].dst = edge.at;
    }
    assert_int_equal(sl_queue_tx(phones.queue, d, 8), 8);
    assert_int_equal(receive(&edge, d, 8, 8), 8);
    for (unsigned i = 0; i < 8; i++) {
        struct sl_addr expected = v4(77, 1, (uint8_t)(1 + i / 2), phones.at.port), swap = d[i].src;
        assert_memory_equal(&d[i].src, &expected, sizeof(expected));
        d[i].src = d[i].dst;
        d[i].dst = swap;
    }
    assert_int_equal(sl_queue_tx(edge.queue, d, 8), 8); /* received ones may be sent */
    assert_int_equal(receive(&phones, d, 8, 8), 8);
    for (unsigned i = 0; i < 8; i++) {
        struct sl_addr expected = v4(77, 1, (uint8_t)(1 + i / 2), phones.at.port);
        assert_memory_equal(&d[i].dst, &expected, sizeof(expected));
        assert_memory_equal(&d[i].src, &edge.at, sizeof(edge.at));
        assert_filled(&d[i], LEN, i);
    }
    free_all(&phones, d, 8);
    close_end(&edge);
    close_end(&phones);
}

/* The simulator's phones with a port each. */
static void sockets__one_queue_reads_them_all(void **state)
{
    enum { SOCKETS = 300 };
    struct end edge = loopback(false), phones;
    struct sl_port *p = NULL;
    struct sl_dgram d[SOCKETS];
    char err[256];
    uint16_t first = 20000;

    for (; p == NULL && first < 30000; first += SOCKETS)
        sl_uring_port_open(&(struct sl_uring_port_config){.local = v4(0, 0, 1, first), .n_sockets = SOCKETS},
            &p, err, sizeof(err));
    assert_non_null(p);
    phones = (struct end){.port = p, .queue = sl_port_queue(p, 0), .at = sl_uring_port_address(p, 0)};
    assert_int_equal(sl_queue_enter(phones.queue, err, sizeof(err)), 0);
    for (unsigned i = 0; i < SOCKETS; i++) {
        struct sl_addr to = phones.at;
        to.port = (uint16_t)(to.port + i);
        assert_int_equal(send_equal(&edge, &to, 1, i), 1);
        assert_int_equal(receive(&phones, d, 1, 1), 1);
        assert_int_equal(d[0].dst.port, to.port);
        struct sl_addr swap = d[0].src;
        d[0].src = d[0].dst;
        d[0].dst = swap;
        assert_int_equal(sl_queue_tx(phones.queue, d, 1), 1);
        assert_int_equal(receive(&edge, d, 1, 1), 1);
        assert_int_equal(d[0].src.port, to.port);
        free_all(&edge, d, 1);
    }
    close_end(&edge);
    close_end(&phones);
}

static void *wake_later(void *queue)
{
    usleep(20000);
    sl_queue_wake(queue);
    return NULL;
}

static void sleep__ends_with_a_datagram_or_a_call(void **state)
{
    struct end a = loopback(false), b = loopback(false);
    struct sl_dgram d[1];
    pthread_t thread;
    const uint64_t for_ever = UINT64_C(3600) * 1000000000; /* the test runner would notice */

    sl_queue_sleep(b.queue, 1000);
    assert_int_equal(send_equal(&a, &b.at, 1, 0), 1);
    sl_queue_sleep(b.queue, for_ever);
    assert_int_equal(receive(&b, d, 1, 1), 1);
    free_all(&b, d, 1);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&thread, NULL, wake_later, b.queue), 0);
        sl_queue_sleep(b.queue, for_ever);
        assert_int_equal(sl_queue_rx(b.queue, d, 1), 0);
        pthread_join(thread, NULL);
    }
    close_end(&a);
    close_end(&b);
}

static void leave__what_is_held_can_be_freed_and_the_port_entered_again(void **state)
{
    struct end a = loopback(false), b = loopback(false);
    struct sl_dgram d[4], more[4];
    char err[256];

    assert_int_equal(send_equal(&a, &b.at, 4, 0), 4);
    assert_int_equal(receive(&b, d, 2, 2), 2); /* the other two are still in the buffer */
    sl_queue_leave(b.queue);
    free_all(&b, d, 1);
    assert_int_equal(sl_queue_enter(b.queue, err, sizeof(err)), 0);
    assert_filled(&d[1], LEN, 1);
    assert_int_equal(send_equal(&a, &b.at, 4, 10), 4);
    assert_int_equal(receive(&b, more, 4, 4), 4);
    for (unsigned i = 0; i < 4; i++)
        assert_filled(&more[i], LEN, 10 + i);
    assert_filled(&d[1], LEN, 1);
    free_all(&b, d + 1, 1);
    free_all(&b, more, 4);
    assert_int_equal(((struct sl_udp_queue *)b.queue)->n_out, 0);
    close_end(&a);
    close_end(&b);
}

static void open__says_what_to_do(void **state)
{
    struct end a = loopback(false);
    struct sl_port *p;
    char err[256];
    struct sl_addr elsewhere = v4(0, 0, 1, 5000);

    assert_int_equal(
        sl_uring_port_open(&(struct sl_uring_port_config){.local = a.at}, &p, err, sizeof(err)), -EADDRINUSE);
    assert_non_null(strstr(err, "another program has that port"));
    assert_null(p);
    elsewhere.ip[12] = 192; /* 192.0.2.1: for documentation, RFC 5737 */
    elsewhere.ip[14] = 2;
    assert_int_equal(
        sl_uring_port_open(&(struct sl_uring_port_config){.local = elsewhere}, &p, err, sizeof(err)),
        -EADDRNOTAVAIL);
    assert_non_null(strstr(err, "192.0.2.1:5000"));
    assert_int_equal(
        sl_uring_port_open(
            &(struct sl_uring_port_config){.local = v4(0, 0, 1, 65000), .n_queues = 2, .n_sockets = 300}, &p,
            err, sizeof(err)),
        -EINVAL);
    assert_int_equal(
        sl_uring_port_open(&(struct sl_uring_port_config){.local = a.at, .mtu = 100}, &p, err, sizeof(err)),
        -EINVAL);
    close_end(&a);
}

static void local_address__is_the_way_to_loopback(void **state)
{
    struct sl_addr to = v4(0, 0, 9, 4433), got, expected = v4(0, 0, 1, 0);

    assert_int_equal(sl_uring_local_address(&to, &got), 0);
    assert_memory_equal(&got, &expected, sizeof(got));
}

/* ---- control messages ---- */

static void control__is_read_as_written(void **state)
{
    uint8_t text[SL_UDP_CONTROL_BYTES];
    struct sl_addr from = v4(1, 2, 3, 5);
    struct sl_udp_control c;

    for (int six = 0; six < 2; six++) {
        size_t len = sl_udp_write_control(text, sizeof(text), six, 0, 3, &from);
        sl_udp_read_control(text, len, &c);
        assert_int_equal(c.ecn, 3);
        assert_true(c.has_local);
        assert_false(c.fragmented);
        assert_int_equal(c.segment, 0);
        if (six)
            assert_memory_equal(c.local, from.ip, 16);
    }
    assert_int_equal(sl_udp_write_control(text, sizeof(text), false, 0, 0, NULL), 0);
    assert_true(sl_udp_write_control(text, 112, true, 1400, 3, &from) <= 112);
}

static size_t message(uint8_t *at, int level, int type, size_t len)
{
    struct cmsghdr h = {.cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type};

    memset(at, 0xff, CMSG_SPACE(len));
    memcpy(at, &h, sizeof(h));
    return CMSG_SPACE(len);
}

/* Every cut and every length of a header: read_control stays within (the sanitizer build sees to it). */
static void control__a_wrong_length_is_not_followed(void **state)
{
    uint8_t whole[SL_UDP_CONTROL_BYTES];
    struct sl_udp_control c;
    size_t len = message(whole, SOL_UDP, UDP_GRO, sizeof(int));

    len += message(whole + len, IPPROTO_IP, IP_RECVFRAGSIZE, sizeof(int));
    len += message(whole + len, IPPROTO_IP, IP_TOS, 1);
    for (size_t n = 0; n <= len; n++) {
        uint8_t *cut = malloc(n);
        memcpy(cut, whole, n);
        sl_udp_read_control(cut, n, &c);
        assert_int_equal(c.segment, 0); /* -1 is no segment */
        free(cut);
    }
    assert_true(c.fragmented);
    assert_int_equal(c.ecn, 3);
    for (size_t at = 0; at < 8; at++) {
        uint8_t *bent = malloc(len);
        for (unsigned value = 0; value < 256; value++) {
            memcpy(bent, whole, len);
            bent[at] = (uint8_t)value;
            sl_udp_read_control(bent, len, &c);
        }
        free(bent);
    }
}

static void name__of_another_family_or_too_short_is_refused(void **state)
{
    union sl_udp_name name;
    struct sl_addr a = v4(1, 2, 3, 4), got;

    assert_int_equal(sl_udp_write_name(&name, &a), sizeof(name.v4));
    assert_true(sl_udp_read_name(&name, sizeof(name.v4), &got));
    assert_memory_equal(&got, &a, sizeof(a));
    assert_false(sl_udp_read_name(&name, sizeof(name.v4) - 1, &got));
    assert_false(sl_udp_read_name(&name, 1, &got));
    name.any.sa_family = AF_UNIX;
    assert_false(sl_udp_read_name(&name, sizeof(name), &got));
}

int main(void)
{
    struct io_uring ring;
    int err = io_uring_queue_init(1, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);

    if (err != 0) {
        printf("SKIP: io_uring of Linux 6.1 (%s)\n", strerror(-err));
        return 77;
    }
    io_uring_queue_exit(&ring);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tx__a_run_of_equal_ones_is_one_message_each_way),
        cmocka_unit_test(tx__another_length_address_or_mark_ends_a_run),
        cmocka_unit_test(plain__is_one_by_one),
        cmocka_unit_test(rx__a_flood_is_received_or_counted),
        cmocka_unit_test(rx__goes_on_after_every_buffer_was_held),
        cmocka_unit_test(alloc__is_all_or_nothing),
        cmocka_unit_test(rx__what_the_mtu_forbids_is_dropped),
        cmocka_unit_test(tx__what_has_no_way_is_dropped_by_name),
        cmocka_unit_test(tx__one_by_one_where_the_interface_cannot_cut_runs),
        cmocka_unit_test(ipv6__carries_runs_and_marks),
        cmocka_unit_test(any_address__keeps_apart_whom_it_stands_for),
        cmocka_unit_test(sockets__one_queue_reads_them_all),
        cmocka_unit_test(sleep__ends_with_a_datagram_or_a_call),
        cmocka_unit_test(leave__what_is_held_can_be_freed_and_the_port_entered_again),
        cmocka_unit_test(open__says_what_to_do),
        cmocka_unit_test(local_address__is_the_way_to_loopback),
        cmocka_unit_test(control__is_read_as_written),
        cmocka_unit_test(control__a_wrong_length_is_not_followed),
        cmocka_unit_test(name__of_another_family_or_too_short_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
