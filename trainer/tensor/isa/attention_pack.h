/* Attention's operands as the products of mm.h want them, compiled per instruction set. VL rows of a head at
 * a time are widened (and turned by their positions) into a block in f32, and written from there in up to
 * three forms. "Unit": an element of a product, 32 bits: an f32, or a pair of bf16.
 *
 *   by rows     [row][units]             broadcast operand, pairs along the head
 *   transposed  panels over rows         scores: the head is summed over; pairs along the head
 *   panels      panels over the head     rows are summed over; pairs of rows
 */
#pragma once

#include "trainer/tensor/isa/vec.h"
#include "trainer/tensor/view.h"

struct pack_block {
    uint32_t width;  /* of a row: head_dim up to whole vectors, zeros behind it */
    float *rows;     /* [VL, width] */
    uint32_t *units; /* [VL, width]: bf16 pairs of the same */
};

/* Heads are visited one after another, their rows thousands of bytes apart, which no hardware prefetcher
 * follows: reading or writing an element asks for the next head's in the same row. (What lies behind the
 * matrix is asked for in vain.) */
SL_INLINE void fetch_next(struct sl_src x, size_t at)
{
    __builtin_prefetch((const char *)x.p + at * sl_precision_size(x.precision), 0, 2);
}

SL_INLINE void fetch_next_to_write(struct sl_dst y, size_t at)
{
    __builtin_prefetch((char *)y.p + at * sl_precision_size(y.precision), 1, 2);
}

/* x·cos - x'·sin and x'·cos + x·sin of one row; `back` turns by the negative angle. */
SL_INLINE void turn(float *row, uint32_t head_dim, const float *rope, bool back)
{
    uint32_t half = head_dim / 2;
    for (uint32_t j = 0; j < half; j += VL) {
        uint32_t n = half - j < VL ? half - j : VL;
        vf a = v_load(row + j, n), b = v_load(row + half + j, n);
        vf c = v_load(rope + j, n), s = v_load(rope + half + j, n);
        if (back)
            s = -s;
        v_store(row + j, a * c - b * s, n);
        v_store(row + half + j, b * c + a * s, n);
    }
}

/* Rows [first, first + VL) of one head: x [len, ld] starts at its first column. Rows from len on are zero. */
SL_INLINE void block_load(const struct pack_block *b, struct sl_src x, uint32_t ld, uint32_t head_dim,
    uint32_t first, uint32_t len, const float *rope)
{
    bool bf16 = x.precision == SL_PRECISION_BF16;
    for (uint32_t i = 0; i < VL; i++) {
        float *row = b->rows + (size_t)i * b->width;
        if (first + i >= len) {
            memset(row, 0, b->width * sizeof *row);
            continue;
        }
        size_t at = (size_t)(first + i) * ld;
        for (uint32_t j = 0; j < b->width; j += VL) {
            uint32_t n = head_dim - j < VL ? head_dim - j : VL;
            v_store(row + j, v_get(x.p, bf16, at + j, n), VL);
            fetch_next(x, at + j + head_dim);
        }
        if (rope)
            turn(row, head_dim, rope + (size_t)(first + i) * head_dim, false);
    }
}

/* The block in bf16 pairs along the head. */
SL_INLINE void block_pair(const struct pack_block *b)
{
    for (uint32_t i = 0; i < VL; i++)
        for (uint32_t j = 0; j < b->width; j += VL)
            v_store_bf16((sl_bf16 *)(b->units + (size_t)i * b->width) + j,
                v_load(b->rows + (size_t)i * b->width + j, VL), VL);
}

/* The block's units, whichever they are. */
SL_INLINE const float *block_units(const struct pack_block *b, bool bf16)
{
    return bf16 ? (const float *)b->units : b->rows;
}

