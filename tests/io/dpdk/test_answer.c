#include "dataplane/io/dpdk/answer.h"
#include "dataplane/io/dpdk/headers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* 10.0.0.1 and fd00::1 are ours, at 02:01:02:03:04:05; 10.0.0.2 and fd00::2 are another's. */
#define MINE 2, 1, 2, 3, 4, 5
#define OTHER 2, 9, 9, 9, 9, 9
static const uint8_t mac[6] = {MINE}, other_mac[6] = {OTHER};
static const uint8_t own4[16] = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 1}, own6[16] = {0xfd, [15] = 1};
static const uint8_t other4[16] = {[10] = 0xff, [11] = 0xff, 10, 0, 0, 2}, other6[16] = {0xfd, [15] = 2};
static struct sl_routes routes;

static bool owns(void *ctx, const uint8_t ip[16])
{
    return memcmp(ip, own4, 16) == 0 || memcmp(ip, own6, 16) == 0;
}

static const struct sl_self self = {.mac = {MINE}, .owns = owns};

static int begin(void **state)
{
    memset(&routes, 0, sizeof(routes));
    return 0;
}

static enum sl_answer answer(uint8_t *frame, uint32_t *len)
{
    return sl_answer(&self, &routes, frame, len);
}

/* The Internet checksum over n bytes, by the book (RFC 1071). */
static uint16_t sum(uint32_t s, const uint8_t *p, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        s += (uint32_t)p[i] << (i & 1 ? 0 : 8);
    while (s >> 16 != 0)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)s;
}

static uint32_t pseudo6(const uint8_t *ip, uint32_t n)
{
    return 58u + n + sum(0, ip + 8, 32);
}

/* ---- ARP (RFC 826) ---- */

static const uint8_t arp_request[42] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, OTHER, 8, 6, 0, 1, 8, 0, 6, 4, 0,
    1, OTHER, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1};
static const uint8_t arp_reply[42] = {
    OTHER, MINE, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, MINE, 10, 0, 0, 1, OTHER, 10, 0, 0, 2};

static void arp__answered(void **state)
{
    uint8_t frame[64 + SL_ANSWER_ROOM] = {0};
    uint32_t len = 60; /* padded, as Ethernet does */
    memcpy(frame, arp_request, 42);
    assert_int_equal(answer(frame, &len), SL_ANSWER_NEIGHBOUR);
    assert_int_equal(len, 42);
    assert_memory_equal(frame, arp_reply, 42);
}

static void arp__tagged(void **state)
{
    static const uint8_t tag[4] = {0x81, 0, 0, 7};
    uint8_t frame[64];
    uint32_t len = 46;
    memcpy(frame, arp_request, 12);
    memcpy(frame + 12, tag, 4);
    memcpy(frame + 16, arp_request + 12, 30);
    assert_int_equal(answer(frame, &len), SL_ANSWER_NEIGHBOUR);
    assert_int_equal(len, 46);
    assert_memory_equal(frame + 12, tag, 4);
    assert_memory_equal(frame + 16, arp_reply + 12, 30);
}

static void arp__not_ours(void **state)
{
    uint8_t frame[64];
    uint32_t len;
    for (unsigned i = 12; i < 42; i++) { /* but for our question's kind and its sender, every byte matters */
        if (i >= 22 && i < 38)
            continue;
        memcpy(frame, arp_request, 42);
        frame[i] ^= 0x40;
        len = 42;
        assert_int_equal(answer(frame, &len), SL_ANSWER_NOT);
    }
    for (len = 0; len < 42; len++) {
        uint32_t cut = len;
        memcpy(frame, arp_request, 42);
        assert_int_equal(answer(frame, &cut), SL_ANSWER_NOT);
    }
    memcpy(frame, arp_request, 42);
    frame[22] |= 1; /* a group's MAC as the sender's */
    len = 42;
    assert_int_equal(answer(frame, &len), SL_ANSWER_NOT);
}

