#include "tests/bench/train_step.h"

#include "trainer/model/optim.h"
#include "trainer/tensor/gemm.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a run of the product would use. */
static const struct sl_optim_config optimiser = {
    .kind = SL_ADAMW, .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.999f, .eps = 1e-8f};

struct tuned { /* one adapter and its optimiser */
    struct sl_adapter *adapter;
    struct sl_moments *moments; /* [blocks] */
    uint32_t first, last;
};

struct bench_trainee {
    struct bench_work work;
    struct sl_model_config config;
    struct sl_half *half;
    struct tuned *tuned;
    uint32_t n_tuned, n_seqs;
    struct sl_seq *seqs;
    float *x, *dx;             /* [rows, d_model], or ... */
    sl_bf16 *x_bf16, *dx_bf16; /* ... in bf16 */
    size_t arena_bytes;
    uint32_t *targets;
    double *tokens_at; /* [n_layers]: rows present at a block */
    uint64_t tokens;
    struct bench_flop flop;
    struct sl_profile profile;
};

static int tune(struct bench_trainee *t, struct tuned *u, uint32_t first)
{
    u->first = first;
    u->last = t->config.n_layers;
    int err = sl_adapter_create(&t->config, &t->work.lora, u->first, u->last, &u->adapter);
    if (err)
        return err;
    u->moments = calloc(u->last - u->first, sizeof *u->moments);
    if (!u->moments)
        return -ENOMEM;
    size_t n = sl_adapter_block_size(&t->config, &t->work.lora);
    for (uint32_t l = u->first; l < u->last && !err; l++)
        err = sl_moments_create(&optimiser, n, &u->moments[l - u->first]);
    return err;
}

static uint32_t lowest(const struct bench_work *w)
{
    uint32_t cut = w->cuts[0];
    for (uint32_t i = 1; i < w->n_cuts && i < w->devices; i++)
        cut = w->cuts[i] < cut ? w->cuts[i] : cut;
    return cut;
}

/* Sequences in ascending cut, as a half wants them. */
static void lay_out(struct bench_trainee *t)
{
    const struct bench_work *w = &t->work;
    uint32_t n = 0, d = t->config.d_model;
    for (uint32_t layer = 0; layer < t->config.n_layers; layer++)
        for (uint32_t i = 0; i < w->devices; i++) {
            if (w->cuts[i % w->n_cuts] != layer)
                continue;
            for (uint32_t b = 0; b < w->batch; b++, n++) {
                size_t row = (size_t)n * w->seq;
                t->seqs[n] = (struct sl_seq){.len = w->seq,
                    .enter = layer,
                    .targets = t->targets + row,
                    .adapter = w->personal ? t->tuned[i].adapter : NULL};
                if (w->precision == SL_PRECISION_BF16) {
                    t->seqs[n].x_bf16 = t->x_bf16 + row * d;
                    t->seqs[n].dx_bf16 = t->dx_bf16 + row * d;
                } else {
                    t->seqs[n].x = t->x + row * d;
                    t->seqs[n].dx = t->dx + row * d;
                }
            }
        }
    for (uint32_t layer = lowest(w); layer < t->config.n_layers; layer++) {
        for (uint32_t i = 0; i < t->n_seqs; i++)
            t->tokens_at[layer] += t->seqs[i].enter <= layer ? w->seq : 0;
        bench_flop_block(&t->flop, &t->config, &w->lora, t->tokens_at[layer], w->seq);
    }
    bench_flop_head(&t->flop, &t->config, (double)t->tokens);
}

