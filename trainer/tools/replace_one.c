#include "trainer/tools/replace_one.h"

#include "trainer/model/proximal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* One training: an adapter with its optimiser's state. Lane 0 is A(S). */
struct lane {
    struct sl_adapter *adapter;
    struct sl_moments *moments; /* [blocks] */
    uint32_t start;             /* the step from which it is its own training; steps: never */
};

struct sl_replace {
    struct sl_replace_config config;
    uint32_t layers, width, rows, max_seqs; /* width: floats of a row between the halves; rows: of a window */
    struct sl_half *front, *back;           /* back: NULL without a cut */
    struct sl_seq *seqs, *back_seqs;        /* [max_seqs] */
    float *x;                               /* [max_seqs * rows, width] between the halves; NULL without */
    struct lane *lanes;                     /* [1 + swaps] */
};

int sl_replace_create(
    const struct sl_replace_config *config, struct sl_replace **out, char *err, size_t err_cap)
{
    const struct sl_model_config *model = sl_model_config(config->model);
    struct sl_replace *r = calloc(1, sizeof *r);
    if (!r)
        return -ENOMEM;
    r->config = *config;
    r->layers = model->n_layers;
    r->width = model->d_model;
    r->rows = config->seq - 1;
    r->lanes = calloc(config->swaps + 1, sizeof *r->lanes);
    /* A step has `batch` windows of every lane; scoring has two of every swap, twice. */
    uint64_t step = (uint64_t)(config->swaps + 1) * config->batch, score = 4 * (uint64_t)config->swaps;
    uint64_t seqs = step > score ? step : score;
    int rc = r->lanes ? 0 : -ENOMEM;
    if (seqs * r->rows > UINT32_MAX) {
        snprintf(err, err_cap, "a batch of more than 2^32 rows: fewer swaps or windows in one");
        rc = -EINVAL;
    }
    if (!rc) {
        r->max_seqs = (uint32_t)seqs;
        r->seqs = calloc(seqs, sizeof *r->seqs);
        r->back_seqs = calloc(seqs, sizeof *r->back_seqs);
        r->x = config->cut ? malloc(seqs * r->rows * r->width * sizeof *r->x) : NULL;
        rc = r->seqs && r->back_seqs && (r->x || !config->cut) ? 0 : -ENOMEM;
    }
    struct sl_half_config half = {.last = config->cut ? config->cut : r->layers,
        .max_rows = r->max_seqs * r->rows,
        .max_seqs = r->max_seqs,
        .max_adapters = config->swaps + 1,
        .lora = &config->lora};
    if (!rc)
        rc = sl_half_create(config->model, NULL, &half, &r->front);
    if (!rc && config->cut) {
        half.first = config->cut;
        half.last = r->layers;
        rc = sl_half_create(config->model, NULL, &half, &r->back);
    }
    if (rc) {
        sl_replace_free(r);
        return rc;
    }
    *out = r;
    return 0;
}

static void free_lane(struct lane *lane, uint32_t layers)
{
    for (uint32_t l = 0; lane->moments && l < layers; l++)
        sl_moments_free(&lane->moments[l]);
    free(lane->moments);
    sl_adapter_free(lane->adapter);
    *lane = (struct lane){0};
}

void sl_replace_free(struct sl_replace *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; r->lanes && i <= r->config.swaps; i++)
        free_lane(&r->lanes[i], r->layers);
    free(r->lanes);
    free(r->seqs);
    free(r->back_seqs);
    free(r->x);
    sl_half_free(r->front);
    sl_half_free(r->back);
    free(r);
}

static int make_lane(const struct sl_replace *r, const struct sl_replace_job *job, struct lane *lane)
{
    struct sl_lora_config lora = r->config.lora;
    lora.seed = job->seed;
    int rc = sl_adapter_create(sl_model_config(r->config.model), &lora, 0, job->blocks, &lane->adapter);
    lane->moments = calloc(r->layers, sizeof *lane->moments);
    if (!rc && !lane->moments)
        rc = -ENOMEM;
    for (uint32_t l = 0; l < job->blocks && !rc; l++)
        rc = sl_moments_create(&r->config.optim, sl_adapter_block(lane->adapter, l).n, &lane->moments[l]);
    return rc;
}

static void copy_lane(struct lane *to, const struct lane *from, uint32_t blocks)
{
    for (uint32_t l = 0; l < blocks; l++) {
        struct sl_block a = sl_adapter_block_all(to->adapter, l), b = sl_adapter_block_all(from->adapter, l);
        size_t n = sl_adapter_block(to->adapter, l).n;
        memcpy(a.data, b.data, a.n * sizeof *a.data);
        if (from->moments[l].m)
            memcpy(to->moments[l].m, from->moments[l].m, n * sizeof *to->moments[l].m);
        if (from->moments[l].v)
            memcpy(to->moments[l].v, from->moments[l].v, n * sizeof *to->moments[l].v);
        to->moments[l].t = from->moments[l].t;
    }
}

static struct sl_seq seq_of(const struct sl_replace *r, const uint32_t *window, struct sl_adapter *adapter)
{
    return (struct sl_seq){.len = r->rows, .ids = window, .targets = window + 1, .adapter = adapter};
}

/* Fills in seqs[i].nll, whatever the cut. */
static int forward(struct sl_replace *r, uint32_t n)
{
    int rc = sl_half_forward(r->front, r->seqs, n, r->x);
    if (rc || !r->back)
        return rc;
    for (uint32_t i = 0; i < n; i++) {
        float *x = r->x + (size_t)i * r->rows * r->width;
        r->back_seqs[i] = (struct sl_seq){.len = r->rows,
            .enter = r->config.cut,
            .x = x,
            .dx = x,
            .targets = r->seqs[i].targets,
            .adapter = r->seqs[i].adapter};
    }
    rc = sl_half_forward(r->back, r->back_seqs, n, NULL);
    for (uint32_t i = 0; i < n; i++)
        r->seqs[i].nll = r->back_seqs[i].nll;
    return rc;
}

