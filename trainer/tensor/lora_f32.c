#include "trainer/tensor/lora_kernels.h"
#include "trainer/tensor/lora_tile.h"
#include "trainer/tensor/simd.h"

enum { LANES = 16, MAX_RANKS = 768 }; /* of all targets together */

/* 4 rows of x against 4 rows of m; missing ones are given twice, and their sums not kept. */
SL_INLINE void dot_tile(const float *const x[4], const float *const m[4], uint32_t k, float out[16])
{
    sl_v16 sum[16] = {0};
    uint32_t c = 0;
    for (; c + LANES <= k; c += LANES) {
        sl_v16 a[4], b[4];
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            a[i] = *(const sl_v16_any *)(x[i] + c);
            b[i] = *(const sl_v16_any *)(m[i] + c);
        }
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++)
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                sum[4 * i + j] += a[i] * b[j];
    }
    sl_sum_each(sum, out);
    for (; c < k; c++)
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++)
                out[4 * i + j] += x[i][c] * m[j][c];
}

SL_CLONES void sl_lora_dots_f32(const float *x, size_t ld_x, uint32_t rows, uint32_t k, const float *m,
    size_t ld_m, uint32_t r, float scale, float *u, size_t ld_u)
{
    for (uint32_t i = 0; i < rows; i += SL_DOT_ROWS) {
        uint32_t n_rows = rows - i < SL_DOT_ROWS ? rows - i : SL_DOT_ROWS;
        const float *xs[4], *ms[4];
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

/* y [8, 32] += us [8, r] m. */
SL_INLINE void spread_tile(const float *us, uint32_t r, const float *m, size_t ld_m, float *const y[8])
{
    sl_v16 sum[8][2];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        sum[i][0] = sum[i][1] = (sl_v16){0};
    for (uint32_t j = 0; j < r; j++) {
        sl_v16 m0 = *(const sl_v16_any *)(m + j * ld_m), m1 = *(const sl_v16_any *)(m + j * ld_m + LANES);
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            float s = us[j * 8 + (uint32_t)i];
            sum[i][0] += m0 * s;
            sum[i][1] += m1 * s;
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
        *(sl_v16_any *)y[i] += sum[i][0];
        *(sl_v16_any *)(y[i] + LANES) += sum[i][1];
    }
}

SL_CLONES void sl_lora_spread_f32(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale,
    const float *m, size_t ld_m, uint32_t n, float *y, size_t ld_y)
{
    float us[MAX_RANKS * 8]; /* the tile's u, scaled, one rank's 8 rows side by side */
    for (uint32_t i = 0; i < rows; i += SL_TILE_ROWS) {
        uint32_t n_rows = rows - i < SL_TILE_ROWS ? rows - i : SL_TILE_ROWS;
        for (uint32_t j = 0; j < r; j++)
            for (uint32_t t = 0; t < SL_TILE_ROWS; t++)
                us[j * 8 + t] = t < n_rows ? scale * u[(i + t) * ld_u + j] : 0;
        uint32_t c = 0;
        for (; c + SL_TILE_COLS <= n; c += SL_TILE_COLS) {
            float unused[SL_TILE_COLS] = {0}, *ys[8];
            for (uint32_t t = 0; t < 8; t++)
                ys[t] = t < n_rows ? y + (i + t) * ld_y + c : unused;
            spread_tile(us, r, m + c, ld_m, ys);
        }
        for (uint32_t t = 0; t < n_rows; t++)
            for (uint32_t rest = c; rest < n; rest++) {
                float sum = 0;
                for (uint32_t j = 0; j < r; j++)
                    sum += us[j * 8 + t] * m[j * ld_m + rest];
                y[(i + t) * ld_y + rest] += sum;
            }
    }
}

/* tile [8][32] = Σ_i us(i, 8 ranks) x(i, 32 columns). */
SL_INLINE void outer_tile(
    const float *u, size_t ld_u, const float *x, size_t ld_x, uint32_t rows, float scale, float *tile)
{
    sl_v16 sum[8][2];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++)
        sum[j][0] = sum[j][1] = (sl_v16){0};
    for (uint32_t i = 0; i < rows; i++, x += ld_x, u += ld_u) {
        sl_v16 x0 = *(const sl_v16_any *)x, x1 = *(const sl_v16_any *)(x + LANES);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) {
            sum[j][0] += x0 * u[j];
            sum[j][1] += x1 * u[j];
        }
    }
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        *(sl_v16_any *)(tile + j * SL_TILE_COLS) = sum[j][0] * scale;
        *(sl_v16_any *)(tile + j * SL_TILE_COLS + LANES) = sum[j][1] * scale;
    }
}

static void outer_rest(const float *u, size_t ld_u, const float *x, size_t ld_x, uint32_t rows, float scale,
    uint32_t ranks, uint32_t cols, float *tile)
{
    for (uint32_t j = 0; j < ranks; j++)
        for (uint32_t c = 0; c < cols; c++) {
            float sum = 0;
            for (uint32_t i = 0; i < rows; i++)
                sum += u[i * ld_u + j] * x[i * ld_x + c];
            tile[j * SL_TILE_COLS + c] = scale * sum;
        }
}

SL_CLONES void sl_lora_outer_f32(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale,
    const float *x, size_t ld_x, uint32_t n, float *g, size_t g_rank, size_t g_col)
{
    float tile[SL_TILE_RANKS * SL_TILE_COLS];
    for (uint32_t c = 0; c < n; c += SL_TILE_COLS) {
        uint32_t cols = n - c < SL_TILE_COLS ? n - c : SL_TILE_COLS;
        for (uint32_t j = 0; j < r; j += SL_TILE_RANKS) {
            uint32_t ranks = r - j < SL_TILE_RANKS ? r - j : SL_TILE_RANKS;
            float *to = g + j * g_rank + c * g_col;
            if (ranks == SL_TILE_RANKS && cols == SL_TILE_COLS)
                outer_tile(u + j, ld_u, x + c, ld_x, rows, scale, tile);
            else
                outer_rest(u + j, ld_u, x + c, ld_x, rows, scale, ranks, cols, tile);
            if (g_col == 1)
                sl_tile_add(tile, ranks, cols, to, g_rank);
            else
                sl_tile_add_transposed(tile, ranks, cols, to, g_col);
        }
    }
}