/* 16 x 16 (or 8 x 8, 4 x 4) units: x[i][j] at x + i ld goes to y[j][i]; only `n` of y's rows are written. */
SL_INLINE void transpose(const float *x, size_t ld, uint32_t n, float *y)
{
#ifdef __AVX512F__
    __m512i r[16], t[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_si512(x + (size_t)i * ld);
    const __m512i lanes = (__m512i)v_lanes();
#define STAGE(from, to, s)                                                                                   \
    do {                                                                                                     \
        __m512i odd_ = _mm512_and_si512(lanes, _mm512_set1_epi32(s));                                        \
        /* lane l of the first: l of a, or l - s of b; of the second: l + s of a, or l of b */               \
        __mmask16 m_ = _mm512_test_epi32_mask(odd_, odd_);                                                   \
        __m512i lo_ = _mm512_mask_add_epi32(lanes, m_, lanes, _mm512_set1_epi32(16 - (s)));                  \
        __m512i hi_ = _mm512_mask_add_epi32(                                                                 \
            _mm512_add_epi32(lanes, _mm512_set1_epi32(s)), m_, lanes, _mm512_set1_epi32(16));                \
        _Pragma("GCC unroll 16") for (int i_ = 0; i_ < 16; i_++) if (!(i_ & (s)))                            \
        {                                                                                                    \
            (to)[i_] = _mm512_permutex2var_epi32((from)[i_], lo_, (from)[i_ + (s)]);                         \
            (to)[i_ + (s)] = _mm512_permutex2var_epi32((from)[i_], hi_, (from)[i_ + (s)]);                   \
        }                                                                                                    \
    } while (0)
    STAGE(r, t, 1);
    STAGE(t, r, 2);
    STAGE(r, t, 4);
    STAGE(t, r, 8);
#undef STAGE
#pragma GCC unroll 16
    for (uint32_t i = 0; i < 16; i++)
        if (i < n)
            _mm512_storeu_si512(y + (size_t)i * 16, r[i]);
#else
    for (uint32_t j = 0; j < n; j++)
        for (uint32_t i = 0; i < VL; i++)
            y[j * VL + i] = x[(size_t)i * ld + j];
#endif
}

/* Panel of rows [first, first + VL): `units` units deep. */
SL_INLINE void block_transposed(
    const struct pack_block *b, bool bf16, uint32_t units, uint32_t first, float *to)
{
    to += (size_t)first * units;
    for (uint32_t j = 0; j < units; j += VL)
        transpose(block_units(b, bf16) + j, b->width, units - j < VL ? units - j : VL, to + (size_t)j * VL);
}

/* Rows [first, first + VL) of panels over the head, of all_rows rows (pairs in bf16). */
SL_INLINE void block_panels(
    const struct pack_block *b, bool bf16, uint32_t first, uint32_t all_rows, float *to)
{
    for (uint32_t j = 0; j < b->width; j += VL) {
        if (!bf16) {
            for (uint32_t i = 0; i < VL; i++)
                v_store(to + ((size_t)j / VL * all_rows + first + i) * VL,
                    v_load(b->rows + (size_t)i * b->width + j, VL), VL);
            continue;
        }
        for (uint32_t i = 0; i < VL; i += 2) {
            vh lo = v_round(v_load(b->rows + (size_t)i * b->width + j, VL)),
               hi = v_round(v_load(b->rows + (size_t)(i + 1) * b->width + j, VL));
            vu pair = __builtin_convertvector(lo, vu) | __builtin_convertvector(hi, vu) << 16;
            v_store(to + ((size_t)j / VL * (all_rows / 2) + (first + i) / 2) * VL, (vf)pair, VL);
        }
    }
}

/* Rows [first, first + VL) by rows, `width` floats apart. */
SL_INLINE void block_by_rows(const struct pack_block *b, bool bf16, uint32_t first, float *to)
{
    memcpy(to + (size_t)first * b->width, block_units(b, bf16), (size_t)VL * b->width * sizeof *to);
}

/* Rows [first, first + n) of an f32 block [.., width] to a head of y, turned back. */
SL_INLINE void rows_store(float *rows, uint32_t width, uint32_t n, struct sl_dst y, uint32_t ld,
    uint32_t head_dim, uint32_t first, const float *rope)
{
    bool bf16 = y.precision == SL_PRECISION_BF16;
    for (uint32_t i = 0; i < n; i++, rows += width) {
        if (rope)
            turn(rows, head_dim, rope + (size_t)(first + i) * head_dim, true);
        size_t at = (size_t)(first + i) * ld;
        for (uint32_t j = 0; j < head_dim; j += VL) {
            uint32_t some = head_dim - j < VL ? head_dim - j : VL;
            v_put(y.p, bf16, at + j, v_load(rows + j, VL), some);
            fetch_next_to_write(y, at + j + head_dim);
        }
    }
}
