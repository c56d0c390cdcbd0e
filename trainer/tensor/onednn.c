/* Kernels are kept in one table for the process: readers walk its chains without a lock, a writer adds under
 * one. A kernel has several sets of memory handles, because a handle carries the address of one product at a
 * time: a thread claims a set for the call. So once the sets that run at the same time exist, a product
 * allocates nothing here. (oneDNN itself builds a small map of arguments in every execute; its interface has
 * no way around that.) */
#include "trainer/tensor/onednn.h"

#include <dnnl.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum {
    TABLE_SIZE = 1024,
    MAX_SETS = 64,   /* threads in one kernel at the same time; more wait their turn */
    PROBE_ROWS = 256 /* the layout that the library picks for this many rows serves every number of rows */
};

enum argument { X, Y, BIAS, RESIDUAL, WEIGHTS, SCRATCH, ARGUMENTS };

struct handles {
    atomic_bool busy;
    dnnl_memory_t memory[ARGUMENTS];
    void *own_scratch; /* where the kernel wants more than SL_ONEDNN_SCRATCH */
};

struct kernel {
    struct kernel *next;
    struct sl_onednn_spec spec;
    dnnl_primitive_t primitive;
    dnnl_memory_desc_t md[ARGUMENTS];
    size_t scratch;
    _Atomic(struct handles *) sets[MAX_SETS];
};

struct sl_onednn_weights {
    dnnl_memory_t memory;
    dnnl_memory_desc_t md;
    const void *data;
    enum sl_precision precision;
};

static struct {
    pthread_once_t once;
    pthread_mutex_t lock;
    dnnl_engine_t engine;
    char name[2][64]; /* by precision */
    bool fast[2];
    dnnl_stream_t stream; /* CPU streams hold no state: any thread executes in it */
    _Atomic(struct kernel *) chains[TABLE_SIZE];
} library = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

/* oneDNN's own parallel loops stay in the calling thread: ranges over rows are parallel.h's. */
static void one_thread(void)
{
#ifdef _OPENMP
    if (omp_get_max_threads() != 1)
        omp_set_num_threads(1);
#endif
}

static dnnl_data_type_t type_of(unsigned precision)
{
    return precision == SL_PRECISION_BF16 ? dnnl_bf16 : dnnl_f32;
}

static dnnl_status_t attributes(
    const struct sl_onednn_spec *s, const dnnl_memory_desc_t *residual, dnnl_primitive_attr_t *attr)
{
    dnnl_post_ops_t ops;
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    if (status != dnnl_success)
        return status;
    dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    if (!s->accumulate && !s->residual)
        return dnnl_success;
    status = dnnl_post_ops_create(&ops);
    if (status == dnnl_success) {
        status = s->accumulate ? dnnl_post_ops_append_sum(ops, 1)
                               : dnnl_post_ops_append_binary(ops, dnnl_binary_add, residual);
        if (status == dnnl_success)
            status = dnnl_primitive_attr_set_post_ops(*attr, ops);
        dnnl_post_ops_destroy(ops);
    }
    if (status != dnnl_success)
        dnnl_primitive_attr_destroy(*attr);
    return status;
}

/* Fills md (all but WEIGHTS and SCRATCH) and describes the product; `weights` of format any, or the packed
 * ones. */
static dnnl_status_t describe(const struct sl_onednn_spec *s, const dnnl_memory_desc_t *weights,
    dnnl_memory_desc_t md[ARGUMENTS], dnnl_primitive_desc_t *out)
{
    dnnl_dims_t x = {s->m, s->k}, y = {s->m, s->n}, bias = {1, s->n};
    dnnl_memory_desc_init_by_tag(&md[X], 2, x, type_of(s->precision), dnnl_ab);
    dnnl_memory_desc_init_by_tag(&md[Y], 2, y, type_of(s->y_type), dnnl_ab);
    dnnl_memory_desc_init_by_tag(&md[BIAS], 2, bias, dnnl_f32, dnnl_ab);
    md[RESIDUAL] = md[Y];
    dnnl_matmul_desc_t matmul;
    dnnl_status_t status =
        dnnl_matmul_desc_init(&matmul, &md[X], weights, s->bias ? &md[BIAS] : NULL, &md[Y]);
    if (status != dnnl_success)
        return status;
    dnnl_primitive_attr_t attr;
    status = attributes(s, &md[RESIDUAL], &attr);
    if (status != dnnl_success)
        return status;
    one_thread();
    status = dnnl_primitive_desc_create(out, &matmul, attr, library.engine, NULL);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

/* `name`: of the kernel that the library would take. */
static dnnl_status_t packed_layout(
    enum sl_precision p, uint32_t k, uint32_t n, dnnl_memory_desc_t *packed, const char **name)
{
    struct sl_onednn_spec spec = {.m = PROBE_ROWS, .k = k, .n = n, .precision = (uint16_t)p};
    dnnl_memory_desc_t md[ARGUMENTS], any;
    dnnl_dims_t dims = {k, n};
    dnnl_memory_desc_init_by_tag(&any, 2, dims, type_of(p), dnnl_format_tag_any);
    dnnl_primitive_desc_t pd;
    dnnl_status_t status = describe(&spec, &any, md, &pd);
    if (status != dnnl_success)
        return status;
    dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, name);
    *packed = *dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0);
    dnnl_primitive_desc_destroy(pd);
    return dnnl_success;
}

