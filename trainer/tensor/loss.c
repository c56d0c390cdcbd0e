#include "trainer/tensor/loss.h"
#include "trainer/tensor/isa/isa.h"
#include "trainer/tensor/parallel.h"
#include "trainer/tensor/simd.h"

#include <math.h>

SL_CLONES void sl_cross_entropy(
    float *logits, const uint32_t *targets, uint32_t rows, uint32_t vocab, int backward, double *nll)
{
    for (uint32_t i = 0; i < rows; i++, logits += vocab) {
        float max = logits[0], sum = 0, wanted = logits[targets[i]];
#pragma omp simd reduction(max : max)
        for (uint32_t j = 0; j < vocab; j++)
            max = logits[j] > max ? logits[j] : max;
        if (!backward) {
#pragma omp simd reduction(+ : sum)
            for (uint32_t j = 0; j < vocab; j++)
                sum += sl_expf(logits[j] - max);
        } else {
#pragma omp simd reduction(+ : sum)
            for (uint32_t j = 0; j < vocab; j++) {
                logits[j] = sl_expf(logits[j] - max);
                sum += logits[j];
            }
            float inv = 1.0f / sum;
#pragma omp simd
            for (uint32_t j = 0; j < vocab; j++)
                logits[j] *= inv;
            logits[targets[i]] -= 1.0f;
        }
        nll[i] = log((double)sum) + ((double)max - (double)wanted);
    }
}

enum {
    BLOCK_ROWS = 256, /* rows whose logits of a tile are at hand at a time */
    GRAIN = 4,
    LINE = 64
};

/* One call. */
struct head_loss {
    const struct sl_packed *head;
    uint32_t d, rows, room;
    uint32_t first, n, first_row; /* columns of the tile; first row of the block */
    struct sl_src x;
    const uint32_t *targets;
    float *dx;
    float *logits, *max2, *factor, *wanted; /* [block, tile]; [rows] each */
    double *sum;
    void *p;        /* [block, tile], of the head's precision; the logits' own memory in f32 */
    void *target_w; /* [threads, d]: the target's row of the head, of its precision */
    void *scratch;
};

static size_t carve(size_t *at, size_t bytes)
{
    size_t start = *at;
    *at += (bytes + LINE - 1) / LINE * LINE;
    return start;
}

static size_t lay_out(struct head_loss *w, char *base, enum sl_precision precision, uint32_t rows)
{
    size_t size = sl_precision_size(precision), at = 0;
    uint32_t first, tile, block = rows < BLOCK_ROWS ? rows : BLOCK_ROWS;
    block = (block + SL_PACKED_ROWS - 1) / SL_PACKED_ROWS * SL_PACKED_ROWS;
    sl_packed_tile(w->head, 0, &first, &tile);
    size_t logits = carve(&at, (size_t)block * tile * sizeof *w->logits);
    size_t p = precision == SL_PRECISION_F32 ? logits : carve(&at, (size_t)block * tile * size);
    size_t max = carve(&at, rows * sizeof *w->max2), factor = carve(&at, rows * sizeof *w->factor),
           wanted = carve(&at, rows * sizeof *w->wanted), sum = carve(&at, rows * sizeof *w->sum);
    size_t target_w = carve(&at, (size_t)sl_parallel_threads() * w->d * size);
    size_t scratch = carve(&at, sl_packed_scratch(w->head, block));
    if (!base)
        return at;
    w->logits = (float *)(base + logits);
    w->p = base + p;
    w->max2 = (float *)(base + max);
    w->factor = (float *)(base + factor);
    w->wanted = (float *)(base + wanted);
    w->sum = (double *)(base + sum);
    w->target_w = base + target_w;
    w->scratch = base + scratch;
    return at;
}

size_t sl_head_loss_scratch(
    const struct sl_packed *head, uint32_t d, enum sl_precision precision, uint32_t max_rows)
{
    struct head_loss w = {.head = head, .d = d};
    return lay_out(&w, NULL, precision, max_rows);
}

