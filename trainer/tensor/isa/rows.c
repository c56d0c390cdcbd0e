/* The kernels over rows of one instruction set. */
#include "trainer/tensor/isa/isa.h"

#include "trainer/tensor/isa/act_rows.h"
#include "trainer/tensor/isa/loss_rows.h"
#include "trainer/tensor/isa/norm_rows.h"

extern const struct sl_row_kernels SL_ISA_NAME(sl_row_kernels);
const struct sl_row_kernels SL_ISA_NAME(sl_row_kernels) = {
    .norm_forward = norm_forward,
    .norm_backward = norm_backward,
    .gelu_forward = gelu_forward,
    .gelu_backward = gelu_backward,
    .swiglu_forward = swiglu_forward,
    .swiglu_backward = swiglu_backward,
    .softmax_tile = softmax_tile,
    .scale_row = scale_row,
};
