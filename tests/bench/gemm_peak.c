#include "tests/bench/gemm_peak.h"

#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "trainer/tensor/gemm.h"

#include <cblas.h>
#include <dnnl.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* libgomp's, which oneDNN's threads are. Not by <omp.h>, which only some compilers have. */
int omp_get_max_threads(void);
void omp_set_num_threads(int);

enum { ALIGN = 64, ROUNDS_MAX = 4096 };

static const struct shape {
    int m, n, k;
} shapes[] = {{1024, 4096, 1024}, {2048, 2048, 2048}, {512, 3072, 4096}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };
enum library { OPENBLAS, ONEDNN, LIBRARIES };
static const char *const library_names[LIBRARIES] = {"openblas", "onednn"};

struct onednn_product {
    dnnl_primitive_desc_t desc;
    dnnl_primitive_t primitive;
    dnnl_memory_t src, weights, dst;
};

struct bench_peak {
    bool bf16;
    int threads;
    float *a, *b, *c; /* large enough for every shape; f32 */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    struct onednn_product onednn[N_SHAPES];
    struct bench_sample gflops[BENCH_CLOCKS][LIBRARIES][N_SHAPES];
};

static bool plain(dnnl_memory_desc_t *desc, int rows, int cols, dnnl_data_type_t type, dnnl_format_tag_t tag)
{
    return dnnl_memory_desc_init_by_tag(desc, 2, (dnnl_dims_t){rows, cols}, type, tag) == dnnl_success;
}

static int make_onednn(struct bench_peak *p, const struct shape *s, struct onednn_product *out)
{
    dnnl_data_type_t type = p->bf16 ? dnnl_bf16 : dnnl_f32;
    dnnl_memory_desc_t src, weights, dst, weights_f32;
    dnnl_matmul_desc_t matmul;
    dnnl_primitive_desc_t reorder_desc = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_memory_t from = NULL;
    int err = -ENOTSUP;
    if (!plain(&src, s->m, s->k, type, dnnl_ab) || !plain(&weights, s->k, s->n, type, dnnl_format_tag_any) ||
        !plain(&dst, s->m, s->n, dnnl_f32, dnnl_ab) || !plain(&weights_f32, s->k, s->n, dnnl_f32, dnnl_ab) ||
        dnnl_matmul_desc_init(&matmul, &src, &weights, NULL, &dst) != dnnl_success ||
        dnnl_primitive_desc_create(&out->desc, &matmul, NULL, p->engine, NULL) != dnnl_success ||
        dnnl_primitive_create(&out->primitive, out->desc) != dnnl_success)
        return err;
    const dnnl_memory_desc_t *packed = dnnl_primitive_desc_query_md(out->desc, dnnl_query_weights_md, 0);
    if (dnnl_memory_create(&out->src, &src, p->engine, p->bf16 ? DNNL_MEMORY_ALLOCATE : p->a) ==
            dnnl_success &&
        dnnl_memory_create(&out->dst, &dst, p->engine, p->c) == dnnl_success &&
        dnnl_memory_create(&out->weights, packed, p->engine, DNNL_MEMORY_ALLOCATE) == dnnl_success &&
        dnnl_memory_create(&from, &weights_f32, p->engine, p->b) == dnnl_success &&
        dnnl_reorder_primitive_desc_create(&reorder_desc, &weights_f32, p->engine, packed, p->engine, NULL) ==
            dnnl_success &&
        dnnl_primitive_create(&reorder, reorder_desc) == dnnl_success) {
        dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, out->weights}};
        dnnl_primitive_execute(reorder, p->stream, 2, args);
        err = dnnl_stream_wait(p->stream) == dnnl_success ? 0 : -ENOTSUP;
    }
    void *rows = NULL;
    if (!err && p->bf16 && dnnl_memory_get_data_handle(out->src, &rows) == dnnl_success)
        memset(
            rows, 0x3c, (size_t)s->m * (size_t)s->k * 2); /* 0x3c3c: 0.0115 in bf16; speed knows no values */
    dnnl_primitive_destroy(reorder);
    dnnl_primitive_desc_destroy(reorder_desc);
    dnnl_memory_destroy(from);
    return err;
}

static float *matrix(size_t n)
{
    float *p = aligned_alloc(ALIGN, n * sizeof *p);
    for (size_t i = 0; p && i < n; i++)
        p[i] = (float)(i % 251) / 251.0f - 0.5f;
    return p;
}