static int build(struct bench_trainee *t, struct sl_model *model, char *err, size_t cap)
{
    const struct bench_work *w = &t->work;
    uint32_t first = lowest(w);
    size_t floats = t->tokens * t->config.d_model;
    t->n_tuned = w->personal ? w->devices : 1;
    t->tuned = calloc(t->n_tuned, sizeof *t->tuned);
    t->seqs = calloc(t->n_seqs, sizeof *t->seqs);
    if (w->precision == SL_PRECISION_BF16) {
        t->x_bf16 = malloc(floats * sizeof *t->x_bf16);
        t->dx_bf16 = malloc(floats * sizeof *t->dx_bf16);
    } else {
        t->x = malloc(floats * sizeof *t->x);
        t->dx = malloc(floats * sizeof *t->dx);
    }
    t->targets = malloc(t->tokens * sizeof *t->targets);
    t->tokens_at = calloc(t->config.n_layers, sizeof *t->tokens_at);
    if (!t->tuned || !t->seqs ||
        !(t->x          ? (void *)t->dx
            : t->x_bf16 ? (void *)t->dx_bf16
                        : NULL) ||
        !t->targets || !t->tokens_at)
        return -ENOMEM;
    uint64_t key = sl_rng_key(1, "bench train");
    for (size_t i = 0; i < floats; i++) {
        float v = sl_rng_normal(key, i);
        if (t->x)
            t->x[i] = v;
        else
            t->x_bf16[i] = sl_bf16_round(v);
    }
    for (uint64_t i = 0; i < t->tokens; i++)
        t->targets[i] = (uint32_t)(sl_rng_u64(key, i) % t->config.vocab);
    for (uint32_t i = 0; i < t->n_tuned; i++) {
        int failed = tune(t, &t->tuned[i], first);
        if (failed)
            return failed;
    }
    lay_out(t);
    struct sl_half_config config = {.first = first,
        .last = t->config.n_layers,
        .max_rows = (uint32_t)t->tokens,
        .max_seqs = t->n_seqs,
        .precision = w->precision,
        .max_adapters = t->n_tuned,
        .profile = &t->profile};
    t->arena_bytes = sl_half_arena_bytes(&t->config, &w->lora, &config);
    sl_gemm_threads(t->work.threads); /* scratch is sized for them */
    int failed = sl_half_create(model, t->tuned[0].adapter, &config, &t->half);
    if (failed)
        snprintf(err, cap, "the half of %u blocks and %llu rows: %s", t->config.n_layers - first,
            (unsigned long long)t->tokens, strerror(-failed));
    return failed;
}

int bench_trainee_create(
    struct sl_model *model, const struct bench_work *work, struct bench_trainee **out, char *err, size_t cap)
{
    struct bench_trainee *t = calloc(1, sizeof *t);
    *err = '\0';
    if (!t)
        return -ENOMEM;
    t->work = *work;
    t->config = *sl_model_config(model);
    t->n_seqs = work->devices * work->batch;
    t->tokens = (uint64_t)t->n_seqs * work->seq;
    int failed = build(t, model, err, cap);
    if (failed) {
        if (!*err)
            snprintf(err, cap, "buffers for %llu rows: %s", (unsigned long long)t->tokens, strerror(-failed));
        bench_trainee_free(t);
        return failed;
    }
    *out = t;
    return 0;
}

void bench_trainee_free(struct bench_trainee *t)
{
    if (!t)
        return;
    sl_half_free(t->half);
    for (uint32_t i = 0; i < t->n_tuned && t->tuned; i++) {
        for (uint32_t l = t->tuned[i].first; l < t->tuned[i].last && t->tuned[i].moments; l++)
            sl_moments_free(&t->tuned[i].moments[l - t->tuned[i].first]);
        free(t->tuned[i].moments);
        sl_adapter_free(t->tuned[i].adapter);
    }
    free(t->tuned);
    free(t->seqs);
    free(t->x);
    free(t->dx);
    free(t->x_bf16);
    free(t->dx_bf16);
    free(t->targets);
    free(t->tokens_at);
    free(t);
}

static void optimise(struct bench_trainee *t)
{
    for (uint32_t i = 0; i < t->n_tuned; i++) {
        struct tuned *u = &t->tuned[i];
        for (uint32_t l = u->first; l < u->last; l++) {
            struct sl_block b = sl_adapter_block(u->adapter, l);
            double tokens = t->work.personal ? (double)t->work.batch * t->work.seq : t->tokens_at[l];
            if (tokens > 0)
                sl_optim_step(
                    &optimiser, &u->moments[l - u->first], b.data, b.grad, b.n, tokens, optimiser.lr);
        }
    }
}

double bench_trainee_step(struct bench_trainee *t)
{
    double nll = 0;
    sl_gemm_threads(t->work.threads);
    sl_profile_start(&t->profile);
    for (uint32_t i = 0; i < t->n_tuned; i++)
        sl_adapter_zero_grads(t->tuned[i].adapter);
    sl_profile_mark(&t->profile, SL_KERNEL_OPTIMISER);
    if (sl_half_forward(t->half, t->seqs, t->n_seqs, NULL) ||
        sl_half_backward(t->half, t->seqs, t->n_seqs, NULL))
        return -1;
    sl_profile_start(&t->profile);
    optimise(t);
    sl_profile_mark(&t->profile, SL_KERNEL_OPTIMISER);
    for (uint32_t i = 0; i < t->n_seqs; i++)
        nll += t->seqs[i].nll;
    return nll / (double)t->tokens;
}

uint64_t bench_trainee_tokens(const struct bench_trainee *t)
{
    return t->tokens;
}

const struct bench_flop *bench_trainee_flop(const struct bench_trainee *t)
{
    return &t->flop;
}

struct sl_profile *bench_trainee_profile(struct bench_trainee *t)
{
    return &t->profile;
}

size_t bench_trainee_arena_bytes(const struct bench_trainee *t)
{
    return t->arena_bytes;
}
