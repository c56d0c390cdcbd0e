#include "dataplane/wire/packet.h"
#include "tests/wire/test.h"

/* The vectors of docs/protocol.md, made with Python's struct module. */
static const char frames_header[] = "010000000000000001000002424242420000000000000007";
static const char data_header[] = "0101000000000005010000024242424200000000003fffff0000002c00160000";
static const char coded_header[] = "0101020000000005010000024242424200000000003fffff0000002c00160123";
static const uint64_t session = UINT64_C(0x0100000242424242);

enum {
    DATA_LEN = SL_HEADER_DATA_BYTES + 22 * SL_UNIT_BYTES + SL_TAG_BYTES,
    CODED = 0x123,
    CODED_LEN = SL_HEADER_DATA_BYTES + CODED + SL_TAG_BYTES,
};

static enum sl_drop decode(const uint8_t *p, size_t len)
{
    struct sl_header h;
    size_t header_len;
    return sl_header_decode(p, len, &h, &header_len);
}

static void sl_header_encode__golden_bytes(void **state)
{
    uint8_t want[SL_HEADER_DATA_BYTES], got[SL_HEADER_DATA_BYTES];
    struct sl_header f = {.type = SL_PACKET_FRAMES, .session = session, .pn = 7};
    assert_int_equal(from_hex(frames_header, want), SL_HEADER_FRAMES_BYTES);
    assert_int_equal(sl_header_encode(&f, got), SL_HEADER_FRAMES_BYTES);
    assert_memory_equal(got, want, SL_HEADER_FRAMES_BYTES);

    struct sl_header d = {.type = SL_PACKET_DATA,
        .grant = 5,
        .session = session,
        .pn = (1u << 22) - 1,
        .unit0 = 44,
        .n_units = 22};
    assert_int_equal(from_hex(data_header, want), SL_HEADER_DATA_BYTES);
    assert_int_equal(sl_header_encode(&d, got), SL_HEADER_DATA_BYTES);
    assert_memory_equal(got, want, SL_HEADER_DATA_BYTES);

    d.flags = SL_FLAG_COMPRESSED;
    d.coded = CODED;
    assert_int_equal(from_hex(coded_header, want), SL_HEADER_DATA_BYTES);
    assert_int_equal(sl_header_encode(&d, got), SL_HEADER_DATA_BYTES);
    assert_memory_equal(got, want, SL_HEADER_DATA_BYTES);
}

static void sl_header_decode__golden_bytes(void **state)
{
    uint8_t p[SL_DATAGRAM_MAX_BYTES] = {0};
    struct sl_header h;
    size_t header_len;
    from_hex(frames_header, p);
    assert_int_equal(sl_header_decode(p, SL_DATAGRAM_MIN_BYTES, &h, &header_len), SL_DROP_NONE);
    assert_int_equal(header_len, SL_HEADER_FRAMES_BYTES);
    assert_int_equal(h.type, SL_PACKET_FRAMES);
    assert_int_equal(h.session, session);
    assert_int_equal(h.pn, 7);

    from_hex(data_header, p);
    assert_int_equal(sl_header_decode(p, DATA_LEN, &h, &header_len), SL_DROP_NONE);
    assert_int_equal(header_len, SL_HEADER_DATA_BYTES);
    assert_int_equal(h.type, SL_PACKET_DATA);
    assert_int_equal(h.grant, 5);
    assert_int_equal(h.session, session);
    assert_int_equal(h.pn, (1u << 22) - 1);
    assert_int_equal(h.unit0, 44);
    assert_int_equal(h.n_units, 22);
    assert_int_equal(h.flags, 0);
    assert_int_equal(h.coded, 0);

    from_hex(coded_header, p);
    assert_int_equal(sl_header_decode(p, CODED_LEN, &h, &header_len), SL_DROP_NONE);
    assert_int_equal(h.flags, SL_FLAG_COMPRESSED);
    assert_int_equal(h.n_units, 22);
    assert_int_equal(h.coded, CODED);
}

