/* Kernels that are compiled once per instruction set (the files of this folder that meson.build lists as
 * such) and chosen when the program starts. Their results depend on the instruction set, never on addresses,
 * thread timing or what else is computed (rules L7). */
#pragma once

#include "trainer/tensor/view.h"

/* Levels of x86-64 (its psABI, microarchitecture levels), the last with AVX512_BF16. Other CPUs have the
 * first only. */
enum sl_isa { SL_ISA_BASE, SL_ISA_V3, SL_ISA_V4, SL_ISA_V4_BF16, SL_ISA_COUNT };

bool sl_isa_supported(enum sl_isa);
const char *sl_isa_name(enum sl_isa);
/* The one in use: the widest supported. */
enum sl_isa sl_isa_current(void);
/* Chooses another for the whole process; before any kernel runs, or between runs of a test. -ENOTSUP. */
int sl_isa_use(enum sl_isa);

struct sl_norm;
struct sl_norm_stats;
struct sl_attention;

/* Over rows [0, rows) of what they are given; see norm.h and act.h. */
struct sl_row_kernels {
    void (*norm_forward)(const struct sl_norm *, struct sl_src x, struct sl_src add, uint32_t rows,
        struct sl_dst sum, struct sl_dst y, struct sl_norm_stats, float *meansq);
    void (*norm_backward)(const struct sl_norm *, struct sl_src dy, struct sl_src x, struct sl_norm_stats,
        struct sl_src residual, uint32_t rows, struct sl_dst dx, sl_bf16 *dx_bf16, float *dw, float *db);
    void (*gelu_forward)(struct sl_src x, uint32_t rows, uint32_t ff, struct sl_dst act);
    void (*gelu_backward)(struct sl_src x, struct sl_src dact, uint32_t rows, uint32_t ff, struct sl_dst dx);
    void (*swiglu_forward)(struct sl_src gate_up, uint32_t rows, uint32_t ff, struct sl_dst act);
    void (*swiglu_backward)(
        struct sl_src gate_up, struct sl_src dact, uint32_t rows, uint32_t ff, struct sl_dst dgate_up);
    /* A tile of logits [rows, n] (loss.c). max2[row] is close to the row's highest so far, times log2(e);
     * factor[row] is the weight, under the new one, of what was summed under the old (1 where it did not
     * move); sum[row] is scaled by it and has e^logits / 2^max2 added. p [rows, n] are these exponentials, in
     * f32 (p may be the logits) or bf16; p.p may be NULL. Start with max2 -INFINITY, sum 0. */
    void (*softmax_tile)(const float *logits, uint32_t rows, uint32_t n, float *max2, double *sum,
        float *factor, struct sl_dst p);
    /* y[d] = y·scale - t. t.p may be NULL (zero). */
    void (*scale_row)(float *y, uint32_t d, float scale, struct sl_src t);
};
const struct sl_row_kernels *sl_row_kernels(void);

/* One key/value head of one sequence with its query heads; see attention.h. All pointers are at the
 * sequence's first row, and lse and out at its first head. */
struct sl_attention_kernels {
    void (*forward)(const struct sl_attention *, struct sl_src qkv, uint32_t len, uint32_t kv_head,
        struct sl_dst out, float *lse, float *scratch);
    void (*backward)(const struct sl_attention *, struct sl_src qkv, struct sl_src out, const float *lse,
        struct sl_src dout, uint32_t len, uint32_t kv_head, struct sl_dst dqkv, float *scratch);
};
const struct sl_attention_kernels *sl_attention_kernels(void);

/* In a file that is compiled per instruction set: NAME_v4 and so on. */
#define SL_ISA_PASTE(name, isa) name##_##isa
#define SL_ISA_EXPAND(name, isa) SL_ISA_PASTE(name, isa)
#define SL_ISA_NAME(name) SL_ISA_EXPAND(name, SL_ISA)
