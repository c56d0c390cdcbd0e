#include "dataplane/wire/int8.h"

#include "tests/wire/test.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { UNIT = 64 };

static uint64_t next(uint64_t *s) /* splitmix64 (Steele, Lea and Flood, 2014) */
{
    uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static float f32_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

static double value_of(uint8_t e, int q)
{
    return e == SL_INT8_NAN ? (double)NAN : ldexp(q, e - 133);
}

/* The vectors of docs/protocol.md, made with exact fractions in Python. */
static void encode__golden_bytes(void **state)
{
    static const float ramp_step = 0.0625f;
    float ramp[63];
    for (int i = 0; i < 63; i++)
        ramp[i] = (float)(i - 31) * ramp_step;
    const float mixed[] = {
        1.0f, -1.984375f, 0.5f, 1.9921875f, -0.0078125f, 0.0234375f, 0.01171875f, 3.0e-5f, -2.0f};
    const float subnormal[] = {1e-40f, -3e-39f, FLT_MIN, 7e-41f};
    const float largest[] = {FLT_MAX, -1.7e38f, 1.0f}, infinite[] = {1.0f, INFINITY, 2.0f}, zero[5] = {0};
    const float up[] = {1.9921875f, 1.0f, -0.5f}, stay[] = {0x1.fdfffep0f, 1.0f, -0.5f};
    const struct {
        const float *x;
        unsigned n;
        const char *bytes;
    } cases[] = {{ramp, 63,
                     "7f84888c9094989ca0a4a8acb0b4b8bcc0c4c8ccd0d4d8dce0e4e8ecf0f4f8fc"
                     "0004080c1014181c2024282c3034383c4044484c5054585c6064686c7074787c"},
        {mixed, 9, "8020c0104000010000c0"}, {subnormal, 4, "0101f04000"}, {largest, 3, "fe7fc000"},
        {infinite, 3, "ff000000"}, {zero, 5, "000000000000"}, {up, 3, "804020f0"}, {stay, 3, "7f7f40e0"}};
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t want[UNIT] = {0}, got[UNIT];
        from_hex(cases[i].bytes, want);
        sl_int8_encode(cases[i].x, got, cases[i].n);
        assert_memory_equal(got, want, UNIT);
        sl_int8_encode_plain(cases[i].x, got, cases[i].n);
        assert_memory_equal(got, want, UNIT);
    }
}

/* Every exponent with every element, against ldexp; and each is a bf16 number. */
static void decode__all_there_is(void **state)
{
    for (unsigned e = 0; e < 256; e++) {
        uint8_t units[5 * UNIT];
        float out[5 * 63];
        uint16_t half[5 * 63];
        for (unsigned u = 0; u < 5; u++) {
            units[u * UNIT] = (uint8_t)e;
            for (unsigned k = 0; k < 63; k++)
                units[u * UNIT + 1 + k] = (uint8_t)(u * 63 + k);
        }
        sl_int8_decode(units, out, 5 * 63);
        sl_int8_decode_bf16(units, half, 5 * 63);
        for (unsigned i = 0; i < 5 * 63; i++) {
            double want = value_of((uint8_t)e, (int8_t)(uint8_t)i);
            if (e == SL_INT8_NAN) {
                assert_true(isnan(out[i]) && isnan(f32_of((uint32_t)half[i] << 16)));
                continue;
            }
            assert_int_equal(bits_of(out[i]), (uint32_t)half[i] << 16);
            if (fabs(want) <= (double)FLT_MAX)
                assert_true((double)out[i] == want);
            else
                assert_true(isinf(out[i])); /* q = -128, which no encoder writes, at the largest exponent */
        }
    }
}

