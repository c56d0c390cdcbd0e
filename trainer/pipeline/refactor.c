#include "trainer/pipeline/refactor.h"

#include "trainer/pipeline/factors.h"
#include "trainer/tensor/lowrank.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct work {
    const struct sl_refactor_config *config;
    const struct sl_copy *copies;
    uint32_t n_copies, rank, k; /* k: components gathered so far */
    size_t block;
    float *g;
    struct sl_factor own[SL_TARGET_COUNT];
    uint32_t n_factors;
    struct sl_lowrank *lowrank;
    double *left, *right; /* [out, k] and [in, k], column-major */
    double *u, *v, *sigma;
    double *b, *a, *scratch; /* [out, rank], [in, rank]; [2, k, rank] */
    double *coefficient;     /* [rank]: of G's components in the sum */
    double lost, missed, update;
};

/* LoRA's initialisation is uniform within 1/sqrt(in): a row's mean square norm is 1/3 (lora.c). */
static const double least_norm = 0.57735026918962576;

static struct sl_lora_config lora_of(const struct work *w, const struct sl_copy *c)
{
    struct sl_lora_config lora = *w->config->lora;
    lora.rank = c->rank ? c->rank : w->rank;
    return lora;
}

static const float *weights_of(const struct work *w, const struct sl_copy *c, uint32_t layer)
{
    struct sl_lora_config lora = lora_of(w, c);
    return c->weights + (layer - c->first) * sl_adapter_block_size(w->config->model, &lora);
}

/* Component j of factors of that rank, times `scale`, as the next column of the sum. */
static void gather_component(
    struct work *w, const struct sl_factor *f, const float *block, uint32_t rank, uint32_t j, double scale)
{
    double *l = w->left + (size_t)w->k * f->out, *r = w->right + (size_t)w->k * f->in;
    for (uint32_t o = 0; o < f->out; o++)
        l[o] = scale * (double)block[f->b + (size_t)o * rank + j];
    for (uint32_t i = 0; i < f->in; i++)
        r[i] = block[f->a + (size_t)j * f->in + i];
    w->k++;
}

/* All of M, factor number i of `layer`: what copies bring, less what they started from, and G. A copy that
 * started from the present G takes as much of G's components away as it brings, so with all copies of G's
 * rank and no stale one, G itself is not in the sum. */
static void gather(struct work *w, uint32_t layer, uint32_t i, double tokens)
{
    const struct sl_factor *own = &w->own[i];
    const float *g = w->g + layer * w->block;
    w->k = 0;
    for (uint32_t j = 0; j < w->rank; j++)
        w->coefficient[j] = tokens; /* in tokens: whole numbers, so that nought is nought */
    for (uint32_t c = 0; c < w->n_copies; c++) {
        const struct sl_copy *copy = &w->copies[c];
        double n = (double)sl_copy_tokens(copy, layer);
        if (!(n > 0))
            continue;
        struct sl_lora_config lora = lora_of(w, copy);
        struct sl_factor f[SL_TARGET_COUNT];
        sl_factors(w->config->model, &lora, f);
        const float *weights = weights_of(w, copy, layer);
        for (uint32_t j = 0; j < lora.rank; j++)
            gather_component(w, &f[i], weights, lora.rank, j, n / tokens);
        for (uint32_t j = 0; j < lora.rank; j++) {
            if (copy->base)
                gather_component(w, own, copy->base + layer * w->block, w->rank, j, -n / tokens);
            else
                w->coefficient[j] -= n;
        }
    }
    for (uint32_t j = 0; j < w->rank; j++)
        if (w->coefficient[j] != 0)
            gather_component(w, own, g, w->rank, j, w->coefficient[j] / tokens);
}

static void widen(const struct work *w, const struct sl_factor *f, const float *block, double *b, double *a)
{
    for (uint32_t j = 0; j < w->rank; j++) {
        for (uint32_t o = 0; o < f->out; o++)
            b[(size_t)j * f->out + o] = block[f->b + (size_t)o * w->rank + j];
        for (uint32_t i = 0; i < f->in; i++)
            a[(size_t)j * f->in + i] = block[f->a + (size_t)j * f->in + i];
    }
}

/* Squared norm of L Rᵀ - B A, but for the squared norm of L Rᵀ: that is the sum of the squared singular
 * values, once these are known. */
static double distance(struct work *w, const struct sl_factor *f, const float *block)
{
    widen(w, f, block, w->b, w->a);
    double own = sl_lowrank_dot(f->out, f->in, w->rank, w->b, w->a, w->rank, w->b, w->a, w->scratch);
    double both = sl_lowrank_dot(f->out, f->in, w->k, w->left, w->right, w->rank, w->b, w->a, w->scratch);
    return own - 2 * both;
}

static double positive(double x)
{
    return x > 0 ? x : 0; /* a difference of nearly equal squares may fall below nought */
}

static void put_back(struct work *w, const struct sl_factor *f, uint32_t values, float *block)
{
    for (uint32_t j = 0; j < w->rank; j++) {
        if (j >= values) { /* the layer is narrower than the rank: A stays what it was */
            for (uint32_t o = 0; o < f->out; o++)
                block[f->b + (size_t)o * w->rank + j] = 0;
            continue;
        }
        double s = w->sigma[j], norm = sqrt(s) > least_norm ? sqrt(s) : least_norm;
        for (uint32_t o = 0; o < f->out; o++)
            block[f->b + (size_t)o * w->rank + j] = (float)(w->u[(size_t)j * f->out + o] * s / norm);
        for (uint32_t i = 0; i < f->in; i++)
            block[f->a + (size_t)j * f->in + i] = (float)(w->v[(size_t)j * f->in + i] * norm);
    }
}