static void softmax_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct head_loss *w = ctx;
    const struct sl_row_kernels *k = sl_row_kernels();
    uint32_t row0 = w->first_row + first;
    const float *logits = w->logits + (size_t)first * w->n;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t target = w->targets[row0 + i];
        if (target >= w->first && target - w->first < w->n)
            w->wanted[row0 + i] = logits[(size_t)i * w->n + target - w->first];
    }
    struct sl_dst p = {w->dx ? w->p : NULL, w->x.precision};
    k->softmax_tile(
        logits, n, w->n, w->max2 + row0, w->sum + row0, w->factor + row0, sl_dst_at(p, (size_t)first * w->n));
    for (uint32_t i = row0; w->dx && w->first && i < row0 + n; i++)
        if (w->factor[i] != 1.0f)
            k->scale_row(w->dx + (size_t)i * w->d, w->d, w->factor[i], sl_src_f32(NULL));
}

/* Rows [row, row + n) against one tile. */
static int block(struct head_loss *w, uint32_t tile, uint32_t row, uint32_t n)
{
    uint32_t padded = (n + SL_PACKED_ROWS - 1) / SL_PACKED_ROWS * SL_PACKED_ROWS;
    uint32_t room = w->room - row < padded ? w->room - row : padded;
    struct sl_product forward = {.rows = n,
        .room = room,
        .x = sl_src_at(w->x, (size_t)row * w->d).p,
        .ld_x = w->d,
        .y = w->logits,
        .ld_y = w->n,
        .y_type = SL_PRECISION_F32};
    int err = sl_packed_forward_tile(w->head, tile, &forward, w->scratch);
    if (err)
        return err;
    w->first_row = row;
    sl_parallel(n, GRAIN, softmax_rows, w);
    if (!w->dx)
        return 0;
    struct sl_product backward = {.rows = n,
        .room = room,
        .x = w->p,
        .ld_x = w->n,
        .y = w->dx + (size_t)row * w->d,
        .ld_y = w->d,
        .y_type = SL_PRECISION_F32,
        .accumulate = w->first != 0};
    return sl_packed_backward_tile(w->head, tile, &backward, w->scratch);
}

/* dx = Σ p w / Σ p - the target's w. */
static void finish_rows(void *ctx, uint32_t thread, uint32_t first, uint32_t n)
{
    const struct head_loss *w = ctx;
    enum sl_precision precision = w->x.precision;
    char *target_w = (char *)w->target_w + (size_t)thread * w->d * sl_precision_size(precision);
    struct sl_src t = {target_w, precision};
    for (uint32_t i = first; i < first + n; i++) {
        sl_packed_column(w->head, w->targets[i], target_w);
        sl_row_kernels()->scale_row(w->dx + (size_t)i * w->d, w->d, (float)(1 / w->sum[i]), t);
    }
}

int sl_head_loss(const struct sl_packed *head, uint32_t d, struct sl_src x, uint32_t rows, uint32_t room,
    const uint32_t *targets, double *nll, float *dx, void *scratch)
{
    struct head_loss w = {.head = head,
        .d = d,
        .rows = rows,
        .room = room > rows ? room : rows,
        .x = x,
        .targets = targets,
        .dx = dx};
    lay_out(&w, scratch, x.precision, rows);
    for (uint32_t i = 0; i < rows; i++) {
        w.max2[i] = -INFINITY;
        w.sum[i] = 0;
    }
    for (uint32_t t = 0; t < sl_packed_tiles(head); t++) {
        sl_packed_tile(head, t, &w.first, &w.n);
        int err = 0;
        for (uint32_t r = 0; r < rows && !err; r += BLOCK_ROWS)
            err = block(&w, t, r, rows - r < BLOCK_ROWS ? rows - r : BLOCK_ROWS);
        if (err)
            return err;
    }
    for (uint32_t i = 0; i < rows; i++)
        nll[i] = log(w.sum[i]) + (w.max2[i] * M_LN2 - (double)w.wanted[i]);
    if (dx)
        sl_parallel(rows, GRAIN, finish_rows, &w);
    return 0;
}
