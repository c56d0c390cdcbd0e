/* The MLP's activations over dense rows. Arithmetic in f32; backward computes the exponential again rather
 * than keeping anything but its input. Elements are read before they are written: an output may be the memory
 * of an input of the same precision and shape. Pure functions, on the process's threads (parallel.h). */
#pragma once

#include "trainer/tensor/view.h"

enum sl_act { SL_ACT_GELU, SL_ACT_SWIGLU };

/* GELU: GPT-2's gelu_new, x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x³))); x, act: [rows, ff].
 * SwiGLU (arXiv 2002.05202): act = silu(gate) · up; x: [rows, 2 ff], gate first; act: [rows, ff]. */
void sl_act_forward(enum sl_act, struct sl_src x, uint32_t rows, uint32_t ff, struct sl_dst act);
/* dx [rows, as wide as x] from dact [rows, ff]. */
void sl_act_backward(
    enum sl_act, struct sl_src x, struct sl_src dact, uint32_t rows, uint32_t ff, struct sl_dst dx);
