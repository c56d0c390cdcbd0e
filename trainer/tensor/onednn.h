/* Products of oneDNN with one operand packed in the library's own layout. Internal to trainer/tensor:
 * packed.h is what others use. Source, result and residual are dense, because the library has no fast kernel
 * for rows further apart. */
#pragma once

#include "trainer/tensor/blocks.h"
#include "trainer/tensor/packed.h"

/* y [m, n] = x [m, k] · weights (+ bias) (+ residual | + y). Compared byte by byte: it has no padding. */
struct sl_onednn_spec {
    uint32_t m, k, n;
    uint16_t precision, y_type; /* enum sl_precision */
    uint16_t bias;
    uint8_t residual, accumulate;
};
_Static_assert(sizeof(struct sl_onednn_spec) == 20, "padding would be compared");

struct sl_onednn_weights;

/* Whether the library has its fast kernel (not the reference) for this precision on this CPU. */
bool sl_onednn_fast(enum sl_precision);
/* "oneDNN 2.6.3 brg:avx512_core_bf16"; "" without the library. Filled once. */
const char *sl_onednn_name(enum sl_precision);
/* Bytes of a packed [k, n] matrix, a multiple of 64; 0 where it cannot be packed. */
size_t sl_onednn_packed_size(enum sl_precision, uint32_t k, uint32_t n);
/* Whether a packed f32 [k, n] matrix consists of blocks.h's blocks, and how they follow each other. */
bool sl_onednn_blocks(uint32_t k, uint32_t n, struct sl_blocks *);
/* Converts element (i, j) = src[i row_stride + j col_stride] into `dst` (64-byte aligned, kept by the
 * weights). */
int sl_onednn_pack(enum sl_precision, uint32_t k, uint32_t n, const float *src, size_t row_stride,
    size_t col_stride, void *dst, struct sl_onednn_weights **);
/* Row i of the packed [k, n] matrix, n elements of the precision. */
void sl_onednn_row(const struct sl_onednn_weights *, uint32_t i, void *out);
void sl_onednn_weights_free(struct sl_onednn_weights *);

/* What one thread gives the library to work in. */
enum { SL_ONEDNN_SCRATCH = 256 << 10 };
/* The matrix is `weights`, or with NULL the packed one at `blocks`. Runs in the calling thread alone. The
 * spec's kernel is compiled at its first use and kept. 0, -ENOMEM or -ENOTSUP. */
int sl_onednn_run(const struct sl_onednn_spec *, const struct sl_onednn_weights *, const void *blocks,
    const void *x, void *y, const float *bias, const void *residual, void *scratch);
