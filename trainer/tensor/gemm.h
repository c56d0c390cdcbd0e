/* Matrix products in f32, through OpenBLAS. All matrices are row-major with a leading dimension (floats per
 * row). Results depend on the kernel that OpenBLAS chose and on the shapes, not on time or thread timing
 * (rules L7). Any thread may call; threads are parallel.h's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Threads of every kernel in this process, as sl_parallel_set_threads; 1 until called (rules L14). */
void sl_gemm_threads(int n);
/* The kernel in use ("SkylakeX", "Haswell", ...): manifests and benches record it (rules L7, L14). */
const char *sl_gemm_kernel_name(void);

/* c[m,n] = alpha · a[m,k] · b + beta · c, where b is [k,n], or [n,k] when `bt` (multiplied by its transpose).
 */
void sl_gemm(bool bt, uint32_t m, uint32_t n, uint32_t k, float alpha, const float *a, uint32_t lda,
    const float *b, uint32_t ldb, float beta, float *c, uint32_t ldc);
/* c[m,n] = alpha · aᵀ · b + beta · c with a [k,m] and b [k,n]: weight gradients (k is the rows of the batch).
 */
void sl_gemm_at(uint32_t m, uint32_t n, uint32_t k, float alpha, const float *a, uint32_t lda, const float *b,
    uint32_t ldb, float beta, float *c, uint32_t ldc);