static int backward(struct sl_replace *r, uint32_t n)
{
    if (!r->back)
        return sl_half_backward(r->front, r->seqs, n, NULL);
    int rc = sl_half_backward(r->back, r->back_seqs, n, NULL);
    return rc ? rc : sl_half_backward(r->front, r->seqs, n, r->x);
}

static int step(struct sl_replace *r, const struct sl_replace_job *job, const struct sl_swap *swaps,
    uint32_t n_swaps, uint32_t s, char *err, size_t err_cap)
{
    const struct sl_replace_config *c = &r->config;
    const uint32_t *places = job->order + (size_t)s * c->batch;
    uint32_t n = 0;

    for (uint32_t i = 0; i <= n_swaps; i++) {
        struct lane *lane = &r->lanes[i];
        if (s < lane->start)
            continue;
        if (s == lane->start && s > 0)
            copy_lane(lane, &r->lanes[0], job->blocks);
        sl_adapter_zero_grads(lane->adapter);
        for (uint32_t b = 0; b < c->batch; b++) {
            bool other = i > 0 && places[b] == swaps[i - 1].place;
            r->seqs[n++] = seq_of(r, other ? swaps[i - 1].other : job->windows[places[b]], lane->adapter);
        }
    }
    int rc = forward(r, n);
    if (!rc)
        rc = backward(r, n);
    if (rc)
        return rc;
    double nll = 0, tokens = (double)c->batch * r->rows;
    for (uint32_t b = 0; b < c->batch; b++)
        nll += r->seqs[b].nll;
    if (job->losses)
        job->losses[s] = nll / tokens;
    for (uint32_t i = 0; i < n; i++) {
        if (isfinite(r->seqs[i].nll))
            continue;
        snprintf(err, err_cap, "the loss is not a finite number at step %u: lower --lr", s);
        return -EINVAL;
    }
    for (uint32_t i = 0; i <= n_swaps; i++) {
        struct lane *lane = &r->lanes[i];
        for (uint32_t l = 0; s >= lane->start && l < job->blocks; l++) {
            struct sl_block block = sl_adapter_block(lane->adapter, l);
            sl_proximal_add(lane->adapter, l, NULL, job->proximal, tokens, block.grad);
            sl_optim_apply(&c->optim, &lane->moments[l], block.data, block.grad, block.n, tokens, s + 1);
        }
    }
    return 0;
}

/* Both samples of every swap by A(S), then by each A(S^i). */
static int score(struct sl_replace *r, const struct sl_replace_job *job, struct sl_swap *swaps, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        const struct lane *lane = &r->lanes[i + 1];
        struct sl_adapter *own = lane->start < r->config.steps ? lane->adapter : r->lanes[0].adapter;
        for (uint32_t z = 0; z < 2; z++) {
            const uint32_t *window = z ? swaps[i].other : job->windows[swaps[i].place];
            r->seqs[2 * i + z] = seq_of(r, window, r->lanes[0].adapter);
            r->seqs[2 * (n + i) + z] = seq_of(r, window, own);
        }
    }
    int rc = n ? forward(r, 4 * n) : 0;
    for (uint32_t i = 0; i < n && !rc; i++) {
        for (uint32_t z = 0; z < 2; z++) {
            swaps[i].by_set[z] = r->seqs[2 * i + z].nll / r->rows;
            swaps[i].by_swap[z] = r->seqs[2 * (n + i) + z].nll / r->rows;
        }
    }
    return rc;
}

/* The step at which the place is first drawn. */
static uint32_t first_drawn(const struct sl_replace *r, const struct sl_replace_job *job, uint32_t place)
{
    for (uint32_t s = 0; s < r->config.steps; s++)
        for (uint32_t b = 0; b < r->config.batch; b++)
            if (job->order[(size_t)s * r->config.batch + b] == place)
                return s;
    return r->config.steps;
}

static int run_batch(struct sl_replace *r, const struct sl_replace_job *job, struct sl_swap *swaps,
    uint32_t n_swaps, char *err, size_t err_cap)
{
    int rc = 0;
    for (uint32_t i = 0; i <= n_swaps && !rc; i++) {
        rc = make_lane(r, job, &r->lanes[i]);
        if (i > 0 && !swaps[i - 1].from_start)
            r->lanes[i].start = first_drawn(r, job, swaps[i - 1].place);
    }
    for (uint32_t s = 0; s < r->config.steps && !rc; s++) {
        if (r->config.stop && r->config.stop())
            rc = -ECANCELED;
        else
            rc = step(r, job, swaps, n_swaps, s, err, err_cap);
    }
    if (!rc)
        rc = score(r, job, swaps, n_swaps);
    for (uint32_t i = 0; i <= n_swaps; i++)
        free_lane(&r->lanes[i], r->layers);
    return rc;
}

int sl_replace_run(struct sl_replace *r, const struct sl_replace_job *job, char *err, size_t err_cap)
{
    uint32_t done = 0;
    int rc;
    do {
        uint32_t left = job->n_swaps - done;
        uint32_t now = left < r->config.swaps ? left : r->config.swaps;
        rc = run_batch(r, job, job->swaps + done, now, err, err_cap);
        done += now;
    } while (!rc && done < job->n_swaps);
    return rc;
}

double sl_swap_difference(const struct sl_swap *s)
{
    return (fabs(s->by_set[0] - s->by_swap[0]) + fabs(s->by_set[1] - s->by_swap[1])) / 2;
}