static void arp__asked_and_heard(void **state)
{
    uint8_t frame[SL_ASK_BYTES];
    assert_int_equal(sl_ask(frame, other_mac, other4, own4), 42);
    assert_memory_equal(frame, arp_request, 42);
    /* An answer that nobody asked for is not taken. */
    uint8_t reply[64];
    static const uint8_t to_us[42] = {
        MINE, OTHER, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2, OTHER, 10, 0, 0, 2, MINE, 10, 0, 0, 1};
    uint32_t len = 42;
    memcpy(reply, to_us, 42);
    assert_int_equal(answer(reply, &len), SL_ANSWER_HEARD);
    assert_int_equal(sl_routes_get(&routes, other4), 0);
    assert_int_equal(answer(reply, &len), SL_ANSWER_HEARD);
    assert_int_equal(sl_routes_get(&routes, other4), sl_neighbour(other_mac, 0));
}

/* ---- ping ---- */

static uint32_t make_ping(uint8_t *frame, unsigned payload)
{
    static const uint8_t head[34] = {
        MINE, OTHER, 8, 0, 0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 17, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1};
    uint32_t icmp = 8 + payload;
    memcpy(frame, head, sizeof(head));
    frame[16] = (uint8_t)((20 + icmp) >> 8);
    frame[17] = (uint8_t)(20 + icmp);
    uint16_t s = (uint16_t)~sum(0, frame + 14, 20);
    frame[24] = (uint8_t)(s >> 8);
    frame[25] = (uint8_t)s;
    uint8_t *e = frame + 34;
    memset(e, 0, 8);
    e[0] = 8;
    e[5] = 77;
    e[7] = 3;
    for (unsigned i = 0; i < payload; i++)
        e[8 + i] = (uint8_t)(i * 3);
    s = (uint16_t)~sum(0, e, icmp);
    e[2] = (uint8_t)(s >> 8);
    e[3] = (uint8_t)s;
    return 34 + icmp;
}

static void ping__answered(void **state)
{
    uint8_t asked[1600], frame[1600];
    static const unsigned sizes[] = {0, 1, 56, 57, 1472};
    for (unsigned i = 0; i < 5; i++) {
        uint32_t n = make_ping(asked, sizes[i]), len = n + (i == 0 ? 18 : 0);
        memcpy(frame, asked, sizeof(frame));
        assert_int_equal(answer(frame, &len), SL_ANSWER_ECHO);
        assert_int_equal(len, n);
        assert_memory_equal(frame, other_mac, 6);
        assert_memory_equal(frame + 6, mac, 6);
        assert_int_equal(sum(0, frame + 14, 20), 0xffff);
        assert_int_equal(frame[22], 64);
        assert_memory_equal(frame + 26, asked + 30, 4);
        assert_memory_equal(frame + 30, asked + 26, 4);
        assert_int_equal(frame[34], 0);
        assert_int_equal(sum(0, frame + 34, n - 34), 0xffff);
        assert_memory_equal(frame + 38, asked + 38, n - 38);
    }
}

static void ping__refused(void **state)
{
    uint8_t asked[200], frame[200];
    uint32_t n = make_ping(asked, 40), len;
    for (unsigned bit = 14 * 8; bit < n * 8;
         bit++) { /* a changed bit spoils a checksum, or is a wrong length */
        memcpy(frame, asked, sizeof(frame));
        frame[bit / 8] ^= (uint8_t)(1u << bit % 8);
        len = n;
        assert_int_equal(answer(frame, &len), SL_ANSWER_NOT);
    }
    for (uint32_t cut = 0; cut < n; cut++) {
        memcpy(frame, asked, sizeof(frame));
        len = cut;
        assert_int_equal(answer(frame, &len), SL_ANSWER_NOT);
    }
    memcpy(frame, asked, sizeof(frame));
    frame[6] |= 1; /* from a group */
    len = n;
    assert_int_equal(answer(frame, &len), SL_ANSWER_NOT);
}

/* ---- IPv6 (RFC 4861, RFC 4443) ---- */

static void put_sum6(uint8_t *frame, uint32_t n)
{
    uint8_t *m = frame + 54;
    m[2] = m[3] = 0;
    uint16_t s = (uint16_t)~sum(pseudo6(frame + 14, n), m, n);
    m[2] = (uint8_t)(s >> 8);
    m[3] = (uint8_t)s;
}

