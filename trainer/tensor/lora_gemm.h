/* LoRA's thin products of one linear layer, for the rows of many adapters in one batch. oneDNN and OpenBLAS
 * reach half of their speed or less with k or n = 8..64, and cannot group; these are register kernels of our
 * own.
 *
 * A layer has up to SL_LORA_TARGETS targets that share their input x [rows, in] and lie side by side in its
 * output y: target t in columns [col, col + width). An adapter has A of all targets one after another, [n
 * rank, in], and B_t [width_t, rank] (PEFT's orientation). With u = x Aᵀ [rows, n rank]: forward:  y_t +=
 * scale · u_t B_tᵀ backward: du_t = scale · dy_t B_t,  dB_t += scale · dy_tᵀ u_t,  dA += duᵀ x,  dx += du A
 *
 * Rows belong to segments, each with its own adapter; rows of no segment have none. In bf16, x and dy are
 * bf16, A, B, u and du are rounded to bf16 as operands, and sums are f32. A row's results do not depend on
 * the other rows, and no result depends on the number of threads. Nothing is allocated. */
#pragma once

#include "trainer/tensor/packed.h"

enum { SL_LORA_TARGETS = 3, SL_LORA_MAX_RANK = 256 };

struct sl_lora_shape {
    enum sl_precision precision; /* of x and dy, and of the arithmetic */
    uint32_t in, rank;           /* rank <= SL_LORA_MAX_RANK */
    uint32_t n;                  /* targets */
    uint32_t col[SL_LORA_TARGETS], width[SL_LORA_TARGETS];
    float scale; /* alpha / rank */
};

/* A and B as the products read them (in bf16 where that is the precision): made again after every optimiser
 * step. */
size_t sl_lora_packed_size(const struct sl_lora_shape *);
/* `packed` is 64-byte aligned, of sl_lora_packed_size bytes. */
void sl_lora_pack(const struct sl_lora_shape *, const float *a, const float *const *b, void *packed);

struct sl_lora_segment {
    uint32_t first, rows; /* of the batch; segments do not overlap */
    const void *packed;
    float *grad_a; /* [n rank, in]; NULL: A is not trained */
    float *grad_b[SL_LORA_TARGETS];
};

/* u [rows of the batch, n rank] is written for the segments' rows and kept for backward. y is [rows, ld_y],
 * of y_type. */
void sl_lora_forward(const struct sl_lora_shape *, const struct sl_lora_segment *, uint32_t n_segments,
    const void *x, uint32_t ld_x, float *u, void *y, uint32_t ld_y, enum sl_precision y_type);
/* du is scratch like u. dx [rows, ld_dx] of dx_type is added to; NULL: not needed. Gradients are added to;
 * two segments may share an adapter. */
void sl_lora_backward(const struct sl_lora_shape *, const struct sl_lora_segment *, uint32_t n_segments,
    const void *x, uint32_t ld_x, const float *u, const void *dy, uint32_t ld_dy, float *du, void *dx,
    uint32_t ld_dx, enum sl_precision dx_type);
