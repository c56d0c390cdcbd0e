#include "dataplane/io/dpdk/headers.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The IPv4 header that Wikipedia's article on its checksum works through by hand (UDP, 115 bytes, 192.168.0.1
 * to 192.168.0.199, checksum b861), in an Ethernet frame, before a UDP header of 95 bytes. */
enum { PAYLOAD = 87, FRAME = SL_UDP4_BYTES + PAYLOAD, IP = SL_ETH_BYTES, UDP = IP + SL_IPV4_BYTES };
static const uint8_t head[SL_UDP4_BYTES] = {0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01, 0x08, 0x00, 0x45,
    0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0, 0xa8,
    0x00, 0xc7, 0x1b, 0x58, 0x1d, 0x14, 0x00, 0x5f, 0x00, 0x00};

static uint64_t from;

static enum sl_port_drop read_headers(uint8_t *frame, uint32_t len, struct sl_dgram *d)
{
    return sl_headers_read(frame, len, d, &from);
}

static void make(uint8_t *frame)
{
    memcpy(frame, head, sizeof(head));
    for (unsigned i = 0; i < PAYLOAD; i++)
        frame[sizeof(head) + i] = (uint8_t)i;
}

/* The change of an IPv4 header's 16-bit word, with the checksum following it (RFC 1624, equation 3). */
static void patch(uint8_t *frame, unsigned at, uint16_t to)
{
    uint8_t *word = frame + IP + at, *sum = frame + IP + 10;
    uint32_t s = (uint16_t) ~(sum[0] << 8 | sum[1]) + (uint32_t)(uint16_t) ~(word[0] << 8 | word[1]) + to;
    s = (s & 0xffff) + (s >> 16);
    s = (s & 0xffff) + (s >> 16);
    s = (uint16_t)~s;
    sum[0] = (uint8_t)(s >> 8);
    sum[1] = (uint8_t)s;
    word[0] = (uint8_t)(to >> 8);
    word[1] = (uint8_t)to;
}

static void read__datagram(void **state)
{
    uint8_t frame[FRAME];
    struct sl_dgram d = {0};
    static const uint8_t whence[16] = {[10] = 0xff, [11] = 0xff, 192, 168, 0, 1},
                         to[16] = {[10] = 0xff, [11] = 0xff, 192, 168, 0, 199};
    make(frame);
    assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_DROP_COUNT);
    assert_ptr_equal(d.data, frame + SL_UDP4_BYTES);
    assert_int_equal(d.len, PAYLOAD);
    assert_int_equal(d.ecn, 0);
    assert_memory_equal(d.src.ip, whence, 16);
    assert_memory_equal(d.dst.ip, to, 16);
    assert_int_equal(d.src.port, 7000);
    assert_int_equal(d.dst.port, 7444);
    assert_true(sl_addr_is_ipv4(&d.src));
}

static void read__padding_and_options(void **state)
{
    uint8_t frame[FRAME + 64];
    struct sl_dgram d = {0};
    memset(frame, 0xee, sizeof(frame));
    make(frame);
    assert_int_equal(
        read_headers(frame, sizeof(frame), &d), SL_PORT_DROP_COUNT); /* Ethernet pads short frames */
    assert_int_equal(d.len, PAYLOAD);
    /* Four bytes of options (no-operation), header length 6. */
    memmove(frame + UDP + 4, frame + UDP, SL_UDP_BYTES + PAYLOAD);
    memset(frame + UDP, 1, 4);
    patch(frame, 0, 0x4600);
    patch(frame, 2, 0x73 + 4);
    uint8_t two[2] = {frame[UDP], frame[UDP + 1]};
    frame[UDP] = frame[UDP + 1] = 0;
    patch(frame, UDP - IP, (uint16_t)(two[0] << 8 | two[1]));
    frame[UDP + 2] = frame[UDP + 3] = 0;
    patch(frame, UDP - IP + 2, 0x0101);
    assert_int_equal(read_headers(frame, FRAME + 4, &d), SL_PORT_DROP_COUNT);
    assert_ptr_equal(d.data, frame + SL_UDP4_BYTES + 4);
    assert_int_equal(d.len, PAYLOAD);
}

