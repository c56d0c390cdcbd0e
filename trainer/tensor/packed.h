/* Frozen matrices: converted to the precision of the arithmetic and packed once, then multiplied by many
 * times. bf16 products are oneDNN's (bf16 operands, f32 accumulation). f32 products are oneDNN's too, where
 * it has its AVX-512 kernel, else OpenBLAS', which reads the f32 source. Packed f32 takes a copy for each
 * direction; with `stream` products pack the source anew each time instead, for some percent of their time.
 *
 * A packed matrix is W [in, out]: forward is y = x W, backward is dx = dy Wᵀ (the only gradient that a frozen
 * matrix has). The head's matrix may be cut into tiles of columns of W (runs of the vocabulary), so that
 * nobody needs all logits.
 *
 * A packed matrix is read only after creation: any thread may multiply by it, each with its own scratch. A
 * product uses the threads of sl_gemm_threads. Results depend on library, kernel, thread count and number of
 * rows, on nothing else (rules L7). The first product of a (shape, leading dimensions, extras, number of rows
 * rounded up to SL_PACKED_ROWS) compiles a kernel and keeps it for the process; afterwards nothing is
 * allocated. */
#pragma once

#include "trainer/tensor/bf16.h"

#include <stdbool.h>

enum sl_precision { SL_PRECISION_F32, SL_PRECISION_BF16 };

/* Products work on multiples of this many rows; see `room`. */
enum { SL_PACKED_ROWS = 16 };

/* Whether this CPU multiplies in that precision (bf16: AVX-512 BF16 or AMX). f32 always. */
bool sl_precision_supported(enum sl_precision);
/* The library and kernel of its products: "oneDNN 2.6.3 brg:avx512_core_bf16", "OpenBLAS Haswell" (rules L7).
 */
const char *sl_packed_kernel_name(enum sl_precision);
/* sizeof one element. */
static inline size_t sl_precision_size(enum sl_precision p)
{
    return p == SL_PRECISION_BF16 ? sizeof(sl_bf16) : sizeof(float);
}
/* Products executed by sl_packed_* in this process, in that arithmetic (one per call, not per thread or
 * block). */
uint64_t sl_packed_count(enum sl_precision);

struct sl_packed;

struct sl_packed_config {
    const float *w; /* [in, out], or [out, in] with out_in; rows ld floats apart (0: dense) */
    uint32_t in, out, ld;
    bool out_in; /* Llama's layout, and every lm_head's */
    enum sl_precision precision;
    bool backward; /* also packed for dx = dy Wᵀ */
    bool stream; /* f32: nothing is kept packed; each product packs its matrix into the scratch. Else ignored
                  */
    uint32_t tile; /* columns of W per tile; 0: one tile, all of them */
};

/* -ENOMEM; -ENOTSUP: this CPU lacks the precision; -EINVAL: an empty matrix. */
int sl_packed_create(const struct sl_packed_config *, struct sl_packed **);
void sl_packed_free(struct sl_packed *);
/* Bytes that the packed copies use; 0 where products read the source in place. */
size_t sl_packed_bytes(const struct sl_packed *);
/* False: products read the f32 source, which must outlive the packed matrix unchanged. */
bool sl_packed_source_free(const struct sl_packed *);
uint32_t sl_packed_tiles(const struct sl_packed *);
/* First column of W of a tile, and how many it has (the last one may be narrower). */
void sl_packed_tile(const struct sl_packed *, uint32_t tile, uint32_t *first, uint32_t *n);

/* Column j of W, `in` elements of the packed precision: a word's row of a tied head. Needs `backward`. */
void sl_packed_column(const struct sl_packed *, uint32_t j, void *out);

/* y [rows, n] = x [rows, k] · matrix (+ bias) (+ residual, or + y). */
struct sl_product {
    uint32_t rows;
    /* Rows that x, y and residual have MEMORY for, counted from the same first row; 0 means `rows`. Where it
     * is less than `rows` rounded up to SL_PACKED_ROWS, the product goes through copies in the scratch (some
     * percent slower). What lies in y beyond `rows` keeps its values, but is written for a while: no other
     * thread may use it. */
    uint32_t room;
    const void *x; /* of the packed precision */
    uint32_t ld_x; /* elements per row */
    void *y;
    uint32_t ld_y;
    enum sl_precision y_type; /* of y and residual; F32 arithmetic has F32 results only */
    const float *bias;        /* [n] or NULL */
    const void *residual;     /* [rows, n], ld_y apart, or NULL; may not overlap y */
    bool accumulate;          /* add to what y holds; not together with residual */
};

/* Bytes of 64-byte aligned scratch for products up to max_rows (rows, not room), all tiles, either direction.
 */
size_t sl_packed_scratch(const struct sl_packed *, uint32_t max_rows);

/* Products return 0, or -ENOMEM where a new kernel could not be made.
 * The whole matrix: one tile (sl_packed_tiles == 1). */
int sl_packed_forward(const struct sl_packed *, const struct sl_product *, void *scratch);
/* x is dy [rows, out], y is dx [rows, in]. */
int sl_packed_backward(const struct sl_packed *, const struct sl_product *, void *scratch);
/* Tile t = columns [first, first + n) of W: y [rows, n] = x W_t. */
int sl_packed_forward_tile(const struct sl_packed *, uint32_t tile, const struct sl_product *, void *scratch);
/* y [rows, in] = x [rows, n] W_tᵀ; with `accumulate`, the sum over tiles is the whole product. */
int sl_packed_backward_tile(
    const struct sl_packed *, uint32_t tile, const struct sl_product *, void *scratch);
