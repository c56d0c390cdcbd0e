#include "dataplane/wire/int8.h"

#include "dataplane/wire/packet.h"

#include <string.h>

enum {
    EXPONENT_BIAS = 133, /* 127, and 6 bits of the element behind its point */
    EXPONENT_MAX = 254,
    Q_MAX = 127,
    F32_BIAS = 127,
    F32_MANTISSA_BITS = 23,
    SMALL_EXPONENT = 6, /* below it 2^(133 - e) is no f32 number */
};
static const float to_integer = 0x1.8p23f; /* added and taken off again: rounds what is below 2^22 */
#define F32_INFINITY UINT32_C(0x7f800000)
#define F32_NAN UINT32_C(0x7fc00000)
#define ROUNDS_UP UINT32_C(0x7f0000) /* mantissas from here on make 127.5 and more */

static inline float f32_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static inline uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

/* 2^(e - 133), which is subnormal below 7. */
static inline float scale_of(uint8_t e)
{
    if (e == SL_INT8_NAN)
        return f32_of(F32_NAN);
    if (e > SMALL_EXPONENT)
        return f32_of((uint32_t)(e - SMALL_EXPONENT) << F32_MANTISSA_BITS);
    return f32_of(UINT32_C(1) << (e + F32_MANTISSA_BITS - SMALL_EXPONENT - 1));
}

/* From the bits of the largest magnitude. */
static inline uint8_t exponent_of(uint32_t largest)
{
    if (largest >= F32_INFINITY)
        return SL_INT8_NAN;
    uint32_t e = largest >> F32_MANTISSA_BITS;
    e += (largest & ROUNDS_UP) == ROUNDS_UP;
    return (uint8_t)(e < EXPONENT_MAX ? e : EXPONENT_MAX);
}

static inline unsigned elements_of_unit(uint64_t left)
{
    return left < SL_INT8_PER_UNIT ? (unsigned)left : SL_INT8_PER_UNIT;
}

/* ---- plain ---- */

static void encode_unit(const float *in, uint8_t *unit, unsigned n)
{
    uint32_t largest = 0;
    for (unsigned i = 0; i < n; i++) {
        uint32_t magnitude = bits_of(in[i]) & ~(UINT32_C(1) << 31);
        largest = magnitude > largest ? magnitude : largest;
    }
    memset(unit, 0, SL_UNIT_BYTES);
    unit[0] = exponent_of(largest);
    if (unit[0] == SL_INT8_NAN)
        return;
    /* 2^(133 - e) as one or two factors: every product is exact */
    const unsigned up = EXPONENT_BIAS - unit[0] + F32_BIAS, most = EXPONENT_MAX;
    const float first = f32_of((up < most ? up : most) << F32_MANTISSA_BITS);
    const float second = f32_of((F32_BIAS + (up < most ? 0 : up - most)) << F32_MANTISSA_BITS);
    for (unsigned i = 0; i < n; i++) {
        float q = (in[i] * first * second + to_integer) - to_integer;
        q = q > Q_MAX ? Q_MAX : q < -Q_MAX ? -Q_MAX : q;
        unit[1 + i] = (uint8_t)(int8_t)q;
    }
}

void sl_int8_encode_plain(const float *in, uint8_t *units, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += SL_INT8_PER_UNIT, units += SL_UNIT_BYTES)
        encode_unit(in + i, units, elements_of_unit(n - i));
}

void sl_int8_decode_plain(const uint8_t *units, float *out, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += SL_INT8_PER_UNIT, units += SL_UNIT_BYTES) {
        float scale = scale_of(units[0]);
        for (unsigned k = 0; k < elements_of_unit(n - i); k++)
            out[i + k] = (float)(int8_t)units[1 + k] * scale;
    }
}

void sl_int8_decode_bf16_plain(const uint8_t *units, uint16_t *out, uint64_t n)
{
    for (uint64_t i = 0; i < n; i += SL_INT8_PER_UNIT, units += SL_UNIT_BYTES) {
        float scale = scale_of(units[0]);
        for (unsigned k = 0; k < elements_of_unit(n - i); k++)
            out[i + k] = (uint16_t)(bits_of((float)(int8_t)units[1 + k] * scale) >> 16); /* exact */
    }
}

/* ---- AVX-512: a unit is four vectors of 16 elements, the last one of 15 ---- */

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq")))
enum { LANES = 16, LAST_LANES = 0x7fff };