static void start(void)
{
    if (dnnl_engine_create(&library.engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&library.stream, library.engine, dnnl_stream_default_flags) != dnnl_success)
        library.stream = NULL;
    for (enum sl_precision p = SL_PRECISION_F32; p <= SL_PRECISION_BF16 && library.stream; p++) {
        const dnnl_version_t *v = dnnl_version();
        dnnl_memory_desc_t packed;
        const char *name = "none";
        if (packed_layout(p, PROBE_ROWS, PROBE_ROWS, &packed, &name) == dnnl_success)
            library.fast[p] = strncmp(name, "brg", 3) == 0; /* the others are gemm:jit and ref:any */
        snprintf(library.name[p], sizeof library.name[p], "oneDNN %d.%d.%d %s", v->major, v->minor, v->patch,
            name);
    }
}

static bool ready(void)
{
    pthread_once(&library.once, start);
    return library.stream != NULL;
}

bool sl_onednn_fast(enum sl_precision p)
{
    return ready() && library.fast[p];
}

const char *sl_onednn_name(enum sl_precision p)
{
    return ready() ? library.name[p] : "";
}

size_t sl_onednn_packed_size(enum sl_precision p, uint32_t k, uint32_t n)
{
    dnnl_memory_desc_t packed;
    const char *name;
    if (!ready() || packed_layout(p, k, n, &packed, &name) != dnnl_success)
        return 0;
    return (dnnl_memory_desc_get_size(&packed) + 63) / 64 * 64;
}

static dnnl_status_t reorder(
    dnnl_memory_t from, const dnnl_memory_desc_t *from_md, dnnl_memory_t to, const dnnl_memory_desc_t *to_md)
{
    dnnl_primitive_desc_t pd;
    one_thread();
    dnnl_status_t status =
        dnnl_reorder_primitive_desc_create(&pd, from_md, library.engine, to_md, library.engine, NULL);
    if (status != dnnl_success)
        return status;
    dnnl_primitive_t primitive;
    status = dnnl_primitive_create(&primitive, pd);
    dnnl_primitive_desc_destroy(pd);
    if (status != dnnl_success)
        return status;
    dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}};
    status = dnnl_primitive_execute(primitive, library.stream, 2, args);
    dnnl_primitive_destroy(primitive);
    return status;
}

int sl_onednn_pack(enum sl_precision p, uint32_t k, uint32_t n, const float *src, size_t row_stride,
    size_t col_stride, void *dst, struct sl_onednn_weights **out)
{
    dnnl_memory_desc_t packed, plain;
    const char *name;
    if (!ready() || packed_layout(p, k, n, &packed, &name) != dnnl_success)
        return -ENOTSUP;
    dnnl_dims_t dims = {k, n}, strides = {(dnnl_dim_t)row_stride, (dnnl_dim_t)col_stride};
    dnnl_memory_desc_init_by_strides(&plain, 2, dims, dnnl_f32, strides);
    struct sl_onednn_weights *w = calloc(1, sizeof *w);
    if (w)
        *w = (struct sl_onednn_weights){.md = packed, .data = dst, .precision = p};
    dnnl_memory_t from;
    if (!w || dnnl_memory_create(&w->memory, &packed, library.engine, dst) != dnnl_success) {
        free(w);
        return -ENOMEM;
    }
    dnnl_status_t status = dnnl_memory_create(&from, &plain, library.engine, (void *)src);
    if (status == dnnl_success) {
        status = reorder(from, &plain, w->memory, &packed);
        dnnl_memory_destroy(from);
    }
    if (status != dnnl_success) {
        sl_onednn_weights_free(w);
        return status == dnnl_unimplemented ? -ENOTSUP : -ENOMEM;
    }
    *out = w;
    return 0;
}