static void read__ecn(void **state)
{
    uint8_t frame[FRAME];
    struct sl_dgram d = {0};
    make(frame);
    patch(frame, 0, 0x45b3); /* some DSCP, congestion experienced */
    assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_DROP_COUNT);
    assert_int_equal(d.ecn, 3);
}

static void read__not_udp(void **state)
{
    uint8_t frame[FRAME];
    struct sl_dgram d;
    make(frame);
    frame[12] = 0x86; /* IPv6, but the header says 4 */
    frame[13] = 0xdd;
    assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_NOT_UDP);
    frame[12] = 0x08; /* ARP */
    frame[13] = 0x06;
    assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_NOT_UDP);
    make(frame);
    patch(frame, 0, 0x6500);
    assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_NOT_UDP);
    make(frame);
    patch(frame, 8, 0x4006); /* TCP */
    assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_NOT_UDP);
}

static void read__fragment(void **state)
{
    static const uint16_t fields[] = {0x2000, 0x0001, 0x3fff, 0x6000};
    struct sl_dgram d;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t frame[FRAME];
        make(frame);
        patch(frame, 6, fields[i]);
        assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_IP_FRAGMENT);
    }
}

static void read__bad_checksum(void **state)
{
    struct sl_dgram d;
    for (unsigned bit = 0; bit < SL_IPV4_BYTES * 8; bit++) {
        uint8_t frame[FRAME];
        if (bit / 8 == 0 || bit / 8 == 2 || bit / 8 == 3) /* version and lengths are looked at before */
            continue;
        make(frame);
        frame[IP + bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_BAD_CHECKSUM);
    }
}

static void read__bad_length(void **state)
{
    uint8_t frame[FRAME];
    struct sl_dgram d;
    make(frame);
    for (uint32_t len = 0; len < FRAME; len++)
        assert_int_equal(read_headers(frame, len, &d), SL_PORT_BAD_LENGTH);
    patch(frame, 0, 0x4400); /* header of 16 bytes */
    assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_BAD_LENGTH);
    static const uint16_t totals[] = {0, 19, 20, 27, 0x74, 0xffff};
    for (unsigned i = 0; i < 6; i++) {
        make(frame);
        patch(frame, 2, totals[i]);
        assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_BAD_LENGTH);
    }
    static const uint16_t udp[] = {0, 7, 0x60, 0xffff};
    for (unsigned i = 0; i < 4; i++) {
        make(frame);
        frame[UDP + 4] = (uint8_t)(udp[i] >> 8);
        frame[UDP + 5] = (uint8_t)udp[i];
        assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_BAD_LENGTH);
    }
}

static void write__same_bytes(void **state)
{
    uint8_t frame[FRAME], out[FRAME];
    struct sl_dgram d = {0};
    make(frame);
    assert_int_equal(read_headers(frame, FRAME, &d), SL_PORT_DROP_COUNT);
    assert_int_equal(from, sl_neighbour(head + 6, 0));
    memset(out, 0xaa, sizeof(out));
    d.data = out + SL_UDP4_BYTES;
    assert_int_equal(sl_headers_bytes(true, sl_neighbour(head, 0)), SL_UDP4_BYTES);
    sl_headers_write(&d, head + 6, sl_neighbour(head, 0), SL_UDP_SUM_SOFTWARE);
    assert_memory_equal(out, head, sizeof(head));
}

/* ---- a VLAN tag (IEEE 802.1Q): number 0x123, with a priority that is not ours to keep ---- */

