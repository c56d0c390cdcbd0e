#include "trainer/tensor/norm.h"
#include "trainer/tensor/isa/isa.h"
#include "trainer/tensor/parallel.h"

enum { GRAIN = 8 }; /* rows: a range of fewer is not worth a thread */

struct norm_work {
    const struct sl_norm *k;
    struct sl_src x, add, dy, residual;
    struct sl_dst sum, y;
    struct sl_norm_stats stats;
    float *meansq, *dw, *db;
    sl_bf16 *copy;
};

static struct sl_norm_stats stats_at(struct sl_norm_stats s, uint32_t row)
{
    return (struct sl_norm_stats){s.mean ? s.mean + row : NULL, s.rstd + row};
}

static void forward_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct norm_work *w = ctx;
    size_t at = (size_t)first * w->k->d;
    sl_row_kernels()->norm_forward(w->k, sl_src_at(w->x, at), sl_src_at(w->add, at), n, sl_dst_at(w->sum, at),
        sl_dst_at(w->y, at), stats_at(w->stats, first), w->meansq ? w->meansq + first : NULL);
}

static void backward_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct norm_work *w = ctx;
    size_t at = (size_t)first * w->k->d;
    sl_row_kernels()->norm_backward(w->k, sl_src_at(w->dy, at), sl_src_at(w->x, at),
        stats_at(w->stats, first), sl_src_at(w->residual, at), n, sl_dst_at(w->y, at),
        w->copy ? w->copy + at : NULL, w->dw, w->db);
}

void sl_norm_forward(const struct sl_norm *k, struct sl_src x, struct sl_src add, uint32_t rows,
    struct sl_dst sum, struct sl_dst y, struct sl_norm_stats stats, float *meansq)
{
    struct norm_work w = {.k = k, .x = x, .add = add, .sum = sum, .y = y, .stats = stats, .meansq = meansq};
    sl_parallel(rows, GRAIN, forward_rows, &w);
}

void sl_norm_backward(const struct sl_norm *k, struct sl_src dy, struct sl_src x, struct sl_norm_stats stats,
    struct sl_src residual, uint32_t rows, struct sl_dst dx, sl_bf16 *dx_bf16, float *dw, float *db)
{
    struct norm_work w = {.k = k,
        .dy = dy,
        .x = x,
        .stats = stats,
        .residual = residual,
        .y = dx,
        .copy = dx_bf16,
        .dw = dw,
        .db = db};
    if (dw) /* all rows add to one dw: one thread (training of everything, not of adapters) */
        backward_rows(&w, 0, 0, rows);
    else
        sl_parallel(rows, GRAIN, backward_rows, &w);
}
