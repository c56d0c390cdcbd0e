#include "trainer/tensor/act.h"
#include "trainer/tensor/isa/isa.h"
#include "trainer/tensor/parallel.h"

enum { GRAIN = 8 }; /* rows: a range of fewer is not worth a thread */

struct act_work {
    enum sl_act kind;
    struct sl_src x, dact;
    uint32_t ff;
    struct sl_dst y;
};

static void forward_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct act_work *w = ctx;
    const struct sl_row_kernels *k = sl_row_kernels();
    size_t at = (size_t)first * w->ff, in = w->kind == SL_ACT_GELU ? at : 2 * at;
    (w->kind == SL_ACT_GELU ? k->gelu_forward : k->swiglu_forward)(
        sl_src_at(w->x, in), n, w->ff, sl_dst_at(w->y, at));
}

static void backward_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct act_work *w = ctx;
    const struct sl_row_kernels *k = sl_row_kernels();
    size_t at = (size_t)first * w->ff, in = w->kind == SL_ACT_GELU ? at : 2 * at;
    (w->kind == SL_ACT_GELU ? k->gelu_backward : k->swiglu_backward)(
        sl_src_at(w->x, in), sl_src_at(w->dact, at), n, w->ff, sl_dst_at(w->y, in));
}

void sl_act_forward(enum sl_act kind, struct sl_src x, uint32_t rows, uint32_t ff, struct sl_dst act)
{
    struct act_work w = {.kind = kind, .x = x, .ff = ff, .y = act};
    sl_parallel(rows, GRAIN, forward_rows, &w);
}

void sl_act_backward(
    enum sl_act kind, struct sl_src x, struct sl_src dact, uint32_t rows, uint32_t ff, struct sl_dst dx)
{
    struct act_work w = {.kind = kind, .x = x, .dact = dact, .ff = ff, .y = dx};
    sl_parallel(rows, GRAIN, backward_rows, &w);
}
