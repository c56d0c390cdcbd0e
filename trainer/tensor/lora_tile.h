/* Vectors and tiles that the f32 and the bf16 kernels of LoRA share. Everything is inlined, so that it is
 * compiled for the instruction set of its user. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define SL_INLINE static inline __attribute__((always_inline))

typedef float sl_v16 __attribute__((vector_size(64)));
typedef float sl_v8 __attribute__((vector_size(32)));
typedef float sl_v16_any __attribute__((vector_size(64), aligned(4), may_alias));
typedef float sl_v8_any __attribute__((vector_size(32), aligned(4), may_alias));

enum {
    SL_DOT_ROWS = 4, /* a tile of dots: 4 rows against 4 ranks, 16 sums */
    SL_DOT_RANKS = 4,
    SL_TILE_ROWS = 8,  /* of spread: 8 rows by 32 columns */
    SL_TILE_RANKS = 8, /* of outer: 8 ranks by 32 columns */
    SL_TILE_COLS = 32
};

#define SL_UNPACK_LO 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define SL_UNPACK_HI 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define SL_PAIR_LO 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define SL_PAIR_HI 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define SL_QUAD_EVEN 0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19, 24, 25, 26, 27
#define SL_QUAD_ODD 4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23, 28, 29, 30, 31

/* out[i] = the sum of a[i]'s lanes. */
SL_INLINE void sl_sum_each(const sl_v16 a[16], float out[16])
{
    sl_v16 t[8], v[4], w[2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        t[i] = __builtin_shufflevector(a[2 * i], a[2 * i + 1], SL_UNPACK_LO) +
               __builtin_shufflevector(a[2 * i], a[2 * i + 1], SL_UNPACK_HI);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        v[i] = __builtin_shufflevector(t[2 * i], t[2 * i + 1], SL_PAIR_LO) +
               __builtin_shufflevector(t[2 * i], t[2 * i + 1], SL_PAIR_HI);
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        w[i] = __builtin_shufflevector(v[2 * i], v[2 * i + 1], SL_QUAD_EVEN) +
               __builtin_shufflevector(v[2 * i], v[2 * i + 1], SL_QUAD_ODD);
    *(sl_v16_any *)out =
        __builtin_shufflevector(w[0], w[1], SL_QUAD_EVEN) + __builtin_shufflevector(w[0], w[1], SL_QUAD_ODD);
}

/* g(j, c) += tile [8][32] for j < ranks, c < cols, where one rank's columns lie side by side. */
SL_INLINE void sl_tile_add(const float *tile, uint32_t ranks, uint32_t cols, float *g, size_t g_rank)
{
    for (uint32_t j = 0; j < ranks; j++, tile += SL_TILE_COLS, g += g_rank) {
        if (cols == SL_TILE_COLS) {
            *(sl_v16_any *)g += *(const sl_v16_any *)tile;
            *(sl_v16_any *)(g + 16) += *(const sl_v16_any *)(tile + 16);
        } else
            for (uint32_t c = 0; c < cols; c++)
                g[c] += tile[c];
    }
}

/* 8 by 8 values, rows ld apart, transposed. */
SL_INLINE void sl_transpose8(const float *from, size_t ld, sl_v8 out[8])
{
    sl_v8 r[8], t[8], u[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        r[i] = *(const sl_v8_any *)(from + (size_t)i * ld);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[2 * i] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        t[2 * i + 1] = __builtin_shufflevector(r[2 * i], r[2 * i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        u[4 * i] = __builtin_shufflevector(t[4 * i], t[4 * i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        u[4 * i + 1] = __builtin_shufflevector(t[4 * i], t[4 * i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        u[4 * i + 2] = __builtin_shufflevector(t[4 * i + 1], t[4 * i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        u[4 * i + 3] = __builtin_shufflevector(t[4 * i + 1], t[4 * i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        out[i] = __builtin_shufflevector(u[i], u[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        out[i + 4] = __builtin_shufflevector(u[i], u[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}

/* The same where one column's ranks lie side by side. */
SL_INLINE void sl_tile_add_transposed(
    const float *tile, uint32_t ranks, uint32_t cols, float *g, size_t g_col)
{
    if (ranks == SL_TILE_RANKS && cols == SL_TILE_COLS) {
        for (uint32_t c = 0; c < SL_TILE_COLS; c += 8) {
            sl_v8 column[8];
            sl_transpose8(tile + c, SL_TILE_COLS, column);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                *(sl_v8_any *)(g + (c + (size_t)i) * g_col) += column[i];
        }
        return;
    }
    for (uint32_t c = 0; c < cols; c++)
        for (uint32_t j = 0; j < ranks; j++)
            g[c * g_col + j] += tile[j * SL_TILE_COLS + c];
}
