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
    static const uint8_t from[16] = {[10] = 0xff, [11] = 0xff, 192, 168, 0, 1},
                         to[16] = {[10] = 0xff, [11] = 0xff, 192, 168, 0, 199};
    make(frame);
    assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_DROP_COUNT);
    assert_ptr_equal(d.data, frame + SL_UDP4_BYTES);
    assert_int_equal(d.len, PAYLOAD);
    assert_int_equal(d.ecn, 0);
    assert_memory_equal(d.src.ip, from, 16);
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
        sl_headers_read(frame, sizeof(frame), &d), SL_PORT_DROP_COUNT); /* Ethernet pads short frames */
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
    assert_int_equal(sl_headers_read(frame, FRAME + 4, &d), SL_PORT_DROP_COUNT);
    assert_ptr_equal(d.data, frame + SL_UDP4_BYTES + 4);
    assert_int_equal(d.len, PAYLOAD);
}

static void read__ecn(void **state)
{
    uint8_t frame[FRAME];
    struct sl_dgram d = {0};
    make(frame);
    patch(frame, 0, 0x45b3); /* some DSCP, congestion experienced */
    assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_DROP_COUNT);
    assert_int_equal(d.ecn, 3);
}

static void read__not_ipv4_udp(void **state)
{
    uint8_t frame[FRAME];
    struct sl_dgram d;
    make(frame);
    frame[12] = 0x86; /* IPv6 */
    frame[13] = 0xdd;
    assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_NOT_IPV4_UDP);
    frame[12] = 0x08; /* ARP */
    frame[13] = 0x06;
    assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_NOT_IPV4_UDP);
    make(frame);
    patch(frame, 0, 0x6500);
    assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_NOT_IPV4_UDP);
    make(frame);
    patch(frame, 8, 0x4006); /* TCP */
    assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_NOT_IPV4_UDP);
}

static void read__fragment(void **state)
{
    static const uint16_t fields[] = {0x2000, 0x0001, 0x3fff, 0x6000};
    struct sl_dgram d;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t frame[FRAME];
        make(frame);
        patch(frame, 6, fields[i]);
        assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_IP_FRAGMENT);
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
        assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_BAD_CHECKSUM);
    }
}

static void read__bad_length(void **state)
{
    uint8_t frame[FRAME];
    struct sl_dgram d;
    make(frame);
    for (uint32_t len = 0; len < FRAME; len++)
        assert_int_equal(sl_headers_read(frame, len, &d), SL_PORT_BAD_LENGTH);
    patch(frame, 0, 0x4400); /* header of 16 bytes */
    assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_BAD_LENGTH);
    static const uint16_t totals[] = {0, 19, 20, 27, 0x74, 0xffff};
    for (unsigned i = 0; i < 6; i++) {
        make(frame);
        patch(frame, 2, totals[i]);
        assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_BAD_LENGTH);
    }
    static const uint16_t udp[] = {0, 7, 0x60, 0xffff};
    for (unsigned i = 0; i < 4; i++) {
        make(frame);
        frame[UDP + 4] = (uint8_t)(udp[i] >> 8);
        frame[UDP + 5] = (uint8_t)udp[i];
        assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_BAD_LENGTH);
    }
}

static void write__same_bytes(void **state)
{
    uint8_t frame[FRAME], out[FRAME];
    struct sl_dgram d = {0};
    make(frame);
    assert_int_equal(sl_headers_read(frame, FRAME, &d), SL_PORT_DROP_COUNT);
    memset(out, 0xaa, sizeof(out));
    sl_headers_write(out, head + 6, head, &d);
    assert_memory_equal(out, head, sizeof(head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read__datagram),
        cmocka_unit_test(read__padding_and_options),
        cmocka_unit_test(read__ecn),
        cmocka_unit_test(read__not_ipv4_udp),
        cmocka_unit_test(read__fragment),
        cmocka_unit_test(read__bad_checksum),
        cmocka_unit_test(read__bad_length),
        cmocka_unit_test(write__same_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