static uint32_t make6(uint8_t *frame, uint8_t kind, uint32_t n, uint8_t hops)
{
    memset(frame, 0, 54 + n);
    memcpy(frame, mac, 6);
    memcpy(frame + 6, other_mac, 6);
    frame[12] = 0x86;
    frame[13] = 0xdd;
    frame[14] = 0x60;
    frame[19] = (uint8_t)n;
    frame[20] = 58;
    frame[21] = hops;
    memcpy(frame + 22, other6, 16);
    memcpy(frame + 38, own6, 16);
    frame[54] = kind;
    return 54 + n;
}

static uint32_t make_solicitation(uint8_t *frame, bool with_mac)
{
    uint32_t n = with_mac ? 32 : 24, len = make6(frame, 135, n, 255);
    memcpy(frame + 62, own6, 16);
    if (with_mac) {
        frame[78] = 1;
        frame[79] = 1;
        memcpy(frame + 80, other_mac, 6);
    }
    put_sum6(frame, n);
    return len;
}

static void check_advertisement(const uint8_t *frame, uint32_t len, uint8_t flags)
{
    assert_int_equal(len, 86);
    assert_memory_equal(frame + 6, mac, 6);
    assert_int_equal(frame[19], 32);
    assert_int_equal(frame[21], 255);
    assert_memory_equal(frame + 22, own6, 16);
    assert_int_equal(frame[54], 136);
    assert_int_equal(frame[58], flags);
    assert_memory_equal(frame + 62, own6, 16);
    assert_int_equal(frame[78], 2);
    assert_int_equal(frame[79], 1);
    assert_memory_equal(frame + 80, mac, 6);
    assert_int_equal(sum(pseudo6(frame + 14, 32), frame + 54, 32), 0xffff);
}

static void solicitation__answered(void **state)
{
    uint8_t frame[128];
    for (int with = 0; with < 2; with++) {
        uint32_t len = make_solicitation(frame, with != 0);
        assert_int_equal(answer(frame, &len), SL_ANSWER_NEIGHBOUR);
        check_advertisement(frame, len, 0x60);
        assert_memory_equal(frame, other_mac, 6);
        assert_memory_equal(frame + 38, other6, 16);
    }
}

/* Duplicate address detection: whoever asks has no address yet. */
static void solicitation__of_nobody(void **state)
{
    static const uint8_t all[16] = {0xff, 2, [15] = 1}, all_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
    uint8_t frame[128];
    uint32_t len = make_solicitation(frame, false);
    memset(frame + 22, 0, 16);
    put_sum6(frame, 24);
    assert_int_equal(answer(frame, &len), SL_ANSWER_NEIGHBOUR);
    check_advertisement(frame, len, 0x20);
    assert_memory_equal(frame, all_mac, 6);
    assert_memory_equal(frame + 38, all, 16);
}

static void solicitation__refused(void **state)
{
    uint8_t asked[128], frame[128];
    uint32_t n = make_solicitation(asked, true), len;
    for (unsigned i = 0; i < 4; i++) {
        memcpy(frame, asked, sizeof(frame));
        if (i == 0)
            frame[21] = 254; /* was on another link */
        else if (i == 1)
            frame[77] = 9; /* another's address */
        else if (i == 2)
            frame[79] = 0; /* an option of no length */
        else
            frame[79] = 2; /* one that does not end here */
        put_sum6(frame, 32);
        len = n;
        assert_int_equal(answer(frame, &len), SL_ANSWER_NOT);
    }
    for (uint32_t cut = 0; cut < n; cut++) {
        memcpy(frame, asked, sizeof(frame));
        len = cut;
        assert_int_equal(answer(frame, &len), SL_ANSWER_NOT);
    }
    memcpy(frame, asked, sizeof(frame));
    frame[90 - 10] ^= 1; /* the checksum does not agree */
    len = n;
    assert_int_equal(answer(frame, &len), SL_ANSWER_NOT);
}

