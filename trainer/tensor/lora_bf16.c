/* LoRA's kernels on VDPBF16PS, which multiplies pairs of bf16 and adds both products to one f32. In dots the
 * pairs are neighbours in memory; in spread they are two ranks, in outer two rows. */
#include "trainer/tensor/lora_kernels.h"

#if defined(__x86_64__)
#include "trainer/tensor/lora_tile.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,fma")))

enum {
    LANES = 32,
    MAX_PAIRS = 768 / 2, /* of ranks, all targets together */
    CHUNK_PAIRS = 64     /* of rows, in outer: what of x a tile walks over stays in the first cache */
};

TARGET SL_INLINE __m512 dp(__m512 sum, __m512i a, __m512i b)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

/* Two f32 as one pair, the first in the lower half. */
SL_INLINE uint32_t pair(float low, float high)
{
    return (uint32_t)sl_bf16_round(low) | (uint32_t)sl_bf16_round(high) << 16;
}

static __mmask32 first_lanes(uint32_t n)
{
    return n >= LANES ? 0xFFFFFFFFu : (1u << n) - 1;
}

TARGET SL_INLINE void dot_tile(
    const sl_bf16 *const x[4], const sl_bf16 *const m[4], uint32_t k, float out[16])
{
    __m512 sum[16];
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
        sum[i] = _mm512_setzero_ps();
    uint32_t c = 0;
    for (; c + LANES <= k; c += LANES) {
        __m512i a[4], b[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            a[i] = _mm512_loadu_si512(x[i] + c);
            b[i] = _mm512_load_si512(m[i] + c);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                sum[4 * i + j] = dp(sum[4 * i + j], a[i], b[j]);
    }
    if (c < k) {
        __mmask32 rest = first_lanes(k - c);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            __m512i a = _mm512_maskz_loadu_epi16(rest, x[i] + c);
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                sum[4 * i + j] = dp(sum[4 * i + j], a, _mm512_load_si512(m[j] + c));
        }
    }
    sl_sum_each((const sl_v16 *)sum, out);
}

TARGET void sl_lora_dots_bf16(const sl_bf16 *x, size_t ld_x, uint32_t rows, uint32_t k, const sl_bf16 *m,
    size_t ld_m, uint32_t r, float scale, float *u, size_t ld_u)
{
    for (uint32_t i = 0; i < rows; i += SL_DOT_ROWS) {
        uint32_t n_rows = rows - i < SL_DOT_ROWS ? rows - i : SL_DOT_ROWS;
        const sl_bf16 *xs[4], *ms[4]; /* missing ones are given twice, and their sums not kept */
        for (uint32_t t = 0; t < 4; t++)
            xs[t] = x + (i + (t < n_rows ? t : 0)) * ld_x;
        for (uint32_t j = 0; j < r; j += SL_DOT_RANKS) {
            uint32_t n_ranks = r - j < SL_DOT_RANKS ? r - j : SL_DOT_RANKS;
            for (uint32_t t = 0; t < 4; t++)
                ms[t] = m + (j + (t < n_ranks ? t : 0)) * ld_m;
            float sums[16];
            dot_tile(xs, ms, k, sums);
            for (uint32_t a = 0; a < n_rows; a++)
                for (uint32_t b = 0; b < n_ranks; b++)
                    u[(i + a) * ld_u + j + b] = scale * sums[4 * a + b];
        }
    }
}

/* us[j][t] = ranks 2j and 2j + 1 of row t, for 8 rows. */
SL_INLINE void pair_ranks(
    const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale, uint32_t us[][SL_TILE_ROWS])
{
    for (uint32_t t = 0; t < SL_TILE_ROWS; t++)
        for (uint32_t j = 0; j < r; j += 2) {
            const float *at = u + t * ld_u + j;
            us[j / 2][t] = t >= rows ? 0 : pair(scale * at[0], j + 1 < r ? scale * at[1] : 0);
        }
}