static void sl_header_decode__each_refusal(void **state)
{
    static const struct {
        const char *header;
        size_t len;
        int at;
        uint8_t value;
        enum sl_drop want;
    } cases[] = {
        {frames_header, 0, -1, 0, SL_DROP_TOO_SHORT},
        {frames_header, SL_DATAGRAM_MIN_BYTES - 1, -1, 0, SL_DROP_TOO_SHORT},
        {frames_header, SL_DATAGRAM_MIN_BYTES, -1, 0, SL_DROP_NONE},
        {frames_header, SL_DATAGRAM_MAX_BYTES, -1, 0, SL_DROP_NONE},
        {frames_header, SL_DATAGRAM_MAX_BYTES + 1, -1, 0, SL_DROP_TOO_LONG},
        {frames_header, 100, 0, 0, SL_DROP_VERSION}, {frames_header, 100, 0, 2, SL_DROP_VERSION},
        {frames_header, 100, 1, 2, SL_DROP_TYPE}, {frames_header, 100, 1, 0xff, SL_DROP_TYPE},
        {frames_header, 100, 2, 1, SL_DROP_NONE}, {frames_header, 100, 2, 2, SL_DROP_RESERVED_BITS},
        {frames_header, 100, 2, 4, SL_DROP_RESERVED_BITS}, {data_header, DATA_LEN, 2, 1, SL_DROP_NONE},
        {frames_header, 100, 3, 0x80, SL_DROP_RESERVED_BITS},
        {frames_header, 100, 7, 1, SL_DROP_RESERVED_BITS}, /* FRAMES with a grant */
        {data_header, DATA_LEN, -1, 0, SL_DROP_NONE}, {data_header, DATA_LEN, 2, 4, SL_DROP_RESERVED_BITS},
        {data_header, DATA_LEN, 30, 1, SL_DROP_RESERVED_BITS},
        {data_header, DATA_LEN, 31, 1, SL_DROP_RESERVED_BITS},
        {data_header, DATA_LEN - 1, -1, 0, SL_DROP_LENGTH_MISMATCH},
        {data_header, DATA_LEN + 1, -1, 0, SL_DROP_LENGTH_MISMATCH},
        {data_header, DATA_LEN, 29, 21, SL_DROP_LENGTH_MISMATCH},
        {data_header, DATA_LEN, 28, 0xff, SL_DROP_LENGTH_MISMATCH},
        {data_header, SL_HEADER_DATA_BYTES + SL_TAG_BYTES, 29, 0, SL_DROP_LENGTH_MISMATCH}, /* no unit */
        {data_header, SL_DATAGRAM_MIN_BYTES, -1, 0, SL_DROP_LENGTH_MISMATCH},
        {coded_header, CODED_LEN, -1, 0, SL_DROP_NONE},
        {coded_header, CODED_LEN, 1, 0, SL_DROP_RESERVED_BITS}, /* FRAMES are never compressed */
        {coded_header, CODED_LEN, 2, 0, SL_DROP_RESERVED_BITS}, /* a length without the flag */
        {coded_header, CODED_LEN, 2, 6, SL_DROP_RESERVED_BITS},
        {coded_header, CODED_LEN - 1, -1, 0, SL_DROP_LENGTH_MISMATCH},
        {coded_header, CODED_LEN + 1, -1, 0, SL_DROP_LENGTH_MISMATCH},
        {coded_header, DATA_LEN, -1, 0, SL_DROP_LENGTH_MISMATCH},
        {data_header, DATA_LEN, 2, 2, SL_DROP_LENGTH_MISMATCH}, /* of 0 bytes */
        {coded_header, SL_HEADER_DATA_BYTES + CODED + SL_TAG_BYTES, 29, 4,
            SL_DROP_LENGTH_MISMATCH}, /* grows */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t p[SL_DATAGRAM_MAX_BYTES + 1] = {0};
        from_hex(cases[i].header, p);
        if (cases[i].at >= 0)
            p[cases[i].at] = cases[i].value;
        struct sl_header h = {0}, inlined = {0};
        size_t header_len;
        enum sl_drop why = sl_header_decode(p, cases[i].len, &h, &header_len);
        if (cases[i].len >= SL_HEADER_DATA_BYTES && sl_header_decode_data(p, cases[i].len, &inlined)) {
            assert_int_equal(why, SL_DROP_NONE);
            assert_memory_equal(&inlined, &h, sizeof(h));
        } else {
            assert_true(why != SL_DROP_NONE || h.type == SL_PACKET_FRAMES || h.coded != 0);
        }
        if (decode(p, cases[i].len) != cases[i].want)
            fail_msg("case %zu: %s, not %s", i, sl_drop_name(decode(p, cases[i].len)),
                sl_drop_name(cases[i].want));
    }
}

static void sl_header_decode__every_field_survives(void **state)
{
    for (unsigned bit = 0; bit < 64; bit++) {
        struct sl_header h = {.type = SL_PACKET_DATA,
            .grant = (uint32_t)(UINT64_C(1) << bit >> 16),
            .session = UINT64_C(1) << bit,
            .pn = UINT64_C(1) << (63 - bit),
            .unit0 = UINT32_C(1) << bit % 32,
            .n_units = (uint16_t)(1 + bit)};
        struct sl_header back;
        uint8_t p[SL_DATAGRAM_MAX_BYTES] = {0};
        size_t header_len;
        size_t len = sl_header_encode(&h, p) + h.n_units * (size_t)SL_UNIT_BYTES + SL_TAG_BYTES;
        assert_int_equal(sl_header_decode(p, len, &back, &header_len), SL_DROP_NONE);
        assert_int_equal(back.grant, h.grant);
        assert_true(back.session == h.session && back.pn == h.pn);
        assert_int_equal(back.unit0, h.unit0);
        assert_int_equal(back.n_units, h.n_units);
    }
}

static void sl_drop_name__distinct(void **state)
{
    for (int i = 0; i < SL_DROP_COUNT; i++) {
        assert_non_null(sl_drop_name((enum sl_drop)i));
        for (int j = 0; j < i; j++)
            assert_string_not_equal(sl_drop_name((enum sl_drop)i), sl_drop_name((enum sl_drop)j));
    }
    assert_string_equal(sl_drop_name(SL_DROP_COUNT), "unknown");
}

static void sl_fragment_units__largest_that_fits(void **state)
{
    assert_int_equal(sl_fragment_units(1500, false), 22);
    assert_int_equal(sl_fragment_units(1500, true), 21);
    assert_int_equal(sl_fragment_units(9000, false), 139);
    assert_int_equal(sl_fragment_units(UINT32_MAX, false), 139);
    assert_int_equal(sl_fragment_units(139, false), 0);
    assert_int_equal(sl_fragment_units(140, false), 1);
    assert_int_equal(sl_fragment_units(0, true), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_drop_name__distinct),
        cmocka_unit_test(sl_header_decode__golden_bytes),
        cmocka_unit_test(sl_header_decode__each_refusal),
        cmocka_unit_test(sl_header_decode__every_field_survives),
        cmocka_unit_test(sl_header_encode__golden_bytes),
        cmocka_unit_test(sl_fragment_units__largest_that_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
