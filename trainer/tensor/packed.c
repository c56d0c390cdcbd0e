#include "trainer/tensor/packed.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/onednn.h"
#include "trainer/tensor/parallel.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    BLOCK_ROWS = 256, /* the library is as fast as with more, and few kernels serve every batch */
    HUGE_PAGE = 2 << 20,
    LINE = 64
};

/* A tile in one direction: [k, n]. */
struct face {
    uint32_t k, n;
    struct sl_onednn_weights *weights; /* NULL: the source is packed for each product */
    struct sl_blocks blocks;           /* then */
    size_t bytes;                      /* packed */
};

struct sl_packed {
    struct sl_packed_config config;
    bool in_place; /* f32 without the library's fast kernel: OpenBLAS reads the source */
    bool streamed; /* the source is packed into the scratch before each product */
    uint32_t tiles;
    struct face *forward, *backward; /* [tiles] */
    char *memory;
    size_t bytes;
};

static atomic_uint_fast64_t counts[2];

uint64_t sl_packed_count(enum sl_precision p)
{
    return atomic_load_explicit(&counts[p], memory_order_relaxed);
}

bool sl_precision_supported(enum sl_precision p)
{
    if (p == SL_PRECISION_F32)
        return true;
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && sl_onednn_fast(p);
#else
    return false;
#endif
}

const char *sl_packed_kernel_name(enum sl_precision p)
{
    static char openblas[64];
    if (p == SL_PRECISION_BF16 || sl_onednn_fast(p))
        return sl_onednn_name(p);
    snprintf(openblas, sizeof openblas, "OpenBLAS %s", sl_gemm_kernel_name());
    return openblas;
}

void sl_packed_tile(const struct sl_packed *p, uint32_t tile, uint32_t *first, uint32_t *n)
{
    uint32_t width = p->config.tile;
    *first = tile * width;
    *n = p->config.out - *first < width ? p->config.out - *first : width;
}

/* Where W's element (i, j) lies: w[i row + j col]. */
static void strides(const struct sl_packed *p, size_t *row, size_t *col)
{
    *row = p->config.out_in ? 1 : p->config.ld;
    *col = p->config.out_in ? p->config.ld : 1;
}

void sl_packed_column(const struct sl_packed *p, uint32_t j, void *out)
{
    if (sl_packed_source_free(p)) {
        sl_onednn_row(p->backward[j / p->config.tile].weights, j % p->config.tile, out);
        return;
    }
    size_t row, col;
    strides(p, &row, &col);
    for (uint32_t i = 0; i < p->config.in; i++)
        ((float *)out)[i] = p->config.w[i * row + j * col];
}

uint32_t sl_packed_tiles(const struct sl_packed *p)
{
    return p->tiles;
}

size_t sl_packed_bytes(const struct sl_packed *p)
{
    return p->bytes;
}

bool sl_packed_source_free(const struct sl_packed *p)
{
    return !p->in_place && !p->streamed;
}

static size_t face_bytes(const struct sl_packed *p, const struct face *f)
{
    return sl_onednn_packed_size(p->config.precision, f->k, f->n);
}

static int pack_tile(struct sl_packed *p, uint32_t tile, char **memory)
{
    enum sl_precision precision = p->config.precision;
    uint32_t first, n;
    size_t row, col;
    sl_packed_tile(p, tile, &first, &n);
    strides(p, &row, &col);
    const float *w = p->config.w + first * col;
    struct face *f = &p->forward[tile], *b = &p->backward[tile];
    int err = sl_onednn_pack(precision, f->k, f->n, w, row, col, *memory, &f->weights);
    *memory += face_bytes(p, f);
    if (err || !p->config.backward)
        return err;
    err = sl_onednn_pack(precision, b->k, b->n, w, col, row, *memory, &b->weights);
    *memory += face_bytes(p, b);
    return err;
}