TARGET SL_INLINE void add_to_row(void *y, size_t at, bool y_bf16, __m512 low, __m512 high, __mmask32 mask)
{
    if (y_bf16) {
        sl_bf16 *to = (sl_bf16 *)y + at;
        __m512i old = _mm512_maskz_loadu_epi16(mask, to);
        __m512 old_low = (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(old)), 16);
        __m512 old_high =
            (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(old, 1)), 16);
        __m512bh sum = _mm512_cvtne2ps_pbh(_mm512_add_ps(old_high, high), _mm512_add_ps(old_low, low));
        _mm512_mask_storeu_epi16(to, mask, (__m512i)sum);
    } else {
        float *to = (float *)y + at;
        __mmask16 m0 = (__mmask16)mask, m1 = (__mmask16)(mask >> 16);
        _mm512_mask_storeu_ps(to, m0, _mm512_add_ps(_mm512_maskz_loadu_ps(m0, to), low));
        _mm512_mask_storeu_ps(to + 16, m1, _mm512_add_ps(_mm512_maskz_loadu_ps(m1, to + 16), high));
    }
}

/* Columns [c, c + 32) of 8 rows of y. */
TARGET SL_INLINE void spread_tile(uint32_t us[][SL_TILE_ROWS], uint32_t pairs, const sl_bf16 *m, size_t ld_m,
    uint32_t rows, void *y, size_t ld_y, size_t c, bool y_bf16, __mmask32 mask)
{
    __m512 low[8], high[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        low[i] = high[i] = _mm512_setzero_ps();
    m += 2 * c;
    for (uint32_t j = 0; j < pairs; j++, m += 2 * ld_m) {
        __m512i m0 = _mm512_load_si512(m), m1 = _mm512_load_si512(m + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            __m512i s = _mm512_set1_epi32((int)us[j][i]);
            low[i] = dp(low[i], m0, s);
            high[i] = dp(high[i], m1, s);
        }
    }
#pragma GCC unroll 8
    for (uint32_t i = 0; i < 8; i++)
        if (i < rows)
            add_to_row(y, i * ld_y + c, y_bf16, low[i], high[i], mask);
}

TARGET SL_INLINE void spread(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale,
    const sl_bf16 *m, size_t ld_m, uint32_t n, void *y, size_t ld_y, bool y_bf16)
{
    uint32_t us[MAX_PAIRS][SL_TILE_ROWS];
    size_t row = ld_y * (y_bf16 ? sizeof(sl_bf16) : sizeof(float));
    for (uint32_t i = 0; i < rows; i += SL_TILE_ROWS) {
        uint32_t n_rows = rows - i < SL_TILE_ROWS ? rows - i : SL_TILE_ROWS;
        pair_ranks(u + i * ld_u, ld_u, n_rows, r, scale, us);
        char *to = (char *)y + i * row;
        uint32_t c = 0;
        for (; c + LANES <= n; c += LANES)
            spread_tile(us, (r + 1) / 2, m, ld_m, n_rows, to, ld_y, c, y_bf16, 0xFFFFFFFFu);
        if (c < n)
            spread_tile(us, (r + 1) / 2, m, ld_m, n_rows, to, ld_y, c, y_bf16, first_lanes(n - c));
    }
}

TARGET void sl_lora_spread_bf16(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale,
    const sl_bf16 *m, size_t ld_m, uint32_t n, void *y, size_t ld_y, bool y_bf16)
{
    if (y_bf16)
        spread(u, ld_u, rows, r, scale, m, ld_m, n, y, ld_y, true);
    else
        spread(u, ld_u, rows, r, scale, m, ld_m, n, y, ld_y, false);
}

/* us[i][j] = rows 2i and 2i + 1 of rank j, for 8 ranks; a last odd row is paired with zero. */
SL_INLINE void pair_rows(const float *u, size_t ld_u, uint32_t rows, uint32_t ranks, float scale,
    uint32_t us[CHUNK_PAIRS][SL_TILE_RANKS])
{
    for (uint32_t i = 0; i < rows; i += 2) {
        const float *at = u + i * ld_u;
        bool second = i + 1 < rows;
        for (uint32_t j = 0; j < SL_TILE_RANKS; j++)
            us[i / 2][j] = j >= ranks ? 0 : pair(scale * at[j], second ? scale * at[ld_u + j] : 0);
    }
}

/* tile [8][32] = Σ_i u(i, 8 ranks) x(i, 32 columns). Interleaving two rows leaves the columns in the order of
 * SL_*: four from each 128-bit lane in `low`, the other four in `high`; put right at the end. */
TARGET SL_INLINE void outer_tile(uint32_t us[CHUNK_PAIRS][SL_TILE_RANKS], uint32_t rows, const sl_bf16 *x,
    size_t ld_x, __mmask32 mask, float *tile)
{
    __m512 low[8], high[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        low[j] = high[j] = _mm512_setzero_ps();
    for (uint32_t i = 0; i < rows; i += 2, x += 2 * ld_x) {
        __m512i even = _mm512_maskz_loadu_epi16(mask, x);
        __m512i odd = i + 1 < rows ? _mm512_maskz_loadu_epi16(mask, x + ld_x) : _mm512_setzero_si512();
        __m512i x0 = _mm512_unpacklo_epi16(even, odd), x1 = _mm512_unpackhi_epi16(even, odd);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            __m512i s = _mm512_set1_epi32((int)us[i / 2][j]);
            low[j] = dp(low[j], x0, s);
            high[j] = dp(high[j], x1, s);
        }
    }
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second = _mm512_setr_epi32(8, 9, 10, 11, 24, 25, 26, 27, 12, 13, 14, 15, 28, 29, 30, 31);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        _mm512_storeu_ps(tile + j * SL_TILE_COLS, _mm512_permutex2var_ps(low[j], first, high[j]));
        _mm512_storeu_ps(tile + j * SL_TILE_COLS + 16, _mm512_permutex2var_ps(low[j], second, high[j]));
    }
}

