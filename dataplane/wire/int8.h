/* Codec int8: a unit of 64 bytes holds 63 consecutive elements of the tensor, as signed bytes behind one byte
 * of common exponent. An element is q * 2^(e - 133): the scale (E8M0) and the element (8 bits, 6 of them
 * behind the point) of MXINT8 in "OCP Microscaling Formats (MX) Specification" 1.0, with 63 elements to a
 * scale. Every such number is a bf16 number, so decoding rounds nothing.
 *
 *   e = 255: the whole unit is NaN. 0 <= e <= 254 else; an encoder never writes q = -128.
 *   Encoding: m is the largest magnitude of the 63; e its IEEE exponent field, one more if the 7 bits after
 *   that are all ones (else the element would round to 128), at most 254; q = x / 2^(e - 133), to nearest,
 *   ties to even, held to +-127. A unit with an element that is not finite is NaN.
 *   So |x - x'| <= 2^(e - 134), half the scale, up to magnitudes of 127.5 * 2^121.
 *
 * A unit is decoded alone: fragments need not align to rows (rules T1), whatever d_model is. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SL_INT8_PER_UNIT = 63, SL_INT8_NAN = 255 };

/* Units of `n` elements. The last one's missing elements are 0. */
static inline uint64_t sl_int8_units(uint64_t n)
{
    return (n + SL_INT8_PER_UNIT - 1) / SL_INT8_PER_UNIT;
}

/* n elements to and from sl_int8_units(n) units; pointers need no alignment. */
void sl_int8_encode(const float *in, uint8_t *units, uint64_t n);
void sl_int8_decode(const uint8_t *units, float *out, uint64_t n);
void sl_int8_decode_bf16(const uint8_t *units, uint16_t *out, uint64_t n);

/* The plain twins, which the others equal to the bit. */
void sl_int8_encode_plain(const float *in, uint8_t *units, uint64_t n);
void sl_int8_decode_plain(const uint8_t *units, float *out, uint64_t n);
void sl_int8_decode_bf16_plain(const uint8_t *units, uint16_t *out, uint64_t n);
/* Whether the others use AVX-512 on this machine. */
bool sl_int8_vectorised(void);