bool sl_onednn_blocks(uint32_t k, uint32_t n, struct sl_blocks *out)
{
    dnnl_memory_desc_t packed;
    const char *name;
    if (!ready() || packed_layout(SL_PRECISION_F32, k, n, &packed, &name) != dnnl_success)
        return false;
    const dnnl_blocking_desc_t *b = &packed.format_desc.blocking;
    *out = (struct sl_blocks){(size_t)b->strides[0], (size_t)b->strides[1]};
    return b->inner_nblks == 2 && b->inner_idxs[0] == 0 && b->inner_blks[0] == SL_BLOCK_K &&
           b->inner_idxs[1] == 1 && b->inner_blks[1] == SL_BLOCK_N && packed.offset0 == 0;
}

/* What index i of an axis adds to an element's offset; the axis' innermost block is `run` long with steps of
 * `step`. Blocks of the layout are independent, so the two axes' shares add up (oneDNN: "Understanding Memory
 * Formats"). */
static size_t axis_offset(const dnnl_memory_desc_t *md, int axis, uint32_t i, uint32_t *run, size_t *step)
{
    const dnnl_blocking_desc_t *b = &md->format_desc.blocking;
    size_t stride = 1, offset = 0;
    *run = 0;
    for (int k = b->inner_nblks - 1; k >= 0; k--) {
        uint32_t size = (uint32_t)b->inner_blks[k];
        if (b->inner_idxs[k] == axis) {
            offset += i % size * stride;
            i /= size;
            if (!*run) {
                *run = size;
                *step = stride;
            }
        }
        stride *= size;
    }
    if (!*run) {
        *run = 1;
        *step = (size_t)b->strides[axis];
    }
    return offset + i * (size_t)b->strides[axis];
}

void sl_onednn_row(const struct sl_onednn_weights *w, uint32_t i, void *out)
{
    uint32_t run, n = (uint32_t)w->md.dims[1];
    size_t step, row = (size_t)w->md.offset0 + axis_offset(&w->md, 0, i, &run, &step);
    for (uint32_t c = 0; c < n; c += run) {
        size_t at = row + axis_offset(&w->md, 1, c, &run, &step);
        uint32_t end = n - c < run ? n - c : run;
        if (w->precision == SL_PRECISION_BF16) {
            const sl_bf16 *from = (const sl_bf16 *)w->data + at;
            sl_bf16 *to = (sl_bf16 *)out + c;
            for (uint32_t j = 0; j < end; j++)
                to[j] = from[j * step];
        } else {
            const float *from = (const float *)w->data + at;
            float *to = (float *)out + c;
            for (uint32_t j = 0; j < end; j++)
                to[j] = from[j * step];
        }
    }
}

void sl_onednn_weights_free(struct sl_onednn_weights *w)
{
    if (!w)
        return;
    dnnl_memory_destroy(w->memory);
    free(w);
}

static uint32_t chain_of(const struct sl_onednn_spec *s)
{
    const uint8_t *bytes = (const uint8_t *)s;
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < sizeof *s; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash % TABLE_SIZE;
}

static struct kernel *find(uint32_t chain, const struct sl_onednn_spec *s)
{
    struct kernel *k = atomic_load_explicit(&library.chains[chain], memory_order_acquire);
    while (k && memcmp(&k->spec, s, sizeof *s) != 0)
        k = k->next;
    return k;
}

static dnnl_status_t compile(struct kernel *kernel)
{
    const struct sl_onednn_spec *s = &kernel->spec;
    dnnl_memory_desc_t packed;
    const char *name;
    dnnl_status_t status = packed_layout(s->precision, s->k, s->n, &packed, &name);
    if (status != dnnl_success)
        return status;
    dnnl_primitive_desc_t pd;
    status = describe(s, &packed, kernel->md, &pd);
    if (status != dnnl_success)
        return status;
    kernel->md[WEIGHTS] = packed;
    kernel->md[SCRATCH] = *dnnl_primitive_desc_query_md(pd, dnnl_query_scratchpad_md, 0);
    kernel->scratch = dnnl_memory_desc_get_size(&kernel->md[SCRATCH]);
    status = dnnl_primitive_create(&kernel->primitive, pd);
    dnnl_primitive_desc_destroy(pd);
    return status;
}

