#include "dataplane/wire/frame.h"
#include "tests/wire/test.h"

/* The vectors of docs/protocol.md, made with Python's struct module. */
static const struct vector {
    const char *hex;
    struct sl_frame frame;
} vectors[] = {
    {"01", {.type = SL_FRAME_PING}},
    {"0201000004e2000000000000000900000009",
        {.type = SL_FRAME_ACK, .ack = {.delay_us = 1250, .n_ranges = 1, .range = {{0, 9}}}}},
    {"0203000004e200000000000003e80000000a00000001000000000000000500000384",
        {.type = SL_FRAME_ACK,
            .ack = {.delay_us = 1250, .n_ranges = 3, .range = {{990, 1000}, {988, 988}, {82, 982}}}}},
    {"03010003000000fa0000000000000029007f003f0001",
        {.type = SL_FRAME_REQUEST,
            .request =
                {.step = 41, .kind = SL_REQUEST_EVAL, .ready_in_ms = 250, .n_seqs = 3, .len = {127, 63, 1}}}},
    {"0300050100000fa0000000000000002a001f",
        {.type = SL_FRAME_REQUEST,
            .request = {.step = 42, .cut = 5, .ready_in_ms = 4000, .n_seqs = 1, .len = {31}}}},
    {"040000000000000900000000000000290000000900000bb8",
        {.type = SL_FRAME_GRANT, .grant = {.index = 9, .step = 41, .cumulative = 9, .expiry_ms = 3000}}},
    {"05000100000000090000000000000029000000000000004d000000bf4089640000000000",
        {.type = SL_FRAME_RESULT,
            .result = {.grant = 9,
                .step = 41,
                .global_step = 77,
                .status = SL_RESULT_GRADIENT,
                .flags = SL_RESULT_BOUNDARY,
                .tokens = 191,
                .nll = 812.5}}},
    {"06020000000000090000000000000029",
        {.type = SL_FRAME_STEP_LOST, .step_lost = {.grant = 9, .step = 41, .reason = SL_LOST_PARK_FULL}}},
    {"071122334455667788", {.type = SL_FRAME_PATH_CHALLENGE, .challenge = UINT64_C(0x1122334455667788)}},
    {"081122334455667788", {.type = SL_FRAME_PATH_RESPONSE, .challenge = UINT64_C(0x1122334455667788)}},
};
enum { N_VECTORS = sizeof(vectors) / sizeof(vectors[0]), ROOM = 512 };

static void sl_frame_encode__golden_bytes(void **state)
{
    for (unsigned i = 0; i < N_VECTORS; i++) {
        uint8_t want[ROOM], got[ROOM];
        size_t n = from_hex(vectors[i].hex, want);
        assert_int_equal(sl_frame_encode(&vectors[i].frame, got, sizeof(got)), n);
        assert_memory_equal(got, want, n);
        assert_int_equal(sl_frame_encode(&vectors[i].frame, got, n), n);
        for (size_t cap = 0; cap < n; cap++)
            assert_int_equal(sl_frame_encode(&vectors[i].frame, got, cap), 0);
    }
}

static void sl_frame_decode__golden_bytes(void **state)
{
    for (unsigned i = 0; i < N_VECTORS; i++) {
        uint8_t p[ROOM];
        struct sl_frame f;
        size_t n = from_hex(vectors[i].hex, p);
        memset(p + n, 0xee, sizeof(p) - n);
        assert_int_equal(sl_frame_decode(p, sizeof(p), &f), n);
        uint8_t again[ROOM];
        assert_int_equal(sl_frame_encode(&f, again, sizeof(again)), n);
        assert_memory_equal(again, p, n);
        assert_int_equal(f.type, vectors[i].frame.type);
        for (size_t len = 0; len < n; len++) /* every truncation is refused */
            assert_int_equal(sl_frame_decode(p, len, &f), 0);
    }
}

static void sl_frame_decode__fields_of_each(void **state)
{
    uint8_t p[ROOM];
    struct sl_frame f;
    from_hex(vectors[2].hex, p);
    assert_true(sl_frame_decode(p, sizeof(p), &f) > 0);
    assert_int_equal(f.ack.delay_us, 1250);
    assert_int_equal(f.ack.n_ranges, 3);
    assert_true(f.ack.range[0].first == 990 && f.ack.range[0].last == 1000);
    assert_true(f.ack.range[1].first == 988 && f.ack.range[1].last == 988);
    assert_true(f.ack.range[2].first == 82 && f.ack.range[2].last == 982);
    from_hex(vectors[3].hex, p);
    assert_true(sl_frame_decode(p, sizeof(p), &f) > 0);
    assert_int_equal(f.request.step, 41);
    assert_int_equal(f.request.kind, SL_REQUEST_EVAL);
    assert_int_equal(f.request.ready_in_ms, 250);
    assert_int_equal(f.request.n_seqs, 3);
    assert_int_equal(f.request.len[1], 63);
    assert_int_equal(f.request.cut, 0);
    from_hex(vectors[4].hex, p);
    assert_true(sl_frame_decode(p, sizeof(p), &f) > 0);
    assert_int_equal(f.request.cut, 5);
    from_hex(vectors[6].hex, p);
    assert_true(sl_frame_decode(p, sizeof(p), &f) > 0);
    assert_int_equal(f.result.grant, 9);
    assert_int_equal(f.result.global_step, 77);
    assert_int_equal(f.result.flags, SL_RESULT_BOUNDARY);
    assert_int_equal(f.result.tokens, 191);
    assert_true(f.result.nll == 812.5);
}