/* Whether every tile's layout is one that blocks.c writes. */
static bool layouts_known(struct sl_packed *p)
{
    for (uint32_t t = 0; t < 2 * p->tiles; t++) {
        struct face *f = &p->forward[t];
        f->bytes = face_bytes(p, f);
        if (!f->bytes || !sl_onednn_blocks(f->k, f->n, &f->blocks))
            return false;
    }
    return true;
}

static int pack(struct sl_packed *p)
{
    for (uint32_t t = 0; t < p->tiles; t++) {
        size_t bytes = face_bytes(p, &p->forward[t]);
        if (!bytes)
            return -ENOTSUP;
        p->bytes += bytes + (p->config.backward ? face_bytes(p, &p->backward[t]) : 0);
    }
    void *memory;
    if (posix_memalign(&memory, p->bytes >= HUGE_PAGE ? HUGE_PAGE : LINE, p->bytes) != 0)
        return -ENOMEM;
    p->memory = memory;
    if (p->bytes >= HUGE_PAGE) /* fewer TLB misses; a kernel that refuses changes nothing else */
        madvise(memory, p->bytes, MADV_HUGEPAGE);
    char *next = memory;
    int err = 0;
    for (uint32_t t = 0; t < p->tiles && !err; t++)
        err = pack_tile(p, t, &next);
    return err;
}

int sl_packed_create(const struct sl_packed_config *config, struct sl_packed **out)
{
    *out = NULL;
    if (!config->in || !config->out || !config->w)
        return -EINVAL;
    if (!sl_precision_supported(config->precision))
        return -ENOTSUP;
    struct sl_packed *p = calloc(1, sizeof *p);
    if (!p)
        return -ENOMEM;
    p->config = *config;
    if (!p->config.ld)
        p->config.ld = config->out_in ? config->in : config->out;
    if (!p->config.tile || p->config.tile > config->out)
        p->config.tile = config->out;
    p->in_place = config->precision == SL_PRECISION_F32 && !sl_onednn_fast(SL_PRECISION_F32);
    p->tiles = (config->out - 1) / p->config.tile + 1;
    p->forward = calloc(2 * (size_t)p->tiles, sizeof *p->forward);
    if (!p->forward) {
        free(p);
        return -ENOMEM;
    }
    p->backward = p->forward + p->tiles;
    for (uint32_t t = 0; t < p->tiles; t++) {
        uint32_t first, n;
        sl_packed_tile(p, t, &first, &n);
        p->forward[t] = (struct face){.k = config->in, .n = n};
        p->backward[t] = (struct face){.k = n, .n = config->in};
    }
    p->streamed = config->stream && config->precision == SL_PRECISION_F32 && !p->in_place && layouts_known(p);
    int err = p->in_place || p->streamed ? 0 : pack(p);
    if (err) {
        sl_packed_free(p);
        return err;
    }
    *out = p;
    return 0;
}

void sl_packed_free(struct sl_packed *p)
{
    if (!p)
        return;
    for (uint32_t t = 0; t < 2 * p->tiles; t++)
        sl_onednn_weights_free(p->forward[t].weights);
    free(p->memory);
    free(p->forward);
    free(p);
}

static uint32_t padded(uint32_t rows)
{
    return (rows + SL_PACKED_ROWS - 1) / SL_PACKED_ROWS * SL_PACKED_ROWS;
}

/* One thread's scratch: the library's own, copies of a block of x and of y. */
static size_t thread_scratch(uint32_t k, uint32_t n, enum sl_precision p, uint32_t rows)
{
    size_t x = (size_t)k * sl_precision_size(p), y = n * sizeof(float);
    size_t block = rows < BLOCK_ROWS ? padded(rows) : BLOCK_ROWS;
    return SL_ONEDNN_SCRATCH + (block * x + LINE - 1) / LINE * LINE + (block * y + LINE - 1) / LINE * LINE;
}