static void solicitation__asked_and_heard(void **state)
{
    uint8_t frame[SL_ASK_BYTES + SL_ANSWER_ROOM];
    static const uint8_t group_mac[6] = {0x33, 0x33, 0xff, 0, 0, 1},
                         group[16] = {0xff, 2, [11] = 1, [12] = 0xff, [15] = 1};
    uint32_t len = sl_ask(frame, other_mac, other6, own6);
    assert_int_equal(len, 86);
    assert_memory_equal(frame, group_mac, 6);
    assert_memory_equal(frame + 38, group, 16);
    assert_int_equal(sum(pseudo6(frame + 14, 32), frame + 54, 32), 0xffff);
    assert_int_equal(answer(frame, &len), SL_ANSWER_NEIGHBOUR);
    check_advertisement(frame, len, 0x60);
    /* Heard by whoever asked for it. */
    assert_int_equal(sl_routes_get(&routes, own6), 0);
    assert_int_equal(answer(frame, &len), SL_ANSWER_HEARD);
    assert_int_equal(sl_routes_get(&routes, own6), sl_neighbour(mac, 0));
}

static void ping6__answered(void **state)
{
    uint8_t frame[200];
    uint32_t n = make6(frame, 128, 48, 60), len = n;
    for (unsigned i = 58; i < n; i++)
        frame[i] = (uint8_t)i;
    put_sum6(frame, 48);
    assert_int_equal(answer(frame, &len), SL_ANSWER_ECHO);
    assert_int_equal(len, n);
    assert_memory_equal(frame, other_mac, 6);
    assert_memory_equal(frame + 22, own6, 16);
    assert_memory_equal(frame + 38, other6, 16);
    assert_int_equal(frame[54], 129);
    assert_int_equal(sum(pseudo6(frame + 14, 48), frame + 54, 48), 0xffff);
    for (unsigned i = 58; i < n; i++)
        assert_int_equal(frame[i], (uint8_t)i);
}

/* ---- routes ---- */

static uint64_t told(void *ctx, const uint8_t ip[16])
{
    ++*(unsigned *)ctx;
    return memcmp(ip, other4, 16) == 0 ? sl_neighbour(other_mac, 0) : 0;
}

static void routes__ask_until_known(void **state)
{
    unsigned asked = 0;
    assert_int_equal(sl_routes_get(&routes, other4), 0);
    assert_int_equal(sl_routes_get(&routes, other6), 0);
    sl_routes_tick(&routes, 1, told, &asked);
    assert_int_equal(asked, 2);
    assert_int_equal(sl_routes_get(&routes, other4), sl_neighbour(other_mac, 0));
    for (uint32_t tick = 2; tick < 100; tick++)
        sl_routes_tick(&routes, tick, told, &asked);
    assert_int_equal(asked, 2 + 49); /* the one that is not known, every other tick */
    assert_int_equal(sl_routes_get(&routes, other6), 0);
}

static void routes__due(void **state)
{
    assert_null(sl_routes_due(&routes));
    sl_routes_get(&routes, other4);
    assert_null(sl_routes_due(&routes));
    sl_routes_tick(&routes, 1, NULL, NULL);
    assert_memory_equal(sl_routes_due(&routes), other4, 16);
    assert_null(sl_routes_due(&routes));
}

static void routes__full(void **state)
{
    uint8_t ip[16] = {0xfd};
    for (unsigned i = 0; i < 2 * SL_ROUTES; i++) {
        ip[15] = (uint8_t)i;
        sl_routes_get(&routes, ip);
        sl_routes_set(&routes, ip, i + 1);
    }
    for (unsigned i = 0; i < 2 * SL_ROUTES; i++) {
        ip[15] = (uint8_t)i;
        assert_int_equal(sl_routes_get(&routes, ip), i < SL_ROUTES ? i + 1 : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(arp__answered, begin),
        cmocka_unit_test_setup(arp__tagged, begin),
        cmocka_unit_test_setup(arp__not_ours, begin),
        cmocka_unit_test_setup(arp__asked_and_heard, begin),
        cmocka_unit_test_setup(ping__answered, begin),
        cmocka_unit_test_setup(ping__refused, begin),
        cmocka_unit_test_setup(solicitation__answered, begin),
        cmocka_unit_test_setup(solicitation__of_nobody, begin),
        cmocka_unit_test_setup(solicitation__refused, begin),
        cmocka_unit_test_setup(solicitation__asked_and_heard, begin),
        cmocka_unit_test_setup(ping6__answered, begin),
        cmocka_unit_test_setup(routes__ask_until_known, begin),
        cmocka_unit_test_setup(routes__due, begin),
        cmocka_unit_test_setup(routes__full, begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
