/* The MLP's activations over rows. Pure functions. */
#pragma once

#include <stdint.h>

/* act[rows, ff] = silu(gate) · up; gate_up is [rows, 2 ff], gate first (arXiv 2002.05202, SwiGLU). */
void sl_swiglu_forward(const float *gate_up, uint32_t rows, uint32_t ff, float *act);
void sl_swiglu_backward(const float *gate_up, const float *dact, uint32_t rows, uint32_t ff, float *dgate_up);

/* GPT-2's gelu_new: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))), over [rows, ff]. */
void sl_gelu_forward(const float *x, uint32_t rows, uint32_t ff, float *act);
void sl_gelu_backward(const float *x, const float *dact, uint32_t rows, uint32_t ff, float *dx);