bool sl_int8_vectorised(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

AVX512 static inline __m512 load_four(const float *in, unsigned v)
{
    return v < 3 ? _mm512_loadu_ps(in + LANES * v) : _mm512_maskz_loadu_ps(LAST_LANES, in + LANES * v);
}

AVX512 static void encode_vector(const float *in, uint8_t *units, uint64_t n_units)
{
    const __m512i magnitude = _mm512_set1_epi32(INT32_MAX);
    for (uint64_t u = 0; u < n_units; u++, in += SL_INT8_PER_UNIT, units += SL_UNIT_BYTES) {
        __m512 x[4];
        __m512i largest = _mm512_setzero_si512();
        for (unsigned v = 0; v < 4; v++) {
            x[v] = load_four(in, v);
            largest = _mm512_max_epu32(largest, _mm512_and_si512(_mm512_castps_si512(x[v]), magnitude));
        }
        const uint8_t e = exponent_of(_mm512_reduce_max_epu32(largest));
        if (e < SMALL_EXPONENT || e >= EXPONENT_MAX) { /* next to nothing, next to infinity, or NaN */
            encode_unit(in, units, SL_INT8_PER_UNIT);
            continue;
        }
        const __m512 inverse =
            _mm512_set1_ps(f32_of((uint32_t)(EXPONENT_BIAS + F32_BIAS - e) << F32_MANTISSA_BITS));
        units[0] = e;
        for (unsigned v = 0; v < 4; v++) {
            __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(x[v], inverse));
            _mm512_mask_cvtepi32_storeu_epi8(units + 1 + LANES * v, v < 3 ? UINT16_MAX : LAST_LANES, q);
        }
    }
}

AVX512 static inline __m512 decode_four(const uint8_t *unit, unsigned v, __m512 scale)
{
    const __mmask16 lanes = v < 3 ? UINT16_MAX : LAST_LANES;
    __m128i q = _mm_maskz_loadu_epi8(lanes, unit + 1 + LANES * v);
    return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q)), scale);
}

AVX512 static void decode_vector(const uint8_t *units, float *out, uint64_t n_units)
{
    for (uint64_t u = 0; u < n_units; u++, out += SL_INT8_PER_UNIT, units += SL_UNIT_BYTES) {
        const __m512 scale = _mm512_set1_ps(scale_of(units[0]));
        for (unsigned v = 0; v < 4; v++)
            _mm512_mask_storeu_ps(
                out + LANES * v, v < 3 ? UINT16_MAX : LAST_LANES, decode_four(units, v, scale));
    }
}

/* Two vectors of f32 make one of bf16: the upper halves, in order. */
AVX512 static void decode_bf16_vector(const uint8_t *units, uint16_t *out, uint64_t n_units)
{
    static const uint16_t order[32] = {1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31, 33, 35, 37,
        39, 41, 43, 45, 47, 49, 51, 53, 55, 57, 59, 61, 63};
    const __m512i upper = _mm512_loadu_si512(order);
    for (uint64_t u = 0; u < n_units; u++, out += SL_INT8_PER_UNIT, units += SL_UNIT_BYTES) {
        const __m512 scale = _mm512_set1_ps(scale_of(units[0]));
        for (unsigned v = 0; v < 4; v += 2) {
            __m512i low = _mm512_castps_si512(decode_four(units, v, scale));
            __m512i high = _mm512_castps_si512(decode_four(units, v + 1, scale));
            __m512i both = _mm512_permutex2var_epi16(low, upper, high);
            if (v == 0)
                _mm512_storeu_si512(out, both);
            else
                _mm512_mask_storeu_epi16(out + 2 * LANES, (__mmask32)INT32_MAX, both);
        }
    }
}
#else
bool sl_int8_vectorised(void)
{
    return false;
}
#define encode_vector(in, units, n) ((void)0)
#define decode_vector(units, out, n) ((void)0)
#define decode_bf16_vector(units, out, n) ((void)0)
#endif

/* Whole units by vectors, where the machine has them; the rest plainly. */
static inline uint64_t whole_units(uint64_t n)
{
    return sl_int8_vectorised() ? n / SL_INT8_PER_UNIT : 0;
}

void sl_int8_encode(const float *in, uint8_t *units, uint64_t n)
{
    const uint64_t whole = whole_units(n), done = whole * SL_INT8_PER_UNIT;
    encode_vector(in, units, whole);
    sl_int8_encode_plain(in + done, units + whole * SL_UNIT_BYTES, n - done);
}

void sl_int8_decode(const uint8_t *units, float *out, uint64_t n)
{
    const uint64_t whole = whole_units(n), done = whole * SL_INT8_PER_UNIT;
    decode_vector(units, out, whole);
    sl_int8_decode_plain(units + whole * SL_UNIT_BYTES, out + done, n - done);
}

void sl_int8_decode_bf16(const uint8_t *units, uint16_t *out, uint64_t n)
{
    const uint64_t whole = whole_units(n), done = whole * SL_INT8_PER_UNIT;
    decode_bf16_vector(units, out, whole);
    sl_int8_decode_bf16_plain(units + whole * SL_UNIT_BYTES, out + done, n - done);
}