static void vlan__read_and_answered(void **state)
{
    uint8_t plain[FRAME], frame[FRAME + 4], out[FRAME + 4];
    static const uint8_t tag[4] = {0x81, 0x00, 0xa1, 0x23};
    struct sl_dgram d = {0};
    make(plain);
    memcpy(frame, plain, 12);
    memcpy(frame + 12, tag, 4);
    memcpy(frame + 16, plain + 12, FRAME - 12);
    assert_int_equal(read_headers(frame, FRAME + 4, &d), SL_PORT_DROP_COUNT);
    assert_ptr_equal(d.data, frame + SL_UDP4_BYTES + 4);
    assert_int_equal(d.len, PAYLOAD);
    assert_int_equal(sl_neighbour_vlan(from), 0x123);
    assert_int_equal(from >> 16, sl_neighbour(frame + 6, 0) >> 16);
    for (uint32_t len = 0; len < FRAME + 4; len++)
        assert_int_equal(read_headers(frame, len, &d), SL_PORT_BAD_LENGTH);
    d.data = out + SL_UDP4_BYTES + 4;
    sl_headers_write(&d, head + 6, sl_neighbour(head, 0x123), SL_UDP_SUM_SOFTWARE);
    frame[14] = 0x01; /* without the priority */
    assert_memory_equal(out, frame, SL_UDP4_BYTES + 4);
    frame[14] = frame[15] = 0; /* a tag of number 0 is a priority only */
    assert_int_equal(read_headers(frame, FRAME + 4, &d), SL_PORT_DROP_COUNT);
    assert_int_equal(sl_neighbour_vlan(from), 0);
    frame[16] = 0x81; /* two tags are not for us */
    frame[17] = 0x00;
    assert_int_equal(read_headers(frame, FRAME + 4, &d), SL_PORT_NOT_UDP);
}

/* ---- IPv6: a datagram of 5 bytes from 2001:db8::1 port 7000 to 2001:db8::2 port 7444. Its checksum was
 * worked out apart: 2001+db8+1 + 2001+db8+2 + d (length) + 11 (protocol) + 1b58+1d14+d (UDP) + 6865+6c6c+6f00
 * ("hello") = 1d7dd with the carries open, d7de with them in, and its complement is 2821. ---- */

enum { SIX = SL_ETH_BYTES + SL_IPV6_BYTES + SL_UDP_BYTES, FRAME6 = SIX + 5 };
static const uint8_t six[FRAME6] = {0x02, 0, 0, 0, 0, 0x02, 0x02, 0, 0, 0, 0, 0x01, 0x86, 0xdd, 0x60, 0x30, 0,
    0, 0, 13, 17, 64, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 0x01, 0x0d, 0xb8, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0x1b, 0x58, 0x1d, 0x14, 0, 13, 0x28, 0x21, 'h', 'e', 'l', 'l', 'o'};

static void six__read_and_written(void **state)
{
    uint8_t frame[FRAME6], out[FRAME6];
    struct sl_dgram d = {0};
    memcpy(frame, six, sizeof(six));
    assert_int_equal(read_headers(frame, FRAME6, &d), SL_PORT_DROP_COUNT);
    assert_ptr_equal(d.data, frame + SIX);
    assert_int_equal(d.len, 5);
    assert_int_equal(d.ecn, 3);
    assert_int_equal(d.src.port, 7000);
    assert_memory_equal(d.dst.ip, six + SL_ETH_BYTES + 24, 16);
    assert_false(sl_addr_is_ipv4(&d.src));
    memset(out, 0xaa, sizeof(out));
    memcpy(out + SIX, "hello", 5);
    d.data = out + SIX;
    assert_int_equal(sl_headers_bytes(false, sl_neighbour(head, 0)), SIX);
    sl_headers_write(&d, head + 6, sl_neighbour(head, 0), SL_UDP_SUM_SOFTWARE);
    assert_memory_equal(out, six, sizeof(six));
}

/* The sum over all with the checksum in is 0xffff (RFC 1071), for every length; and the checksum is never 0.
 */