int bench_peak_create(bool bf16, int threads, struct bench_peak **out)
{
    struct bench_peak *p = calloc(1, sizeof *p);
    size_t a = 0, b = 0, c = 0;
    if (!p)
        return -ENOMEM;
    p->bf16 = bf16;
    p->threads = threads;
    for (unsigned i = 0; i < N_SHAPES; i++) {
        size_t m = (size_t)shapes[i].m, n = (size_t)shapes[i].n, k = (size_t)shapes[i].k;
        a = m * k > a ? m * k : a;
        b = k * n > b ? k * n : b;
        c = m * n > c ? m * n : c;
    }
    p->a = matrix(a);
    p->b = matrix(b);
    p->c = matrix(c);
    int err = p->a && p->b && p->c ? 0 : -ENOMEM;
    if (!err && (dnnl_engine_create(&p->engine, dnnl_cpu, 0) != dnnl_success ||
                    dnnl_stream_create(&p->stream, p->engine, dnnl_stream_default_flags) != dnnl_success))
        err = -ENOTSUP;
    int before = omp_get_max_threads();
    omp_set_num_threads(threads); /* oneDNN plans a primitive for the threads there are */
    for (unsigned i = 0; i < N_SHAPES && !err; i++) {
        err = make_onednn(p, &shapes[i], &p->onednn[i]);
        for (unsigned l = 0; l < BENCH_CLOCKS * LIBRARIES && !err; l++)
            err = bench_sample_init(&p->gflops[l / LIBRARIES][l % LIBRARIES][i], ROUNDS_MAX);
    }
    omp_set_num_threads(before);
    if (err) {
        bench_peak_free(p);
        return err;
    }
    *out = p;
    return 0;
}

void bench_peak_free(struct bench_peak *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < N_SHAPES; i++) {
        struct onednn_product *o = &p->onednn[i];
        dnnl_memory_destroy(o->src);
        dnnl_memory_destroy(o->weights);
        dnnl_memory_destroy(o->dst);
        dnnl_primitive_destroy(o->primitive);
        dnnl_primitive_desc_destroy(o->desc);
        for (unsigned l = 0; l < BENCH_CLOCKS * LIBRARIES; l++)
            bench_sample_free(&p->gflops[l / LIBRARIES][l % LIBRARIES][i]);
    }
    dnnl_stream_destroy(p->stream);
    dnnl_engine_destroy(p->engine);
    free(p->a);
    free(p->b);
    free(p->c);
    free(p);
}

static void multiply(struct bench_peak *p, enum library l, unsigned i)
{
    const struct shape *s = &shapes[i];
    if (l == OPENBLAS) {
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, s->m, s->n, s->k, 1, p->a, s->k, p->b, s->n, 0,
            p->c, s->n);
        return;
    }
    struct onednn_product *o = &p->onednn[i];
    dnnl_exec_arg_t args[] = {{DNNL_ARG_SRC, o->src}, {DNNL_ARG_WEIGHTS, o->weights}, {DNNL_ARG_DST, o->dst}};
    dnnl_primitive_execute(o->primitive, p->stream, 3, args);
    dnnl_stream_wait(p->stream);
}

void bench_peak_round(struct bench_peak *p)
{
    int before = omp_get_max_threads();
    sl_gemm_threads(p->threads);
    omp_set_num_threads(p->threads);
    for (unsigned l = p->bf16 ? ONEDNN : OPENBLAS; l < LIBRARIES; l++)
        for (unsigned i = 0; i < N_SHAPES; i++) {
            double flop = 2.0 * shapes[i].m * shapes[i].n * shapes[i].k;
            uint64_t t = bench_now_ns(), cpu = bench_cpu_ns();
            multiply(p, l, i);
            cpu = bench_cpu_ns() - cpu;
            bench_sample_add(&p->gflops[BENCH_WALL][l][i], flop / (double)(bench_now_ns() - t));
            bench_sample_add(&p->gflops[BENCH_CPU][l][i], flop / (double)(cpu ? cpu : 1));
        }
    omp_set_num_threads(before);
}

double bench_peak_gflops(const struct bench_peak *p, enum bench_clock clock)
{
    double best = 0;
    for (unsigned l = 0; l < LIBRARIES; l++)
        for (unsigned i = 0; i < N_SHAPES; i++) {
            double v = bench_sample_median((struct bench_sample *)&p->gflops[clock][l][i]);
            best = v > best ? v : best;
        }
    return best;
}

cJSON *bench_peak_json(const struct bench_peak *p)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "gflops", bench_peak_gflops(p, BENCH_WALL));
    for (unsigned l = p->bf16 ? ONEDNN : OPENBLAS; l < LIBRARIES; l++) {
        cJSON *of = cJSON_AddObjectToObject(j, library_names[l]);
        for (unsigned i = 0; i < N_SHAPES; i++) {
            char name[48];
            snprintf(name, sizeof name, "%dx%dx%d", shapes[i].m, shapes[i].n, shapes[i].k);
            cJSON_AddNumberToObject(
                of, name, bench_sample_median((struct bench_sample *)&p->gflops[BENCH_WALL][l][i]));
        }
    }
    return j;
}

const char *bench_peak_crippled(void)
{
    static const char *const avx512_kernels[] = {"SkylakeX", "Cooperlake", "Sapphirerapids", NULL};
    if (!bench_machine()->avx512)
        return NULL;
    const char *kernel = sl_gemm_kernel_name();
    bool known = false;
    for (const char *const *k = avx512_kernels; *k; k++)
        known = known || strcasecmp(*k, kernel) == 0;
    if (!known)
        return "AVX-512 is there and OpenBLAS does not use it: unset OPENBLAS_CORETYPE";
    if ((dnnl_get_effective_cpu_isa() & dnnl_cpu_isa_avx512_core) != dnnl_cpu_isa_avx512_core)
        return "AVX-512 is there and oneDNN does not use it: unset DNNL_MAX_CPU_ISA and ONEDNN_MAX_CPU_ISA";
    return NULL;
}
