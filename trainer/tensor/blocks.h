/* oneDNN's layout of an f32 operand on AVX-512, written by ourselves before each product: blocks of 16 rows
 * by 64 columns, row-major within a block, zeros beyond the matrix. The library's own reorder takes 12 to 40
 * % of a product's time. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum { SL_BLOCK_K = 16, SL_BLOCK_N = 64 };

struct sl_blocks {
    size_t k_stride, n_stride; /* elements from a block to the next one along k, along n */
};

/* Element (i, j) of [k, n] = src[i row_stride + j col_stride], one of the two 1. Writes columns [first, first
 * + cols); first is a multiple of SL_BLOCK_N. `to` is 64-byte aligned. */
void sl_blocks_pack(const float *src, size_t row_stride, size_t col_stride, uint32_t k, uint32_t n,
    uint32_t first, uint32_t cols, const struct sl_blocks *, float *to);