static void six__checksum(void **state)
{
    uint8_t room[SIX + 300];
    struct sl_dgram d = {0};
    memcpy(room, six, sizeof(six));
    assert_int_equal(read_headers(room, FRAME6, &d), SL_PORT_DROP_COUNT);
    d.data = room + SIX;
    for (unsigned len = 0; len <= 300; len++) {
        for (unsigned i = 0; i < len; i++)
            d.data[i] = (uint8_t)(i * 7 + len);
        d.len = (uint16_t)len;
        sl_headers_write(&d, head + 6, sl_neighbour(head, 0), SL_UDP_SUM_SOFTWARE);
        const uint8_t *ip = room + SL_ETH_BYTES, *udp = ip + SL_IPV6_BYTES;
        uint32_t sum = 17 + 8 + len, n = 8 + len;
        for (unsigned i = 8; i < 40; i += 2)
            sum += (uint32_t)(ip[i] << 8 | ip[i + 1]);
        for (unsigned i = 0; i < n; i++)
            sum += (uint32_t)udp[i] << (i & 1 ? 0 : 8);
        while (sum >> 16 != 0)
            sum = (sum & 0xffff) + (sum >> 16);
        assert_int_equal(sum, 0xffff);
        assert_true(udp[6] != 0 || udp[7] != 0);
    }
    /* A payload that makes the sum come out as 0 has 0xffff in its place. */
    d.len = 2;
    d.data[0] = d.data[1] = 0;
    sl_headers_write(&d, head + 6, sl_neighbour(head, 0), SL_UDP_SUM_SOFTWARE);
    memcpy(d.data, d.data - 2, 2);
    sl_headers_write(&d, head + 6, sl_neighbour(head, 0), SL_UDP_SUM_SOFTWARE);
    assert_int_equal(d.data[-2], 0xff);
    assert_int_equal(d.data[-1], 0xff);
}

static void six__refused(void **state)
{
    static const struct {
        unsigned at;
        uint8_t to;
        enum sl_port_drop why;
    } changes[] = {
        {SL_ETH_BYTES, 0x40, SL_PORT_NOT_UDP},
        {SL_ETH_BYTES + 6, 6, SL_PORT_NOT_UDP},
        {SL_ETH_BYTES + 6, 0, SL_PORT_NOT_UDP}, /* hop-by-hop options */
        {SL_ETH_BYTES + 6, 44, SL_PORT_IP_FRAGMENT},
        {SL_ETH_BYTES + 5, 14, SL_PORT_BAD_LENGTH},
        {SL_ETH_BYTES + 5, 7, SL_PORT_BAD_LENGTH},
        {SL_ETH_BYTES + 5, 12, SL_PORT_BAD_LENGTH},
        {SIX - 3, 7, SL_PORT_BAD_LENGTH},
        {SIX - 3, 14, SL_PORT_BAD_LENGTH},
    };
    uint8_t frame[FRAME6];
    struct sl_dgram d;
    for (unsigned i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        memcpy(frame, six, sizeof(six));
        frame[changes[i].at] = changes[i].to;
        assert_int_equal(read_headers(frame, FRAME6, &d), changes[i].why);
    }
    memcpy(frame, six, sizeof(six));
    for (uint32_t len = 0; len < FRAME6; len++)
        assert_int_equal(read_headers(frame, len, &d), SL_PORT_BAD_LENGTH);
    frame[SIX - 2] = frame[SIX - 1] = 0; /* no checksum */
    assert_int_equal(read_headers(frame, FRAME6, &d), SL_PORT_BAD_CHECKSUM);
    memcpy(frame, six, sizeof(six));
    static const uint8_t ipv4[4] = {10, 0, 0, 1};
    sl_addr_map_ipv4(frame + SL_ETH_BYTES + 8, ipv4);
    assert_int_equal(read_headers(frame, FRAME6, &d), SL_PORT_BAD_ADDRESS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read__datagram),
        cmocka_unit_test(read__padding_and_options),
        cmocka_unit_test(read__ecn),
        cmocka_unit_test(read__not_udp),
        cmocka_unit_test(read__fragment),
        cmocka_unit_test(read__bad_checksum),
        cmocka_unit_test(read__bad_length),
        cmocka_unit_test(write__same_bytes),
        cmocka_unit_test(vlan__read_and_answered),
        cmocka_unit_test(six__read_and_written),
        cmocka_unit_test(six__checksum),
        cmocka_unit_test(six__refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
