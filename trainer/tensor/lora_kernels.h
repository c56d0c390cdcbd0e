/* The register kernels under lora_gemm.h; internal to trainer/tensor. One thread, any sizes, r = ranks.
 *   dots:   u [rows, r]  = scale · x [rows, k] mᵀ            m [r, k]
 *   spread: y [rows, n] += scale · u [rows, r] m             m [r, n]
 *   outer:  g(j, c)     += scale · Σ_i u(i, j) x(i, c)       g at j g_rank + c g_col, one of the two strides
 * 1 f32 matrices m have rows ld_m apart. bf16 ones come in two layouts, rows padded with zeros to SL_LORA_PAD
 * columns: plain [r, ld_m] for dots, and for spread pairs of rows interleaved, [(r + 1) / 2, ld_m, 2]. */
#pragma once

#include "trainer/tensor/bf16.h"

#include <stdbool.h>

enum { SL_LORA_PAD = 32 };

/* A [ranks, n], or transposed B [n, ranks], to the layouts above. */
void sl_lora_pack_f32(const float *a, uint32_t ranks, uint32_t n, size_t ld, float *to);
void sl_lora_pack_transposed_f32(const float *b, uint32_t ranks, uint32_t n, size_t ld, float *to);
void sl_lora_pack_bf16(const float *a, uint32_t ranks, uint32_t n, size_t ld, sl_bf16 *plain, sl_bf16 *pairs);
void sl_lora_pack_transposed_bf16(
    const float *b, uint32_t ranks, uint32_t n, size_t ld, sl_bf16 *plain, sl_bf16 *pairs);

void sl_lora_dots_f32(const float *x, size_t ld_x, uint32_t rows, uint32_t k, const float *m, size_t ld_m,
    uint32_t r, float scale, float *u, size_t ld_u);
void sl_lora_spread_f32(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale, const float *m,
    size_t ld_m, uint32_t n, float *y, size_t ld_y);
void sl_lora_outer_f32(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale, const float *x,
    size_t ld_x, uint32_t n, float *g, size_t g_rank, size_t g_col);

/* Only where sl_precision_supported(SL_PRECISION_BF16). y is bf16 where y_bf16, else f32. */
void sl_lora_dots_bf16(const sl_bf16 *x, size_t ld_x, uint32_t rows, uint32_t k, const sl_bf16 *m,
    size_t ld_m, uint32_t r, float scale, float *u, size_t ld_u);
void sl_lora_spread_bf16(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale,
    const sl_bf16 *m, size_t ld_m, uint32_t n, void *y, size_t ld_y, bool y_bf16);
void sl_lora_outer_bf16(const float *u, size_t ld_u, uint32_t rows, uint32_t r, float scale, const sl_bf16 *x,
    size_t ld_x, uint32_t n, float *g, size_t g_rank, size_t g_col);
