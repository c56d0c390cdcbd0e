#include "trainer/tensor/lowrank.h"

#include <cblas.h>
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* LAPACK by its Fortran interface: OpenBLAS brings it, and Debian has no C header for it in the same package.
 * The lengths of the character arguments follow at the end, as gfortran passes them. */
void dgeqrf_(const int *m, const int *n, double *a, const int *lda, double *tau, double *work,
    const int *lwork, int *info);
void dormqr_(const char *side, const char *trans, const int *m, const int *n, const int *k, const double *a,
    const int *lda, const double *tau, double *c, const int *ldc, double *work, const int *lwork, int *info,
    size_t, size_t);
void dgesdd_(const char *jobz, const int *m, const int *n, double *a, const int *lda, double *s, double *u,
    const int *ldu, double *vt, const int *ldvt, double *work, const int *lwork, int *iwork, int *info,
    size_t);

enum { BLOCK = 64 }; /* columns of a block reflector, LAPACK's upper bound for dormqr */

struct sl_lowrank {
    double *tau[2], *t[2], *core, *u, *vt, *work;
    int *iwork, lwork;
};

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

struct sl_lowrank *sl_lowrank_create(uint32_t m, uint32_t n, uint32_t k)
{
    struct sl_lowrank *w = calloc(1, sizeof *w);
    size_t a = least(m, k), b = least(n, k), p = least((uint32_t)a, (uint32_t)b), wide = a > b ? a : b;
    if (!w)
        return NULL;
    w->tau[0] = malloc((a + 1) * sizeof(double));
    w->tau[1] = malloc((b + 1) * sizeof(double));
    w->t[0] = malloc((a * k + 1) * sizeof(double));
    w->t[1] = malloc((b * k + 1) * sizeof(double));
    w->core = malloc((a * b + 1) * sizeof(double));
    w->u = malloc((a * p + 1) * sizeof(double));
    w->vt = malloc((p * b + 1) * sizeof(double));
    /* dgeqrf: k blocks' columns; dormqr: columns of the target in blocks and their triangle; dgesdd: 4 p^2 +
     * 7 p by its documentation, and some to work in blocks. */
    w->lwork = (int)((size_t)BLOCK * (k + BLOCK + 1) + 4 * p * p + 7 * p + 2 * (size_t)BLOCK * wide);
    w->iwork = malloc((8 * p + 1) * sizeof *w->iwork);
    w->work = malloc((size_t)w->lwork * sizeof(double));
    if (w->tau[0] && w->tau[1] && w->t[0] && w->t[1] && w->core && w->u && w->vt && w->work && w->iwork)
        return w;
    sl_lowrank_free(w);
    return NULL;
}

void sl_lowrank_free(struct sl_lowrank *w)
{
    if (!w)
        return;
    for (unsigned i = 0; i < 2; i++) {
        free(w->tau[i]);
        free(w->t[i]);
    }
    free(w->core);
    free(w->u);
    free(w->vt);
    free(w->work);
    free(w->iwork);
    free(w);
}

static bool all_finite(const double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

/* QR of a [rows, k] in place: reflectors below, the triangle also to t [min(rows, k), k]. */
static int factor_qr(struct sl_lowrank *w, double *a, uint32_t rows, uint32_t k, double *tau, double *t)
{
    int m = (int)rows, n = (int)k, info, p = (int)least(rows, k);
    dgeqrf_(&m, &n, a, &m, tau, w->work, &w->lwork, &info);
    for (int j = 0; j < n; j++)
        for (int i = 0; i < p; i++)
            t[(size_t)j * (size_t)p + (size_t)i] = i <= j ? a[(size_t)j * rows + (size_t)i] : 0;
    return info;
}

/* out [rows, rank] = Q [small [p, rank]; 0]. */
static int apply_q(struct sl_lowrank *w, const double *a, const double *tau, uint32_t rows, uint32_t k,
    uint32_t rank, double *out)
{
    int m = (int)rows, n = (int)rank, p = (int)least(rows, k), info;
    dormqr_("L", "N", &m, &n, &p, a, &m, tau, out, &m, w->work, &w->lwork, &info, 1, 1);
    return info;
}

static void fix_sign(double *u, uint32_t m, double *v, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        if (fabs(v[i]) > fabs(v[at]))
            at = i;
    if (v[at] >= 0)
        return;
    for (uint32_t i = 0; i < n; i++)
        v[i] = -v[i];
    for (uint32_t i = 0; i < m; i++)
        u[i] = -u[i];
}

int sl_lowrank_factor(struct sl_lowrank *w, uint32_t m, uint32_t n, uint32_t k, double *left, double *right,
    uint32_t rank, double *u, double *v, double *sigma)
{
    int a = (int)least(m, k), b = (int)least(n, k), p = a < b ? a : b, info;
    uint32_t kept = least(rank, (uint32_t)p);
    memset(u, 0, (size_t)m * rank * sizeof *u);
    memset(v, 0, (size_t)n * rank * sizeof *v);
    if (!all_finite(left, (size_t)m * k) || !all_finite(right, (size_t)n * k))
        return -EDOM;
    if (factor_qr(w, left, m, k, w->tau[0], w->t[0]) || factor_qr(w, right, n, k, w->tau[1], w->t[1]))
        return -EDOM;
    cblas_dgemm(
        CblasColMajor, CblasNoTrans, CblasTrans, a, b, (int)k, 1, w->t[0], a, w->t[1], b, 0, w->core, a);
    dgesdd_("S", &a, &b, w->core, &a, sigma, w->u, &a, w->vt, &p, w->work, &w->lwork, w->iwork, &info, 1);
    if (info)
        return -EDOM;
    for (uint32_t j = 0; j < kept; j++) {
        memcpy(u + (size_t)j * m, w->u + (size_t)j * (size_t)a, (size_t)a * sizeof *u);
        for (int i = 0; i < b; i++)
            v[(size_t)j * n + (size_t)i] = w->vt[(size_t)i * (size_t)p + j];
    }
    if (apply_q(w, left, w->tau[0], m, k, kept, u) || apply_q(w, right, w->tau[1], n, k, kept, v))
        return -EDOM;
    for (uint32_t j = 0; j < kept; j++)
        fix_sign(u + (size_t)j * m, m, v + (size_t)j * n, n);
    return 0;
}

double sl_lowrank_dot(uint32_t m, uint32_t n, uint32_t k, const double *left, const double *right, uint32_t r,
    const double *b, const double *a, double *scratch)
{
    double *x = scratch, *y = scratch + (size_t)k * r, sum = 0;
    cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, (int)k, (int)r, (int)m, 1, left, (int)m, b, (int)m,
        0, x, (int)k);
    cblas_dgemm(CblasColMajor, CblasTrans, CblasNoTrans, (int)k, (int)r, (int)n, 1, right, (int)n, a, (int)n,
        0, y, (int)k);
    for (size_t i = 0; i < (size_t)k * r; i++)
        sum += x[i] * y[i];
    return sum;
}
