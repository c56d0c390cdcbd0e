/* What the kernels' tests share: data, and the distance to a plain twin computed in double. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trainer/tensor/view.h"

/* n values of scale · uniform [-1, 1), malloc'ed. */
float *twin_data(const char *name, size_t n, float scale);
/* Fails where ‖ours - twin‖ / ‖twin‖ is above the tolerance. */
void twin_close(const float *ours, const double *twin, size_t n, double tolerance, const char *what);

/* A matrix in either storage, with the values that it holds in f32. */
struct twin_matrix {
    void *p;
    float *value;
    enum sl_precision precision;
    size_t n;
};
/* twin_data rounded to the precision. */
struct twin_matrix twin_matrix(const char *name, size_t n, float scale, enum sl_precision);
/* Full of NaN: whoever writes it must write all of it. */
struct twin_matrix twin_empty(size_t n, enum sl_precision);
void twin_free(struct twin_matrix *);
static inline struct sl_src twin_src(const struct twin_matrix *m)
{
    return (struct sl_src){m->p, m->precision};
}
static inline struct sl_dst twin_dst(const struct twin_matrix *m)
{
    return (struct sl_dst){m->p, m->precision};
}
/* twin_close over what p holds; a bf16 matrix may be off by the rounding, 2^-8 an element, as well. */
void twin_matrix_close(const struct twin_matrix *, const double *twin, double tolerance, const char *what);
/* Runs `check` with the kernels of every instruction set that this CPU has, then goes back to its best. */
void twin_every_isa(void (*check)(void));
