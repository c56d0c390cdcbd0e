#include "device-sim/device/front_internal.h"

#include "dataplane/wire/frame.h"
#include "dataplane/wire/packet.h"
#include "trainer/tensor/rows.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(
    SL_SEQS_MAX == sizeof(((struct sl_front_batch *)0)->window) / sizeof(uint32_t *), "one per sequence");

static const float absurd_factor = 1e6f;

static int make_moments(struct sl_front *f)
{
    f->moments = calloc(f->cfg.cut, sizeof(*f->moments));
    if (!f->moments)
        return -ENOMEM;
    for (uint32_t l = 0; l < f->cfg.cut && !f->cfg.gradients; l++) {
        int rc = sl_moments_create(&f->cfg.optim, f->block_floats, &f->moments[l]);
        if (rc)
            return rc;
    }
    return 0;
}

static int make_halves(struct sl_front *f)
{
    uint32_t rows = f->cfg.seq - 1;
    struct sl_half_config train = {
        .last = f->cfg.cut, .max_rows = f->cfg.train_windows * rows, .max_seqs = f->cfg.train_windows};
    struct sl_half_config eval = {.last = f->cfg.cut,
        .max_rows = f->cfg.eval_windows * rows,
        .max_seqs = f->cfg.eval_windows,
        .inference = true};
    int rc = sl_half_create(f->cfg.model, f->adapter, &train, &f->train);

    return rc ? rc : sl_half_create(f->cfg.model, f->adapter, &eval, &f->eval);
}

int sl_front_create(const struct sl_front_config *cfg, struct sl_front **out)
{
    const struct sl_model_config *shape = sl_model_config(cfg->model);

    if (cfg->cut == 0 || cfg->cut >= shape->n_layers || cfg->seq < 2 || cfg->train_windows == 0 ||
        cfg->train_windows > SL_SEQS_MAX || cfg->eval_windows == 0 || cfg->eval_windows > SL_SEQS_MAX)
        return -EINVAL;
    struct sl_front *f = calloc(1, sizeof(*f) + (cfg->common ? 0 : SL_SEQS_MAX * sizeof(f->seq[0])));
    if (!f)
        return -ENOMEM;
    f->cfg = *cfg;
    f->d_model = shape->d_model;
    f->block_floats = sl_adapter_block_size(shape, &cfg->lora);
    if (cfg->common && f->block_floats) {
        *out = f;
        return 0;
    }
    int rc = sl_adapter_create(shape, &cfg->lora, 0, cfg->cut, &f->adapter);
    if (!rc)
        rc = make_moments(f);
    if (!rc)
        rc = sl_front_create_sums(f);
    f->offered = calloc(shape->n_layers, sizeof(*f->offered));
    if (!rc && !f->offered)
        rc = -ENOMEM;
    if (!rc)
        rc = make_halves(f);
    if (rc) {
        sl_front_free(f);
        return rc;
    }
    *out = f;
    return 0;
}

void sl_front_free(struct sl_front *f)
{
    if (!f)
        return;
    sl_half_free(f->train);
    sl_half_free(f->eval);
    for (uint32_t l = 0; f->moments && l < f->cfg.cut; l++)
        sl_moments_free(&f->moments[l]);
    free(f->moments);
    free(f->sum);
    free(f->anchor);
    sl_front_free_snapshots(f);
    sl_front_drop_offers(f);
    free(f->offered);
    if (f->adapter)
        sl_adapter_free(f->adapter);
    free(f);
}

size_t sl_front_workspace_floats(const struct sl_front *f)
{
    uint32_t windows =
        f->cfg.train_windows > f->cfg.eval_windows ? f->cfg.train_windows : f->cfg.eval_windows;

    return (size_t)windows * (f->cfg.seq - 1) * f->d_model;
}

static void spoil(enum sl_fault fault, float *x, size_t n)
{
    if (fault == SL_FAULT_NAN)
        x[n / 2] = NAN;
    for (size_t i = 0; fault == SL_FAULT_ABSURD && i < n; i++)
        x[i] *= absurd_factor;
}

