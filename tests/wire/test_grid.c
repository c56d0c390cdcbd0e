#include "dataplane/wire/grid.h"
#include "tests/wire/test.h"

#include <errno.h>
#include <math.h>

static void sl_grid_make__by_hand(void **state)
{
    struct sl_grid g;
    /* 127 rows of d 192: bf16 127*384 = 48768 bytes = 762 units; targets 508 bytes = 8 units; 770 = 35 * 22
     */
    assert_int_equal(sl_grid_make(&g, 127, 192, SL_CODEC_BF16, 1, 22), 0);
    assert_int_equal(g.rows, 127);
    assert_int_equal(g.tensor_units, 762);
    assert_int_equal(g.target_units, 8);
    assert_int_equal(g.n_units, 770);
    assert_int_equal(g.n_fragments, 35);
    assert_int_equal(g.fragment_units, 22);
    /* 7 rows of d 10 in f32: 280 bytes = 4.4 units; no targets */
    assert_int_equal(sl_grid_make(&g, 7, 10, SL_CODEC_F32, 0, 4), 0);
    assert_int_equal(g.tensor_units, 5);
    assert_int_equal(g.target_units, 0);
    assert_int_equal(g.n_units, 5);
    assert_int_equal(g.n_fragments, 2);
    /* 127 rows of d 192 in int8: 24384 elements, 63 to a unit: 388; stored as bf16: 762 */
    assert_int_equal(sl_grid_make(&g, 127, 192, SL_CODEC_INT8, 1, 22), 0);
    assert_int_equal(g.tensor_units, 388);
    assert_int_equal(g.stored_units, 762);
    assert_int_equal(g.n_units, 396);
    assert_int_equal(g.n_fragments, 18);
    assert_int_equal(sl_grid_slot_units(&g), 770);
    assert_int_equal(sl_grid_make(&g, 1, 1, SL_CODEC_BF16, 1, 22), 0);
    assert_int_equal(g.stored_units, 1);
    assert_int_equal(g.n_units, 2);
    assert_int_equal(g.n_fragments, 1);
}

static void sl_grid_make__refuses(void **state)
{
    struct sl_grid g;
    assert_int_equal(sl_grid_make(&g, 0, 192, SL_CODEC_BF16, 1, 22), -EINVAL);
    assert_int_equal(sl_grid_make(&g, 1, 0, SL_CODEC_BF16, 1, 22), -EINVAL);
    assert_int_equal(sl_grid_make(&g, 1, 1, SL_CODEC_BF16, 1, 0), -EINVAL);
    assert_int_equal(sl_grid_make(&g, 1, 1, (enum sl_codec)7, 1, 22), -EINVAL);
    assert_int_equal(sl_grid_make(&g, UINT32_MAX, UINT32_MAX, SL_CODEC_F32, 1, 22), -EINVAL);
    /* exactly 2^31 units are the most: 2^19 rows of 2^18 bf16 is 2^38 bytes = 2^32 units */
    assert_int_equal(sl_grid_make(&g, 1u << 19, 1u << 17, SL_CODEC_BF16, 0, 22), 0);
    assert_int_equal(g.n_units, 1u << 31);
    assert_int_equal(sl_grid_make(&g, 1u << 19, 1u << 17, SL_CODEC_BF16, 1, 22), -EINVAL);
}

static void sl_codec_parse__names(void **state)
{
    enum sl_codec c;
    assert_int_equal(sl_codec_parse("bf16", &c), 0);
    assert_int_equal(c, SL_CODEC_BF16);
    assert_int_equal(sl_codec_parse("f32", &c), 0);
    assert_int_equal(c, SL_CODEC_F32);
    for (unsigned i = 0; i < SL_CODEC_COUNT; i++) {
        assert_int_equal(sl_codec_parse(sl_codec_name((enum sl_codec)i), &c), 0);
        assert_int_equal(c, i);
    }
    assert_int_equal(sl_codec_parse("int8+lz4", &c), 0);
    assert_int_equal(c, SL_CODEC_INT8_LZ4);
    assert_int_equal(sl_codec_parse("int4", &c), -EINVAL);
    assert_string_equal(sl_codec_name(SL_CODEC_BF16), "bf16");
    assert_string_equal(sl_codec_name((enum sl_codec)9), "unknown");
}

static uint32_t bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof(u));
    return u;
}

static float of_bits(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof(x));
    return x;
}

static void sl_codec_encode__bf16_rounds_to_nearest_even(void **state)
{
    static const struct {
        uint32_t in;
        uint16_t out;
    } cases[] = {
        {0x3f800000, 0x3f80},                                             /* 1 */
        {0x3f807fff, 0x3f80},                                             /* just below half */
        {0x3f808000, 0x3f80},                                             /* half: to even, down */
        {0x3f808001, 0x3f81}, {0x3f818000, 0x3f82},                       /* half: to even, up */
        {0xbf818000, 0xbf82}, {0x00000000, 0x0000}, {0x80000000, 0x8000}, /* -0 */
        {0x7f7fffff, 0x7f80}, /* largest float rounds to infinity */
        {0x7f800000, 0x7f80}, {0xff800000, 0xff80},
        {0x7f800001, 0x7fc0}, /* a NaN whose payload is all cut off stays one */
        {0xffc12345, 0xffc1}, {0x00000001, 0x0000}, {0x0000c000, 0x0001}, /* subnormal */
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        float in = of_bits(cases[i].in);
        uint8_t out[2];
        sl_codec_encode(SL_CODEC_BF16, &in, out, 1);
        assert_int_equal(out[0] | out[1] << 8, cases[i].out);
    }
}

static void sl_codec_decode__bf16_is_exact_and_unaligned(void **state)
{
    uint8_t in[2 * 300 + 1], back[2 * 300 + 1];
    float mid[300];
    for (unsigned i = 0; i < 300; i++) {
        uint16_t h = (uint16_t)(i * 211);
        if ((h & 0x7f80) == 0x7f80)
            h &= 0xff80; /* infinities, no NaN: its quiet bit would change */
        memcpy(in + 1 + 2 * i, &h, 2);
    }
    sl_codec_decode(SL_CODEC_BF16, in + 1, mid, 300);
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(bits(mid[i]), (uint32_t)(in[1 + 2 * i] | in[2 + 2 * i] << 8) << 16);
    sl_codec_encode(SL_CODEC_BF16, mid, back + 1, 300);
    assert_memory_equal(back + 1, in + 1, 600);
}

static void sl_codec_encode__f32_keeps_every_bit(void **state)
{
    float in[17], out[17];
    uint8_t wire[17 * 4 + 1];
    for (unsigned i = 0; i < 17; i++)
        in[i] = of_bits(0x9e3779b9u * i);
    in[3] = NAN;
    sl_codec_encode(SL_CODEC_F32, in, wire + 1, 17);
    assert_int_equal(wire[1 + 4], bits(in[1]) & 0xff); /* little-endian */
    sl_codec_decode(SL_CODEC_F32, wire + 1, out, 17);
    assert_memory_equal(in, out, sizeof(in));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sl_codec_parse__names),
        cmocka_unit_test(sl_grid_make__by_hand),
        cmocka_unit_test(sl_grid_make__refuses),
        cmocka_unit_test(sl_codec_encode__bf16_rounds_to_nearest_even),
        cmocka_unit_test(sl_codec_encode__f32_keeps_every_bit),
        cmocka_unit_test(sl_codec_decode__bf16_is_exact_and_unaligned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
