#include "trainer/tensor/gemm.h"

#include <cblas.h>

/* OpenBLAS starts with as many threads as there are cores; before main, because the first product may come
 * from any thread. */
__attribute__((constructor)) static void one_thread(void)
{
    openblas_set_num_threads(1);
}

void sl_gemm_threads(int n)
{
    openblas_set_num_threads(n < 1 ? 1 : n);
}

const char *sl_gemm_kernel_name(void)
{
    return openblas_get_corename();
}

void sl_gemm(bool bt, uint32_t m, uint32_t n, uint32_t k, float alpha, const float *a, uint32_t lda,
    const float *b, uint32_t ldb, float beta, float *c, uint32_t ldc)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, bt ? CblasTrans : CblasNoTrans, (blasint)m, (blasint)n,
        (blasint)k, alpha, a, (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}

void sl_gemm_at(uint32_t m, uint32_t n, uint32_t k, float alpha, const float *a, uint32_t lda, const float *b,
    uint32_t ldb, float beta, float *c, uint32_t ldc)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, alpha, a,
        (blasint)lda, b, (blasint)ldb, beta, c, (blasint)ldc);
}