static int add(uint32_t chain, const struct sl_onednn_spec *s, struct kernel **out)
{
    int err = 0;
    pthread_mutex_lock(&library.lock);
    struct kernel *k = find(chain, s);
    if (!k) {
        k = calloc(1, sizeof *k);
        if (k) {
            k->spec = *s;
            dnnl_status_t status = compile(k);
            if (status == dnnl_success) {
                k->next = atomic_load_explicit(&library.chains[chain], memory_order_relaxed);
                atomic_store_explicit(&library.chains[chain], k, memory_order_release);
            } else {
                free(k);
                k = NULL;
                err = status == dnnl_unimplemented ? -ENOTSUP : -ENOMEM;
            }
        } else
            err = -ENOMEM;
    }
    pthread_mutex_unlock(&library.lock);
    *out = k;
    return err;
}

static void free_handles(struct handles *h)
{
    for (unsigned a = 0; a < ARGUMENTS; a++)
        if (h->memory[a])
            dnnl_memory_destroy(h->memory[a]);
    free(h->own_scratch);
    free(h);
}

static struct handles *new_handles(const struct kernel *k)
{
    struct handles *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    for (unsigned a = 0; a < ARGUMENTS; a++) {
        if (dnnl_memory_create(&h->memory[a], &k->md[a], library.engine, DNNL_MEMORY_NONE) != dnnl_success) {
            free_handles(h);
            return NULL;
        }
    }
    if (k->scratch > SL_ONEDNN_SCRATCH) {
        h->own_scratch = aligned_alloc(64, (k->scratch + 63) / 64 * 64);
        if (!h->own_scratch) {
            free_handles(h);
            return NULL;
        }
    }
    atomic_init(&h->busy, true);
    return h;
}

/* A set of handles for this call, or NULL without memory. */
static struct handles *claim(struct kernel *k)
{
    for (;;) {
        for (unsigned i = 0; i < MAX_SETS; i++) {
            struct handles *h = atomic_load_explicit(&k->sets[i], memory_order_acquire);
            if (h) {
                if (!atomic_exchange_explicit(&h->busy, true, memory_order_acquire))
                    return h;
                continue;
            }
            h = new_handles(k);
            struct handles *empty = NULL;
            if (!h || atomic_compare_exchange_strong_explicit(
                          &k->sets[i], &empty, h, memory_order_release, memory_order_relaxed))
                return h;
            free_handles(h);
        }
    }
}

int sl_onednn_run(const struct sl_onednn_spec *s, const struct sl_onednn_weights *w, const void *blocks,
    const void *x, void *y, const float *bias, const void *residual, void *scratch)
{
    uint32_t chain = chain_of(s);
    struct kernel *k = find(chain, s);
    if (!k) {
        int err = add(chain, s, &k);
        if (err)
            return err;
    }
    struct handles *h = claim(k);
    if (!h)
        return -ENOMEM;
    one_thread();
    dnnl_exec_arg_t args[ARGUMENTS + 1] = {{DNNL_ARG_WEIGHTS, w ? w->memory : h->memory[WEIGHTS]},
        {DNNL_ARG_SRC, h->memory[X]}, {DNNL_ARG_DST, h->memory[Y]},
        {DNNL_ARG_SCRATCHPAD, h->memory[SCRATCH]}};
    int n = 4;
    dnnl_memory_set_data_handle(h->memory[X], (void *)x);
    dnnl_memory_set_data_handle(h->memory[Y], y);
    dnnl_memory_set_data_handle(h->memory[SCRATCH], h->own_scratch ? h->own_scratch : scratch);
    if (!w)
        dnnl_memory_set_data_handle(h->memory[WEIGHTS], (void *)blocks);
    if (s->bias) {
        dnnl_memory_set_data_handle(h->memory[BIAS], (void *)bias);
        args[n++] = (dnnl_exec_arg_t){DNNL_ARG_BIAS, h->memory[BIAS]};
    }
    if (s->residual) {
        dnnl_memory_set_data_handle(h->memory[RESIDUAL], (void *)residual);
        args[n++] =
            (dnnl_exec_arg_t){DNNL_ARG_ATTR_MULTIPLE_POST_OP(0) | DNNL_ARG_SRC_1, h->memory[RESIDUAL]};
    }
    dnnl_status_t status = dnnl_primitive_execute(k->primitive, library.stream, n, args);
    atomic_store_explicit(&h->busy, false, memory_order_release);
    return status == dnnl_success ? 0 : -ENOMEM;
}