size_t sl_packed_scratch(const struct sl_packed *p, uint32_t max_rows)
{
    if (p->in_place)
        return 0;
    uint32_t in = p->config.in, tile = p->config.tile;
    enum sl_precision precision = p->config.precision;
    size_t forward = thread_scratch(in, tile, precision, max_rows);
    size_t backward = p->config.backward ? thread_scratch(tile, in, precision, max_rows) : 0;
    size_t blocks = p->forward[0].bytes > p->backward[0].bytes ? p->forward[0].bytes : p->backward[0].bytes;
    return sl_parallel_threads() * (forward > backward ? forward : backward) + (p->streamed ? blocks : 0);
}

/* A product on its way: what every thread reads. */
struct job {
    const struct sl_product *call;
    const struct face *face;
    enum sl_precision precision;
    const float *source; /* of the tile, where it is packed for this product; its element (i, j) at */
    size_t row, col;     /* i row + j col */
    char *blocks, *scratch;
    size_t thread_scratch;
    atomic_int err;
};

/* Bytes from one row of x or y to the next, and of one row. */
struct pitch {
    size_t x, y, x_row, y_row;
};

static struct pitch pitch_of(const struct job *j)
{
    size_t x = sl_precision_size(j->precision), y = sl_precision_size(j->call->y_type);
    return (struct pitch){j->call->ld_x * x, j->call->ld_y * y, j->face->k * x, j->face->n * y};
}

static void copy_rows(
    char *to, size_t to_pitch, const char *from, size_t from_pitch, uint32_t rows, size_t row)
{
    for (uint32_t i = 0; i < rows; i++)
        memcpy(to + i * to_pitch, from + i * from_pitch, row);
}

/* Rows [first, first + rows) of the product, at most BLOCK_ROWS. Dense operands with room for a multiple of
 * SL_PACKED_ROWS are used where they lie, and y's rows beyond the product are put back afterwards; anything
 * else goes through copies. */
static int block(const struct job *j, char *scratch, uint32_t first, uint32_t rows)
{
    const struct sl_product *c = j->call;
    struct pitch pitch = pitch_of(j);
    uint32_t full = padded(rows), room = c->room > c->rows ? c->room : c->rows;
    bool fits = first + full <= room;
    bool x_direct = fits && pitch.x == pitch.x_row, y_direct = fits && pitch.y == pitch.y_row;
    const char *x = (const char *)c->x + first * pitch.x;
    char *y = (char *)c->y + first * pitch.y;
    const char *residual = c->residual ? (const char *)c->residual + first * pitch.y : NULL;
    struct sl_onednn_spec spec = (struct sl_onednn_spec){.m = full,
        .k = j->face->k,
        .n = j->face->n,
        .precision = (uint16_t)j->precision,
        .y_type = (uint16_t)c->y_type,
        .bias = c->bias != NULL,
        .residual = residual && y_direct,
        .accumulate = c->accumulate || (residual && !y_direct)};
    char *x_copy = scratch + SL_ONEDNN_SCRATCH;
    char *y_copy = x_copy + (full * pitch.x_row + LINE - 1) / LINE * LINE;
    if (!x_direct) {
        copy_rows(x_copy, pitch.x_row, x, pitch.x, rows, pitch.x_row);
        memset(x_copy + rows * pitch.x_row, 0, (full - rows) * pitch.x_row);
    }
    size_t beyond = (full - rows) * pitch.y_row;
    if (y_direct)
        memcpy(y_copy, y + rows * pitch.y_row, beyond);
    else if (spec.accumulate) {
        copy_rows(y_copy, pitch.y_row, residual ? residual : y, pitch.y, rows, pitch.y_row);
        memset(y_copy + rows * pitch.y_row, 0, beyond);
    }
    int err = sl_onednn_run(&spec, j->face->weights, j->blocks, x_direct ? x : x_copy, y_direct ? y : y_copy,
        c->bias, spec.residual ? residual : NULL, scratch);
    if (y_direct)
        memcpy(y + rows * pitch.y_row, y_copy, beyond);
    else
        copy_rows(y, pitch.y, y_copy, pitch.y_row, rows, pitch.y_row);
    return err;
}

