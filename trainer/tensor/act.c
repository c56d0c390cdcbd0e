#include "trainer/tensor/act.h"
#include "trainer/tensor/isa/isa.h"

void sl_act_forward(enum sl_act kind, struct sl_src x, uint32_t rows, uint32_t ff, struct sl_dst act)
{
    const struct sl_row_kernels *k = sl_row_kernels();
    (kind == SL_ACT_GELU ? k->gelu_forward : k->swiglu_forward)(x, rows, ff, act);
}

void sl_act_backward(
    enum sl_act kind, struct sl_src x, struct sl_src dact, uint32_t rows, uint32_t ff, struct sl_dst dx)
{
    const struct sl_row_kernels *k = sl_row_kernels();
    (kind == SL_ACT_GELU ? k->gelu_backward : k->swiglu_backward)(x, dact, rows, ff, dx);
}

void sl_swiglu_forward(const float *gate_up, uint32_t rows, uint32_t ff, float *act)
{
    sl_act_forward(SL_ACT_SWIGLU, sl_src_f32(gate_up), rows, ff, sl_dst_f32(act));
}

void sl_swiglu_backward(const float *gate_up, const float *dact, uint32_t rows, uint32_t ff, float *dgate_up)
{
    sl_act_backward(SL_ACT_SWIGLU, sl_src_f32(gate_up), sl_src_f32(dact), rows, ff, sl_dst_f32(dgate_up));
}

void sl_gelu_forward(const float *x, uint32_t rows, uint32_t ff, float *act)
{
    sl_act_forward(SL_ACT_GELU, sl_src_f32(x), rows, ff, sl_dst_f32(act));
}

void sl_gelu_backward(const float *x, const float *dact, uint32_t rows, uint32_t ff, float *dx)
{
    sl_act_backward(SL_ACT_GELU, sl_src_f32(x), sl_src_f32(dact), rows, ff, sl_dst_f32(dx));
}
