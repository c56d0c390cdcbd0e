#include "trainer/tensor/norm.h"
#include "trainer/tensor/isa/isa.h"

void sl_norm_forward(const struct sl_norm *k, struct sl_src x, struct sl_src add, uint32_t rows,
    struct sl_dst sum, struct sl_dst y, struct sl_norm_stats stats, float *meansq)
{
    sl_row_kernels()->norm_forward(k, x, add, rows, sum, y, stats, meansq);
}

void sl_norm_backward(const struct sl_norm *k, struct sl_src dy, struct sl_src x, struct sl_norm_stats stats,
    struct sl_src residual, uint32_t rows, struct sl_dst dx, sl_bf16 *dx_bf16, float *dw, float *db)
{
    sl_row_kernels()->norm_backward(k, dy, x, stats, residual, rows, dx, dx_bf16, dw, db);
}

void sl_rmsnorm_forward(const float *x, const float *w, float eps, uint32_t rows, uint32_t d, float *y,
    float *rstd, float *meansq)
{
    struct sl_norm k = {.d = d, .eps = eps, .w = w};
    sl_norm_forward(&k, sl_src_f32(x), sl_src_f32(NULL), rows, sl_dst_f32(NULL), sl_dst_f32(y),
        (struct sl_norm_stats){.rstd = rstd}, meansq);
}

void sl_rmsnorm_backward(const float *dy, const float *x, const float *w, const float *rstd, uint32_t rows,
    uint32_t d, float *dx, float *dw)
{
    struct sl_norm k = {.d = d, .w = w};
    sl_norm_backward(&k, sl_src_f32(dy), sl_src_f32(x), (struct sl_norm_stats){.rstd = (float *)rstd},
        sl_src_f32(dx), rows, sl_dst_f32(dx), NULL, dw, NULL);
}

void sl_layernorm_forward(const float *x, const float *w, const float *b, float eps, uint32_t rows,
    uint32_t d, float *y, float *mean, float *rstd, float *meansq)
{
    struct sl_norm k = {.centred = true, .d = d, .eps = eps, .w = w, .b = b};
    sl_norm_forward(&k, sl_src_f32(x), sl_src_f32(NULL), rows, sl_dst_f32(NULL), sl_dst_f32(y),
        (struct sl_norm_stats){mean, rstd}, meansq);
}

void sl_layernorm_backward(const float *dy, const float *x, const float *w, const float *mean,
    const float *rstd, uint32_t rows, uint32_t d, float *dx, float *dw, float *db)
{
    struct sl_norm k = {.centred = true, .d = d, .w = w};
    sl_norm_backward(&k, sl_src_f32(dy), sl_src_f32(x), (struct sl_norm_stats){(float *)mean, (float *)rstd},
        sl_src_f32(dx), rows, sl_dst_f32(dx), NULL, dw, db);
}
