#include "trainer/tensor/blocks.h"
#include "trainer/tensor/lora_tile.h"
#include "trainer/tensor/simd.h"

#include <string.h>

enum { LANES = 16, SIDE = 8 };

/* A whole block whose rows lie side by side in the source. */
SL_INLINE void copy_block(const float *src, size_t row_stride, float *to)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < SL_BLOCK_K; i++)
#pragma GCC unroll 4
        for (uint32_t j = 0; j < SL_BLOCK_N; j += LANES)
            *(sl_v16_any *)(to + i * SL_BLOCK_N + j) = *(const sl_v16_any *)(src + i * row_stride + j);
}

/* 16 columns of a whole block whose columns do. */
SL_INLINE void transpose_columns(const float *src, size_t col_stride, float *to)
{
#pragma GCC unroll 2
    for (uint32_t j = 0; j < LANES; j += SIDE)
#pragma GCC unroll 2
        for (uint32_t i = 0; i < SL_BLOCK_K; i += SIDE) {
            sl_v8 t[SIDE];
            sl_transpose8(src + j * col_stride + i, col_stride, t);
#pragma GCC unroll 8
            for (uint32_t r = 0; r < SIDE; r++)
                *(sl_v8_any *)(to + (i + r) * SL_BLOCK_N + j) = t[r];
        }
}

static void edge_block(
    const float *src, size_t row_stride, size_t col_stride, uint32_t rows, uint32_t cols, float *to)
{
    memset(to, 0, SL_BLOCK_K * SL_BLOCK_N * sizeof *to);
    for (uint32_t i = 0; i < rows; i++)
        for (uint32_t j = 0; j < cols; j++)
            to[i * SL_BLOCK_N + j] = src[i * row_stride + j * col_stride];
}

/* Memory is read as 16 streams at a time, which is what the CPU's prefetchers follow: along n where rows lie
 * side by side, along k where columns do. Whole blocks only. */
SL_INLINE void pack_rows(const float *src, size_t row_stride, uint32_t k, uint32_t first, uint32_t end,
    const struct sl_blocks *b, float *to)
{
    for (uint32_t i = 0; i < k; i += SL_BLOCK_K)
        for (uint32_t j = first; j < end; j += SL_BLOCK_N)
            copy_block(src + i * row_stride + j, row_stride,
                to + i / SL_BLOCK_K * b->k_stride + j / SL_BLOCK_N * b->n_stride);
}

SL_INLINE void pack_columns(const float *src, size_t col_stride, uint32_t k, uint32_t first, uint32_t end,
    const struct sl_blocks *b, float *to)
{
    for (uint32_t j = first; j < end; j += LANES)
        for (uint32_t i = 0; i < k; i += SL_BLOCK_K)
            transpose_columns(src + i + j * col_stride, col_stride,
                to + i / SL_BLOCK_K * b->k_stride + j / SL_BLOCK_N * b->n_stride + j % SL_BLOCK_N);
}

SL_CLONES void sl_blocks_pack(const float *src, size_t row_stride, size_t col_stride, uint32_t k, uint32_t n,
    uint32_t first, uint32_t cols, const struct sl_blocks *b, float *to)
{
    uint32_t end = first + cols, whole_k = k / SL_BLOCK_K * SL_BLOCK_K;
    uint32_t whole_end = end < n / SL_BLOCK_N * SL_BLOCK_N ? end : n / SL_BLOCK_N * SL_BLOCK_N;
    if (col_stride == 1)
        pack_rows(src, row_stride, whole_k, first, whole_end, b, to);
    else
        pack_columns(src, col_stride, whole_k, first, whole_end, b, to);
    for (uint32_t j = first; j < end; j += SL_BLOCK_N)
        for (uint32_t i = j < whole_end ? whole_k : 0; i < k; i += SL_BLOCK_K)
            edge_block(src + i * row_stride + j * col_stride, row_stride, col_stride,
                k - i < SL_BLOCK_K ? k - i : SL_BLOCK_K, n - j < SL_BLOCK_N ? n - j : SL_BLOCK_N,
                to + i / SL_BLOCK_K * b->k_stride + j / SL_BLOCK_N * b->n_stride);
}