static void range(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    struct job *j = ctx;
    char *scratch = j->scratch + thread * j->thread_scratch;
    uint32_t blocks = (n - 1) / BLOCK_ROWS + 1;
    uint32_t step = padded((n - 1) / blocks + 1);
    for (uint32_t at = 0; at < n; at += step) {
        int err = block(j, scratch, first + at, n - at < step ? n - at : step);
        if (err)
            atomic_store_explicit(&j->err, err, memory_order_relaxed);
    }
}

static void pack_columns(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct job *j = ctx;
    (void)thread;
    sl_blocks_pack(j->source, j->row, j->col, j->face->k, j->face->n, first, n, &j->face->blocks,
        (float *)(void *)j->blocks);
}

/* OpenBLAS on the source. */
static void in_place(const struct sl_packed *p, const struct sl_product *c, uint32_t tile, bool backward)
{
    uint32_t first, n, k = p->config.in;
    size_t row, col;
    sl_packed_tile(p, tile, &first, &n);
    strides(p, &row, &col);
    float *y = c->y;
    const float *start = c->accumulate ? y : c->residual;
    uint32_t width = backward ? k : n;
    for (uint32_t i = 0; i < c->rows && (c->bias || c->residual); i++)
        for (uint32_t o = 0; o < width; o++)
            y[(size_t)i * c->ld_y + o] =
                (start ? start[(size_t)i * c->ld_y + o] : 0) + (c->bias ? c->bias[o] : 0);
    float beta = c->accumulate || c->residual || c->bias ? 1.0f : 0.0f;
    sl_gemm(p->config.out_in != backward, c->rows, width, backward ? n : k, 1, c->x, c->ld_x,
        p->config.w + first * col, p->config.ld, beta, y, c->ld_y);
}

static int multiply(
    const struct sl_packed *p, const struct sl_product *c, uint32_t tile, bool backward, void *scratch)
{
    if (!c->rows)
        return 0;
    atomic_fetch_add_explicit(&counts[p->config.precision], 1, memory_order_relaxed);
    if (p->in_place) {
        in_place(p, c, tile, backward);
        return 0;
    }
    const struct face *face = backward ? &p->backward[tile] : &p->forward[tile];
    struct job job = {.call = c,
        .face = face,
        .precision = p->config.precision,
        .scratch = scratch,
        .thread_scratch = thread_scratch(face->k, face->n, p->config.precision, c->rows)};
    if (p->streamed) {
        size_t row, col;
        strides(p, &row, &col);
        job.source = p->config.w + tile * (size_t)p->config.tile * col;
        job.row = backward ? col : row;
        job.col = backward ? row : col;
        job.blocks = scratch;
        job.scratch += face->bytes;
        sl_parallel(face->n, SL_BLOCK_N, pack_columns, &job);
    }
    sl_parallel(c->rows, SL_PACKED_ROWS, range, &job);
    return atomic_load_explicit(&job.err, memory_order_relaxed);
}

int sl_packed_forward(const struct sl_packed *p, const struct sl_product *c, void *scratch)
{
    return multiply(p, c, 0, false, scratch);
}

int sl_packed_backward(const struct sl_packed *p, const struct sl_product *c, void *scratch)
{
    return multiply(p, c, 0, true, scratch);
}

int sl_packed_forward_tile(
    const struct sl_packed *p, uint32_t tile, const struct sl_product *c, void *scratch)
{
    return multiply(p, c, tile, false, scratch);
}

int sl_packed_backward_tile(
    const struct sl_packed *p, uint32_t tile, const struct sl_product *c, void *scratch)
{
    return multiply(p, c, tile, true, scratch);
}
