#include "tests/tensor/twin.h"
#include "trainer/tensor/isa/isa.h"
#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

float *twin_data(const char *name, size_t n, float scale)
{
    uint64_t key = sl_rng_key(1, name);
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = scale * sl_rng_uniform(key, i);
    return x;
}

void twin_close(const float *ours, const double *twin, size_t n, double tolerance, const char *what)
{
    double diff = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        diff += (ours[i] - twin[i]) * (ours[i] - twin[i]);
        norm += twin[i] * twin[i];
    }
    if (!(sqrt(diff) <= tolerance * sqrt(norm)))
        fail_msg("%s: %g of %g", what, sqrt(diff), sqrt(norm));
}

struct twin_matrix twin_empty(size_t n, enum sl_precision precision)
{
    struct twin_matrix m = {malloc(n * sl_precision_size(precision)), calloc(n, sizeof(float)), precision, n};
    memset(m.p, 0xFF, n * sl_precision_size(precision));
    return m;
}

struct twin_matrix twin_matrix(const char *name, size_t n, float scale, enum sl_precision precision)
{
    struct twin_matrix m = twin_empty(n, precision);
    float *x = twin_data(name, n, scale);
    for (size_t i = 0; i < n; i++) {
        m.value[i] = x[i];
        if (precision == SL_PRECISION_F32) {
            ((float *)m.p)[i] = x[i];
            continue;
        }
        ((sl_bf16 *)m.p)[i] = sl_bf16_round(x[i]);
        m.value[i] = sl_bf16_widen(((sl_bf16 *)m.p)[i]);
    }
    free(x);
    return m;
}

void twin_free(struct twin_matrix *m)
{
    free(m->p);
    free(m->value);
}

void twin_matrix_close(const struct twin_matrix *m, const double *twin, double tolerance, const char *what)
{
    if (m->precision == SL_PRECISION_F32) {
        twin_close(m->p, twin, m->n, tolerance, what);
        return;
    }
    float *wide = malloc(m->n * sizeof *wide);
    for (size_t i = 0; i < m->n; i++)
        wide[i] = sl_bf16_widen(((sl_bf16 *)m->p)[i]);
    twin_close(wide, twin, m->n, tolerance + 0x1p-8, what);
    free(wide);
}

void twin_every_isa(void (*check)(void))
{
    enum sl_isa best = sl_isa_current();
    for (unsigned isa = 0; isa < SL_ISA_COUNT; isa++) {
        if (sl_isa_use(isa))
            continue;
        print_message("%s\n", sl_isa_name(isa));
        check();
    }
    sl_isa_use(best);
}
