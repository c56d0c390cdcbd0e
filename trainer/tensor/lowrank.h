/* The best approximation of low rank to a sum of outer products, without ever forming the sum.
 *
 * M = L Rᵀ with L [m, k] and R [n, k]. Householder QR of both (L = Q₁T₁, R = Q₂T₂) leaves the small core
 * T₁T₂ᵀ, whose SVD is that of M: M = (Q₁U) Σ (Q₂V)ᵀ. Truncated, this is the nearest matrix of that rank
 * (Eckart and Young, 1936). In double precision; through OpenBLAS's LAPACK. Matrices are column-major here.
 * Signs are fixed (each right vector's component of largest magnitude is positive, the first of equals) and
 * singular values descend, so equal input gives equal bytes (rules L7). */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct sl_lowrank; /* work space; one thread at a time */

/* For matrices of at most these sizes. NULL: no memory. */
struct sl_lowrank *sl_lowrank_create(uint32_t m, uint32_t n, uint32_t k);
void sl_lowrank_free(struct sl_lowrank *);

/* left [m, k] and right [n, k] are destroyed. Writes the first `rank` singular vectors to u [m, rank] and
 * v [n, rank] and all singular values to sigma [min(m, n, k)]; ranks beyond these are zero vectors.
 * -EDOM: not finite, or the iteration did not converge. */
int sl_lowrank_factor(struct sl_lowrank *, uint32_t m, uint32_t n, uint32_t k, double *left, double *right,
    uint32_t rank, double *u, double *v, double *sigma);

/* <L Rᵀ, B A> in the Frobenius inner product, with b [m, r] and a [n, r]; `scratch`: [2, k, r]. */
double sl_lowrank_dot(uint32_t m, uint32_t n, uint32_t k, const double *left, const double *right, uint32_t r,
    const double *b, const double *a, double *scratch);
