#include "trainer/tensor/lora_kernels.h"
#include "trainer/tensor/lora_tile.h"
#include "trainer/tensor/simd.h"

#include <string.h>

typedef uint32_t v8_bits __attribute__((vector_size(32)));
typedef uint32_t v8_bits_any __attribute__((vector_size(32), aligned(4), may_alias));
typedef uint16_t v8_half __attribute__((vector_size(16)));
typedef uint16_t v8_half_any __attribute__((vector_size(16), aligned(2), may_alias));

void sl_lora_pack_f32(const float *a, uint32_t ranks, uint32_t n, size_t ld, float *to)
{
    for (uint32_t j = 0; j < ranks; j++, a += n, to += ld) {
        memcpy(to, a, n * sizeof *to);
        memset(to + n, 0, (ld - n) * sizeof *to);
    }
}

/* Rows [j, j + height) of the result, element by element, from column c on. */
static void rest_f32(
    const float *b, uint32_t ranks, uint32_t n, size_t ld, float *to, uint32_t j, uint32_t height, uint32_t c)
{
    for (uint32_t i = j; i < j + height; i++) {
        for (uint32_t k = c; k < n; k++)
            to[i * ld + k] = b[(size_t)k * ranks + i];
        memset(to + i * ld + n, 0, (ld - n) * sizeof *to);
    }
}

SL_CLONES void sl_lora_pack_transposed_f32(const float *b, uint32_t ranks, uint32_t n, size_t ld, float *to)
{
    for (uint32_t j = 0; j < ranks; j += 8) {
        uint32_t c = 0, height = ranks - j < 8 ? ranks - j : 8;
        for (; height == 8 && c + 8 <= n; c += 8) {
            sl_v8 t[8];
            sl_transpose8(b + (size_t)c * ranks + j, ranks, t);
#pragma GCC unroll 8
            for (uint32_t i = 0; i < 8; i++)
                *(sl_v8_any *)(to + (j + i) * ld + c) = t[i];
        }
        rest_f32(b, ranks, n, ld, to, j, height, c);
    }
}

/* Rows j and j + 1 of the plain layout, side by side. */
SL_INLINE void interleave(const sl_bf16 *even, const sl_bf16 *odd, size_t n, sl_bf16 *pairs)
{
    uint32_t *to = (uint32_t *)(void *)pairs;
#pragma omp simd
    for (size_t c = 0; c < n; c++)
        to[c] = (uint32_t)even[c] | (odd ? (uint32_t)odd[c] << 16 : 0);
}

SL_CLONES void sl_lora_pack_bf16(
    const float *a, uint32_t ranks, uint32_t n, size_t ld, sl_bf16 *plain, sl_bf16 *pairs)
{
    for (uint32_t j = 0; j < ranks; j++) {
        sl_bf16_from_f32(a + (size_t)j * n, n, plain + j * ld);
        memset(plain + j * ld + n, 0, (ld - n) * sizeof *plain);
    }
    for (uint32_t j = 0; j < ranks; j += 2)
        interleave(plain + j * ld, j + 1 < ranks ? plain + (j + 1) * ld : NULL, ld, pairs + j * ld);
}

/* bf16 in the lower halves; finite values only, which weights are. */
SL_INLINE void round8(const sl_v8 *x, v8_bits *out)
{
    v8_bits u = (v8_bits)*x;
    *out = (u + 0x7FFFu + (u >> 16 & 1u)) >> 16;
}

static void rest_bf16(const float *b, uint32_t ranks, uint32_t n, size_t ld, sl_bf16 *plain, uint32_t j,
    uint32_t height, uint32_t c)
{
    for (uint32_t i = j; i < j + height; i++) {
        for (uint32_t k = c; k < n; k++)
            plain[i * ld + k] = sl_bf16_round(b[(size_t)k * ranks + i]);
        memset(plain + i * ld + n, 0, (ld - n) * sizeof *plain);
    }
}

SL_CLONES void sl_lora_pack_transposed_bf16(
    const float *b, uint32_t ranks, uint32_t n, size_t ld, sl_bf16 *plain, sl_bf16 *pairs)
{
    for (uint32_t j = 0; j < ranks; j += 8) {
        uint32_t c = 0, height = ranks - j < 8 ? ranks - j : 8;
        for (; height == 8 && c + 8 <= n; c += 8) {
            sl_v8 t[8];
            sl_transpose8(b + (size_t)c * ranks + j, ranks, t);
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 8; i += 2) {
                v8_bits even, odd;
                round8(&t[i], &even);
                round8(&t[i + 1], &odd);
                *(v8_half_any *)(plain + (j + i) * ld + c) = __builtin_convertvector(even, v8_half);
                *(v8_half_any *)(plain + (j + i + 1) * ld + c) = __builtin_convertvector(odd, v8_half);
                *(v8_bits_any *)(pairs + (j + i) * ld + 2 * c) = even | odd << 16;
            }
        }
        rest_bf16(b, ranks, n, ld, plain, j, height, c);
        for (uint32_t i = j; i < j + height; i += 2)
            interleave(plain + i * ld + c, i + 1 < ranks ? plain + (i + 1) * ld + c : NULL, ld - c,
                pairs + i * ld + 2 * (size_t)c);
    }
}