/* Tensor, zeros to its last unit, target ids, zeros to theirs. */
static void write_message(const struct sl_front *f, const struct sl_front_batch *b, enum sl_codec codec,
    const struct sl_grid *g, const float *x, uint8_t *message)
{
    uint32_t rows = f->cfg.seq - 1;
    size_t n = (size_t)g->rows * f->d_model, tensor = (size_t)g->tensor_units * SL_UNIT_BYTES;
    uint8_t *targets = message + tensor;

    memset(targets - SL_UNIT_BYTES, 0, SL_UNIT_BYTES);
    sl_codec_encode(codec, x, message, n);
    memset(targets, 0, (size_t)g->target_units * SL_UNIT_BYTES);
    for (uint32_t i = 0; i < b->n; i++)
        memcpy(targets + (size_t)i * rows * 4, b->window[i] + 1, (size_t)rows * 4);
}

int sl_front_forward(struct sl_front *f, const struct sl_front_batch *b, enum sl_codec codec,
    const struct sl_grid *g, enum sl_fault fault, float *workspace, uint8_t *message)
{
    uint32_t rows = f->cfg.seq - 1;

    if (f->cfg.common || b->n == 0 || b->n > (b->eval ? f->cfg.eval_windows : f->cfg.train_windows) ||
        g->rows != b->n * rows)
        return -EINVAL;
    for (uint32_t i = 0; i < b->n; i++)
        f->seq[i] = (struct sl_seq){.len = rows, .ids = b->window[i]};
    f->n_seqs = b->n;
    int rc = sl_half_forward(b->eval ? f->eval : f->train, f->seq, f->n_seqs, workspace);
    if (rc)
        return rc;
    spoil(fault, workspace, (size_t)g->rows * f->d_model);
    write_message(f, b, codec, g, workspace, message);
    return 0;
}

int sl_front_backward(struct sl_front *f, enum sl_codec codec, const uint8_t *gradient,
    const struct sl_front_step *step, float *workspace)
{
    uint32_t rows = f->n_seqs * (f->cfg.seq - 1);
    size_t n = (size_t)rows * f->d_model;

    if (f->cfg.common || rows == 0)
        return -EINVAL;
    sl_codec_decode(codec, gradient, workspace, n);
    if (!sl_all_finite(workspace, n))
        return -EDOM;
    sl_adapter_zero_grads(f->adapter);
    int rc = sl_half_backward(f->train, f->seq, f->n_seqs, workspace);
    if (rc)
        return rc;
    for (uint32_t l = 0; l < f->cfg.cut; l++) {
        struct sl_block b = sl_adapter_block(f->adapter, l);
        if (!sl_all_finite(b.grad, b.n))
            return -EDOM;
    }
    sl_front_learn(f, rows, step);
    return 0;
}

size_t sl_front_floats(const struct sl_front *f)
{
    return f->block_floats * f->cfg.cut;
}

void sl_front_get(struct sl_front *f, float *out)
{
    if (f->cfg.common) {
        if (out != f->cfg.common->g)
            memcpy(out, f->cfg.common->g, sl_front_floats(f) * sizeof(float));
        return;
    }
    for (uint32_t l = 0; l < f->cfg.cut; l++)
        memcpy(
            out + l * f->block_floats, sl_adapter_block(f->adapter, l).data, f->block_floats * sizeof(float));
}

void sl_front_set(struct sl_front *f, const float *in)
{
    if (f->cfg.common) {
        if (in != f->cfg.common->g)
            memcpy(f->cfg.common->g, in, sl_front_floats(f) * sizeof(float));
        return;
    }
    if (f->anchor)
        memcpy(f->anchor, in, f->block_floats * f->cfg.cut * sizeof(float));
    for (uint32_t l = 0; l < f->cfg.cut; l++)
        memcpy(
            sl_adapter_block(f->adapter, l).data, in + l * f->block_floats, f->block_floats * sizeof(float));
}

void sl_front_set_fresh(struct sl_front *f, const float *in)
{
    for (uint32_t l = 0; !f->cfg.common && l < f->cfg.cut; l++) {
        const float *own = sl_adapter_block(f->adapter, l).data;
        if (memcmp(own, in + l * f->block_floats, f->block_floats * sizeof(float)))
            sl_moments_reset(&f->moments[l], f->block_floats);
    }
    sl_front_set(f, in);
}

void sl_front_fresh_moments(struct sl_front *f)
{
    for (uint32_t l = 0; !f->cfg.common && l < f->cfg.cut; l++)
        sl_moments_reset(&f->moments[l], f->block_floats);
}
