#include "trainer/pipeline/aggregate.h"

#include "trainer/pipeline/factors.h"
#include "trainer/tensor/gemm.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const float *weights_at(const struct sl_copy *c, uint32_t layer, size_t block)
{
    return c->weights + (layer - c->first) * block;
}

static void aggregate_block(
    float *g, uint32_t layer, size_t block, const struct sl_copy *copies, uint32_t n_copies, double *sum)
{
    const struct sl_copy *only = NULL;
    uint32_t n = 0;
    double tokens = 0;
    for (uint32_t c = 0; c < n_copies; c++) {
        if (!sl_copy_tokens(&copies[c], layer))
            continue;
        only = &copies[c];
        tokens += (double)sl_copy_tokens(only, layer);
        n++;
    }
    if (n == 0)
        return;
    if (n == 1 && !only->base) {
        memcpy(g, weights_at(only, layer, block), block * sizeof *g);
        return;
    }
    memset(sum, 0, block * sizeof *sum);
    for (uint32_t c = 0; c < n_copies; c++) {
        double weight = (double)sl_copy_tokens(&copies[c], layer);
        if (!(weight > 0))
            continue;
        const float *w = weights_at(&copies[c], layer, block);
        const float *base = copies[c].base ? copies[c].base + layer * block : g;
        for (size_t i = 0; i < block; i++)
            sum[i] += weight * ((double)w[i] - (double)base[i]);
    }
    for (size_t i = 0; i < block; i++)
        g[i] = (float)((double)g[i] + sum[i] / tokens);
}

void sl_aggregate(float *g, uint32_t n_layers, size_t block, const struct sl_copy *copies, uint32_t n_copies,
    double *scratch)
{
    for (uint32_t l = 0; l < n_layers; l++)
        aggregate_block(g + l * block, l, block, copies, n_copies, scratch);
}

struct error_work {
    const struct sl_copy *copies;
    uint32_t n_copies, rank;
    size_t block;
    float *left, *right; /* [out, (n_copies + 1) rank] and [(n_copies + 1) rank, in] */
    float *product;      /* [out, in] */
};

/* Puts scale * B beside what `left` has, and A under what `right` has, as piece number i of `pieces`. */
static void put_piece(struct error_work *w, const struct sl_factor *f, const float *block, double scale,
    uint32_t i, uint32_t pieces)
{
    uint32_t r = w->rank;
    for (uint32_t o = 0; o < f->out; o++)
        for (uint32_t k = 0; k < r; k++)
            w->left[((size_t)o * pieces + i) * r + k] = (float)(scale * block[f->b + (size_t)o * r + k]);
    memcpy(w->right + (size_t)i * r * f->in, block + f->a, (size_t)r * f->in * sizeof(float));
}

/* Squared norm of mean(BA) - B A of `block`, the mean over the copies weighted by tokens. */
static double distance(
    struct error_work *w, const struct sl_factor *f, uint32_t layer, double tokens, const float *block)
{
    uint32_t pieces = 1, i = 0;
    for (uint32_t c = 0; c < w->n_copies; c++)
        pieces += sl_copy_tokens(&w->copies[c], layer) > 0;
    put_piece(w, f, block, -1, i++, pieces);
    for (uint32_t c = 0; c < w->n_copies; c++) {
        uint64_t n = sl_copy_tokens(&w->copies[c], layer);
        if (n)
            put_piece(w, f, weights_at(&w->copies[c], layer, w->block), (double)n / tokens, i++, pieces);
    }
    uint32_t inner = pieces * w->rank;
    sl_gemm(false, f->out, f->in, inner, 1, w->left, inner, w->right, f->in, 0, w->product, f->in);
    double sum = 0;
    for (size_t e = 0; e < (size_t)f->out * f->in; e++)
        sum += (double)w->product[e] * w->product[e];
    return sum;
}

/* The most of what any target has: out, in, out times in. */
static void widest(const struct sl_factor *f, uint32_t n, size_t most[3])
{
    most[0] = most[1] = most[2] = 0;
    for (uint32_t i = 0; i < n; i++) {
        size_t elements = (size_t)f[i].out * f[i].in;
        most[0] = f[i].out > most[0] ? f[i].out : most[0];
        most[1] = f[i].in > most[1] ? f[i].in : most[1];
        most[2] = elements > most[2] ? elements : most[2];
    }
}

double sl_aggregate_factor_error(const struct sl_model_config *model, const struct sl_lora_config *lora,
    const float *before, const float *after, const struct sl_copy *copies, uint32_t n_copies)
{
    struct sl_factor factors[SL_TARGET_COUNT];
    size_t most[3];
    if (lora->freeze_a || n_copies < 2)
        return 0;
    uint32_t n_factors = sl_factors(model, lora, factors);
    widest(factors, n_factors, most);
    size_t inner = (size_t)(n_copies + 1) * lora->rank;
    struct error_work w = {.copies = copies, .n_copies = n_copies, .rank = lora->rank};
    w.block = sl_adapter_block_size(model, lora);
    w.left = malloc(most[0] * inner * sizeof(float));
    w.right = malloc(most[1] * inner * sizeof(float));
    w.product = malloc(most[2] * sizeof(float));
    double error = 0, update = 0;
    bool memory = w.left && w.right && w.product;
    for (uint32_t l = 0; memory && l < model->n_layers; l++) {
        uint32_t n = 0;
        double tokens = 0;
        for (uint32_t c = 0; c < n_copies; c++) {
            n += sl_copy_tokens(&copies[c], l) > 0;
            tokens += (double)sl_copy_tokens(&copies[c], l);
        }
        for (uint32_t i = 0; n > 1 && i < n_factors; i++) {
            error += distance(&w, &factors[i], l, tokens, after + l * w.block);
            update += distance(&w, &factors[i], l, tokens, before + l * w.block);
        }
    }
    free(w.left);
    free(w.right);
    free(w.product);
    if (!memory)
        return -ENOMEM;
    return update > 0 ? sqrt(error / update) : 0;
}