TARGET SL_INLINE void outer_chunk(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale,
    const sl_bf16 *x, size_t ld_x, uint32_t n, float *g, size_t g_rank, size_t g_col)
{
    uint32_t us[CHUNK_PAIRS][SL_TILE_RANKS];
    float tile[SL_TILE_RANKS * SL_TILE_COLS];
    for (uint32_t j = 0; j < r; j += SL_TILE_RANKS) {
        uint32_t ranks = r - j < SL_TILE_RANKS ? r - j : SL_TILE_RANKS;
        pair_rows(u + j, ld_u, rows, ranks, scale, us);
        for (uint32_t c = 0; c < n; c += SL_TILE_COLS) {
            uint32_t cols = n - c < SL_TILE_COLS ? n - c : SL_TILE_COLS;
            if (cols == SL_TILE_COLS)
                outer_tile(us, rows, x + c, ld_x, 0xFFFFFFFFu, tile);
            else
                outer_tile(us, rows, x + c, ld_x, first_lanes(cols), tile);
            float *to = g + j * g_rank + c * g_col;
            if (g_col == 1)
                sl_tile_add(tile, ranks, cols, to, g_rank);
            else
                sl_tile_add_transposed(tile, ranks, cols, to, g_col);
        }
    }
}

TARGET void sl_lora_outer_bf16(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale,
    const sl_bf16 *x, size_t ld_x, uint32_t n, float *g, size_t g_rank, size_t g_col)
{
    enum { CHUNK = 2 * CHUNK_PAIRS };
    for (uint32_t i = 0; i < rows; i += CHUNK)
        outer_chunk(u + i * ld_u, ld_u, rows - i < CHUNK ? rows - i : CHUNK, r, scale, x + i * ld_x, ld_x, n,
            g, g_rank, g_col);
}
#endif