static int refactor_one(struct work *w, uint32_t layer, uint32_t i, double tokens, const float *mean)
{
    const struct sl_factor *f = &w->own[i];
    float *g = w->g + layer * w->block;
    gather(w, layer, i, tokens);
    double update = distance(w, f, g), missed = mean ? distance(w, f, mean) : 0, square = 0;
    int err =
        sl_lowrank_factor(w->lowrank, f->out, f->in, w->k, w->left, w->right, w->rank, w->u, w->v, w->sigma);
    if (err)
        return err;
    uint32_t values = w->k < f->out ? w->k : f->out;
    values = values < f->in ? values : f->in;
    for (uint32_t j = 0; j < values; j++) {
        square += w->sigma[j] * w->sigma[j];
        w->lost += j < w->rank ? 0 : w->sigma[j] * w->sigma[j];
    }
    w->update += positive(update + square);
    w->missed += mean ? positive(missed + square) : 0;
    put_back(w, f, values, g);
    return 0;
}

/* Which copies have a say in a block: how many, their tokens, and the only one. */
static uint32_t count(const struct work *w, uint32_t layer, double *tokens, const struct sl_copy **only)
{
    uint32_t n = 0;
    *tokens = 0;
    for (uint32_t c = 0; c < w->n_copies; c++) {
        if (!sl_copy_tokens(&w->copies[c], layer))
            continue;
        *only = &w->copies[c];
        *tokens += (double)sl_copy_tokens(*only, layer);
        n++;
    }
    return n;
}

static int refactor_all(struct work *w, bool *changed, const float *mean)
{
    for (uint32_t l = 0; l < w->config->model->n_layers; l++) {
        const struct sl_copy *only = NULL;
        double tokens;
        uint32_t n = count(w, l, &tokens, &only);
        changed[l] = false;
        if (!n)
            continue;
        if (n == 1 && !only->base && !w->config->mixed_ranks) {
            memcpy(w->g + l * w->block, weights_of(w, only, l), w->block * sizeof(float));
            continue;
        }
        changed[l] = true;
        for (uint32_t i = 0; i < w->n_factors; i++) {
            int err = refactor_one(w, l, i, tokens, mean && n > 1 ? mean + l * w->block : NULL);
            if (err)
                return err;
        }
    }
    return 0;
}

/* Components that one sum can have: of every copy, of what each started from, and of G. */
static int allocate(struct work *w)
{
    size_t out = 1, in = 1, k = w->rank;
    for (uint32_t i = 0; i < w->n_factors; i++) {
        out = w->own[i].out > out ? w->own[i].out : out;
        in = w->own[i].in > in ? w->own[i].in : in;
    }
    for (uint32_t c = 0; c < w->n_copies; c++)
        k += (w->copies[c].base ? 2u : 1u) * (w->copies[c].rank ? w->copies[c].rank : w->rank);
    w->lowrank = sl_lowrank_create((uint32_t)out, (uint32_t)in, (uint32_t)k);
    w->left = malloc(out * k * sizeof(double));
    w->right = malloc(in * k * sizeof(double));
    w->u = malloc(out * w->rank * sizeof(double));
    w->v = malloc(in * w->rank * sizeof(double));
    w->b = malloc(out * w->rank * sizeof(double));
    w->a = malloc(in * w->rank * sizeof(double));
    w->sigma = malloc(k * sizeof(double));
    w->scratch = malloc(2 * k * w->rank * sizeof(double));
    w->coefficient = malloc(w->rank * sizeof(double));
    return w->lowrank && w->left && w->right && w->u && w->v && w->b && w->a && w->sigma && w->scratch &&
                   w->coefficient
               ? 0
               : -ENOMEM;
}

static void release(struct work *w)
{
    sl_lowrank_free(w->lowrank);
    free(w->left);
    free(w->right);
    free(w->u);
    free(w->v);
    free(w->b);
    free(w->a);
    free(w->sigma);
    free(w->scratch);
    free(w->coefficient);
}

/* What sl_aggregate would make of the same copies; NULL: no memory. */
static float *average(const struct work *w)
{
    size_t n = w->config->model->n_layers * w->block;
    float *mean = malloc(n * sizeof *mean);
    double *sum = malloc(w->block * sizeof *sum);
    if (mean && sum) {
        memcpy(mean, w->g, n * sizeof *mean);
        sl_aggregate(mean, w->config->model->n_layers, w->block, w->copies, w->n_copies, sum);
    } else {
        free(mean);
        mean = NULL;
    }
    free(sum);
    return mean;
}

int sl_refactor(const struct sl_refactor_config *config, float *g, const struct sl_copy *copies,
    uint32_t n_copies, bool *changed, struct sl_refactor_errors *errors)
{
    struct work w = {
        .config = config, .copies = copies, .n_copies = n_copies, .rank = config->lora->rank, .g = g};
    bool compare = config->compare && !config->mixed_ranks;
    w.block = sl_adapter_block_size(config->model, config->lora);
    w.n_factors = sl_factors(config->model, config->lora, w.own);
    float *mean = compare ? average(&w) : NULL;
    int err = allocate(&w);
    if (compare && !mean)
        err = -ENOMEM;
    if (!err)
        err = refactor_all(&w, changed, mean);
    *errors = (struct sl_refactor_errors){0};
    if (!err && w.update > 0) {
        errors->svd = sqrt(w.lost / w.update);
        errors->factors = sqrt(w.missed / w.update);
    }
    free(mean);
    release(&w);
    return err;
}