/* |x - x'| <= half the scale, in units of every magnitude. */
static void encode__error_is_half_a_step(void **state)
{
    uint64_t seed = 1;
    for (unsigned i = 0; i < 20000; i++) {
        float in[63], out[63];
        uint8_t unit[UNIT];
        int magnitude = (int)(next(&seed) % 250) - 126;
        for (unsigned k = 0; k < 63; k++) {
            double r = (double)(int64_t)next(&seed) / 0x1p63;
            in[k] = (float)ldexp(r * r * r, magnitude);
        }
        sl_int8_encode(in, unit, 63);
        sl_int8_decode(unit, out, 63);
        for (unsigned k = 0; k < 63; k++) {
            assert_true(fabs((double)in[k] - (double)out[k]) <= ldexp(1, unit[0] - 134));
            assert_int_not_equal(unit[1 + k], 0x80);
        }
        bool fine = unit[0] == 0; /* no finer scale would do */
        for (unsigned k = 0; k < 63; k++)
            fine |= abs((int8_t)unit[1 + k]) >= 64;
        assert_true(fine);
    }
}

static float any_bits(uint64_t *seed)
{
    uint64_t r = next(seed);
    switch (r >> 61) {
    case 0: /* whatever it is: NaN, infinite, subnormal */
        return f32_of((uint32_t)r);
    case 1: /* next to nothing */
        return f32_of((uint32_t)r & 0x82ffffff);
    default:
        return f32_of(((uint32_t)r & 0x87ffffff) | 0x38000000);
    }
}

/* Vectors and their plain twins agree to the bit on whatever bits and lengths. */
static void twins__agree(void **state)
{
    enum { N = 400 };
    static float in[N], a[N + 1], b[N + 1];
    static uint8_t ua[UNIT * 8], ub[UNIT * 8];
    static uint16_t ha[N + 1], hb[N + 1];
    uint64_t seed = 7;
    if (!sl_int8_vectorised())
        print_message("no AVX-512 here: both are the plain twin\n");
    for (unsigned i = 0; i < 20000; i++) {
        unsigned n = 1 + (unsigned)(next(&seed) % N), units = (unsigned)sl_int8_units(n);
        bool tame = next(&seed) % 2;
        for (unsigned k = 0; k < n; k++)
            in[k] = tame ? (float)(int32_t)next(&seed) : any_bits(&seed);
        memset(ua, 0xaa, sizeof(ua));
        memset(ub, 0xaa, sizeof(ub));
        sl_int8_encode(in, ua, n);
        sl_int8_encode_plain(in, ub, n);
        assert_memory_equal(ua, ub, sizeof(ua));
        for (unsigned k = 0; k < units * UNIT && !tame; k++)
            ua[k] = (uint8_t)next(&seed);
        a[n] = b[n] = 5;
        ha[n] = hb[n] = 5;
        sl_int8_decode(ua, a, n);
        sl_int8_decode_plain(ua, b, n);
        assert_memory_equal(a, b, (n + 1) * sizeof(float));
        sl_int8_decode_bf16(ua, ha, n);
        sl_int8_decode_bf16_plain(ua, hb, n);
        assert_memory_equal(ha, hb, (n + 1) * sizeof(uint16_t));
    }
}

static void encode__last_unit_is_padded(void **state)
{
    const float x[64] = {[63] = 3.0f};
    uint8_t units[3 * UNIT];
    memset(units, 0xaa, sizeof(units));
    sl_int8_encode(x, units, 64);
    assert_int_equal(units[UNIT], 128);
    assert_int_equal(units[UNIT + 1], 96);
    for (unsigned i = 2; i < UNIT; i++)
        assert_int_equal(units[UNIT + i], 0);
    assert_int_equal(units[2 * UNIT], 0xaa);
    assert_int_equal(sl_int8_units(63), 1);
    assert_int_equal(sl_int8_units(64), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode__golden_bytes),
        cmocka_unit_test(encode__error_is_half_a_step),
        cmocka_unit_test(encode__last_unit_is_padded),
        cmocka_unit_test(decode__all_there_is),
        cmocka_unit_test(twins__agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