static void sl_frame_decode__padding_run_is_one_frame(void **state)
{
    const uint8_t p[8] = {0, 0, 0, 0, 0, SL_FRAME_PING};
    struct sl_frame f;
    assert_int_equal(sl_frame_decode(p, 6, &f), 5);
    assert_int_equal(f.type, SL_FRAME_PADDING);
    assert_int_equal(sl_frame_decode(p, 3, &f), 3);
    assert_int_equal(sl_frame_decode(p + 5, 1, &f), 1);
    assert_int_equal(f.type, SL_FRAME_PING);
}

static void sl_frame_decode__refuses(void **state)
{
    static const char *const bad[] = {
        "09", "ff", "0200000004e2000000000000000900000009",                         /* no range */
        "0221000004e2000000000000000900000009",                                     /* 33 ranges */
        "0201000004e200000000000000090000000a",                                     /* below packet 0 */
        "0202000004e200000000000003e80000000a0000000000000000",                     /* adjacent */
        "0202000004e2000000000000000a0000000500000004000000010000",                 /* second range below 0 */
        "03020003000000fa0000000000000029007f003f0001",                             /* unknown kind */
        "03010000000000fa0000000000000029",                                         /* no sequence */
        "03010041000000fa0000000000000029007f003f0001",                             /* 65 sequences */
        "03010003000000fa0000000000000029007f00000001",                             /* empty sequence */
        "040000010000000900000000000000290000000900000bb8",                         /* reserved */
        "040000000000000000000000000000290000000900000bb8",                         /* grant 0 */
        "05040100000000090000000000000029000000000000004d000000bf4089640000000000", /* status */
        "05000200000000090000000000000029000000000000004d000000bf4089640000000000", /* flag */
        "05000101000000090000000000000029000000000000004d000000bf4089640000000000", /* reserved */
        "06000000000000090000000000000029",                                         /* reason 0 */
        "06070000000000090000000000000029",                                         /* reason 7 */
        "06020001000000090000000000000029",                                         /* reserved */
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        uint8_t p[ROOM] = {0};
        struct sl_frame f;
        size_t n = from_hex(bad[i], p);
        if (sl_frame_decode(p, n, &f) != 0)
            fail_msg("accepted %s", bad[i]);
    }
}

static void sl_frame_encode__refuses_what_decode_would(void **state)
{
    uint8_t p[ROOM];
    const struct sl_frame bad[] = {
        {.type = 0x40},
        {.type = SL_FRAME_ACK, .ack = {.n_ranges = 0}},
        {.type = SL_FRAME_ACK, .ack = {.n_ranges = 1, .range = {{5, 4}}}},
        {.type = SL_FRAME_ACK, .ack = {.n_ranges = 2, .range = {{5, 9}, {1, 4}}}},   /* adjacent */
        {.type = SL_FRAME_ACK, .ack = {.n_ranges = 2, .range = {{5, 9}, {11, 12}}}}, /* ascending */
        {.type = SL_FRAME_REQUEST, .request = {.n_seqs = 0}},
        {.type = SL_FRAME_REQUEST, .request = {.n_seqs = 1, .len = {0}}},
        {.type = SL_FRAME_GRANT, .grant = {.index = 0}},
        {.type = SL_FRAME_RESULT, .result = {.status = 9}},
        {.type = SL_FRAME_STEP_LOST, .step_lost = {.reason = 0}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(sl_frame_encode(&bad[i], p, sizeof(p)), 0);
}

static void sl_frame_encode__longest_of_each_fits_any_mtu(void **state)
{
    uint8_t p[ROOM];
    struct sl_frame f = {.type = SL_FRAME_ACK, .ack = {.n_ranges = SL_ACK_RANGES_MAX}};
    for (unsigned i = 0; i < SL_ACK_RANGES_MAX; i++)
        f.ack.range[i] = (struct sl_ack_range){1000 - 10 * i, 1005 - 10 * i};
    struct sl_frame back;
    size_t n = sl_frame_encode(&f, p, sizeof(p));
    assert_int_equal(n, 18 + 31 * 8);
    assert_int_equal(sl_frame_decode(p, n, &back), n);
    for (unsigned i = 0; i < SL_ACK_RANGES_MAX; i++)
        assert_true(
            back.ack.range[i].first == f.ack.range[i].first && back.ack.range[i].last == f.ack.range[i].last);
    memset(&f, 0, sizeof(f));
    f.type = SL_FRAME_REQUEST;
    f.request.n_seqs = SL_SEQS_MAX;
    for (unsigned i = 0; i < SL_SEQS_MAX; i++)
        f.request.len[i] = 0xffff;
    assert_int_equal(sl_frame_encode(&f, p, sizeof(p)), 16 + 2 * SL_SEQS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_frame_encode__golden_bytes),
        cmocka_unit_test(sl_frame_encode__refuses_what_decode_would),
        cmocka_unit_test(sl_frame_encode__longest_of_each_fits_any_mtu),
        cmocka_unit_test(sl_frame_decode__golden_bytes),
        cmocka_unit_test(sl_frame_decode__fields_of_each),
        cmocka_unit_test(sl_frame_decode__padding_run_is_one_frame),
        cmocka_unit_test(sl_frame_decode__refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
