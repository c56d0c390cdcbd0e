/* OpenBLAS always runs in the calling thread: its own pool would spin beside ours. Threads share the rows of
 * c. */
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/parallel.h"

#include <cblas.h>

/* Multiples of a row that a thread takes: whole register tiles of the library. */
enum { GRAIN = 48 };

/* OpenBLAS starts with as many threads as there are cores; before main, because the first product may come
 * from any thread. */
__attribute__((constructor)) static void one_thread(void)
{
    openblas_set_num_threads(1);
}

void sl_gemm_threads(int n)
{
    sl_parallel_set_threads(n < 1 ? 1 : (uint32_t)n);
}

const char *sl_gemm_kernel_name(void)
{
    return openblas_get_corename();
}

struct product {
    bool at, bt;
    uint32_t n, k;
    float alpha, beta;
    const float *a, *b;
    uint32_t lda, ldb, ldc;
    float *c;
};

static void rows_of(void *ctx, uint32_t thread, uint32_t first, uint32_t rows)
{
    const struct product *p = ctx;
    (void)thread;
    cblas_sgemm(CblasRowMajor, p->at ? CblasTrans : CblasNoTrans, p->bt ? CblasTrans : CblasNoTrans,
        (blasint)rows, (blasint)p->n, (blasint)p->k, p->alpha,
        p->a + (p->at ? first : (size_t)first * p->lda), (blasint)p->lda, p->b, (blasint)p->ldb, p->beta,
        p->c + (size_t)first * p->ldc, (blasint)p->ldc);
}

void sl_gemm(bool bt, uint32_t m, uint32_t n, uint32_t k, float alpha, const float *a, uint32_t lda,
    const float *b, uint32_t ldb, float beta, float *c, uint32_t ldc)
{
    struct product p = {false, bt, n, k, alpha, beta, a, b, lda, ldb, ldc, c};
    sl_parallel(m, GRAIN, rows_of, &p);
}

void sl_gemm_at(uint32_t m, uint32_t n, uint32_t k, float alpha, const float *a, uint32_t lda, const float *b,
    uint32_t ldb, float beta, float *c, uint32_t ldc)
{
    struct product p = {true, false, n, k, alpha, beta, a, b, lda, ldb, ldc, c};
    sl_parallel(m, GRAIN, rows_of, &p);
}
