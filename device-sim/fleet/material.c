#include "device-sim/fleet/material.h"

#include "device-sim/fleet/id_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SHARD_MIN_BYTES = 60000 /* rules L11 */ };

static struct sl_cost_shape cost_shape(const struct sl_model_config *c)
{
    return (struct sl_cost_shape){.d_model = c->d_model,
        .n_heads = c->n_heads,
        .n_kv_heads = c->n_kv_heads,
        .head_dim = c->head_dim,
        .d_ff = c->d_ff,
        .vocab = c->vocab,
        .gated_mlp = c->family == SL_FAMILY_LLAMA};
}

/* Which blocks are needed may depend on how many there are. */
static int settle_cuts(struct sl_material *m, char *err, size_t err_cap)
{
    struct sl_model *shape;

    if (!m->experiment->plan.live && !m->experiment->plan.random)
        return 0;
    int rc = sl_model_load_blocks(m->experiment->model.path, 1, 1, &shape, err, err_cap);
    if (rc)
        return rc;
    rc = sl_experiment_settle_cuts(m->experiment, sl_model_config(shape)->n_layers, err, err_cap);
    sl_model_free(shape);
    return rc;
}

static int load_model(struct sl_material *m, char *err, size_t err_cap)
{
    const char *dir = m->experiment->model.path;
    enum sl_precision wanted =
        strcmp(m->experiment->model.precision, "bf16") == 0 ? SL_PRECISION_BF16 : SL_PRECISION_F32;
    uint32_t lowest, highest;
    int rc = settle_cuts(m, err, err_cap);
    if (rc)
        return rc;
    sl_experiment_cuts(m->experiment, &lowest, &highest);
    bool hollow = m->experiment->sim.replay;
    rc = hollow ? sl_model_load_blocks(dir, 1, 1, &m->model, err, err_cap) /* no block's weights */
                : sl_model_load_packed(dir, 0, highest, wanted, &m->model, err, err_cap);

    m->precision = "none: replay";
    if (!rc && !hollow)
        m->precision = sl_precision_told(wanted, sl_model_precision(m->model));
    if (!rc)
        rc = sl_model_hash(dir, m->model_hash, err, err_cap);
    if (rc)
        return rc;
    const struct sl_model_config *shape = sl_model_config(m->model);
    m->shape = cost_shape(shape);
    for (uint32_t i = 0; i < m->experiment->n_classes; i++) {
        const struct sl_class_config *c = &m->experiment->fleet[i];
        if (c->seq - 1 > shape->max_positions) {
            snprintf(err, err_cap,
                "windows of class %s have %u tokens, but the model has %u positions; lower data.seq", c->name,
                c->seq, shape->max_positions);
            return -EINVAL;
        }
        uint32_t cut = c->cut, k = 0;
        while (cut >= 1 && cut < shape->n_layers && k < m->experiment->n_changes)
            cut = m->experiment->changes[k++].cut[i];
        if (cut >= 1 && cut < shape->n_layers)
            continue;
        snprintf(err, err_cap, "plan.%s %u for class %s, but the model has %u blocks; give 1 to %u",
            k ? "changes: the cut is" : "cut is", cut, c->name, shape->n_layers, shape->n_layers - 1);
        return -EINVAL;
    }
    return 0;
}

static int load_tokenizer(const struct sl_material *m, struct sl_tokenizer **tok, char *err, size_t err_cap)
{
    char path[SL_PATH_BYTES + 32];
    int rc;

    snprintf(path, sizeof(path), "%s/tokenizer.json", m->experiment->model.path);
    rc = sl_tokenizer_load(path, tok, err, err_cap);
    if (rc)
        return rc;
    if (sl_tokenizer_vocab(*tok) > sl_model_config(m->model)->vocab) {
        snprintf(err, err_cap,
            "%s has ids up to %u, but the model's vocabulary ends at %u; take the model's own tokenizer",
            path, sl_tokenizer_vocab(*tok) - 1, sl_model_config(m->model)->vocab - 1);
        return -EINVAL;
    }
    return 0;
}

static int make_shards(struct sl_material *m, const struct sl_tokenizer *tok, char *err, size_t err_cap)
{
    struct sl_records records = {0};
    char excluded[SL_PATH_BYTES + 32];
    const struct sl_experiment *e = m->experiment;
    struct sl_shard_config cfg = {.held_out = e->data.held_out,
        .min_bytes = SHARD_MIN_BYTES,
        .dirichlet = strcmp(e->data.shards, "dirichlet") == 0,
        .alpha = e->data.dirichlet.alpha,
        .by_label = strcmp(e->data.dirichlet.by, "label") == 0,
        .size_sigma = e->data.dirichlet.size_sigma,
        .seed = e->seed};
    int rc;

    snprintf(excluded, sizeof(excluded), "%s/heldout-excluded.txt", m->experiment->model.path);
    if (access(excluded, F_OK) == 0)
        cfg.excluded = excluded;
    rc = sl_records_read(m->experiment->data.path, &records, err, err_cap);
    if (!rc)
        rc = sl_shards_make(&records, tok, sl_model_config(m->model)->eos_id, m->experiment->n_devices, &cfg,
            &m->shards, err, err_cap);
    sl_records_free(&records);
    return rc;
}

uint32_t sl_material_seq(const struct sl_material *m, uint32_t phone)
{
    return m->experiment->fleet[sl_experiment_class_of(m->experiment, phone)].seq;
}

/* Every phone gets an equal share of the held-out windows; what some do not have, others may use. */
static int share_held_out(struct sl_material *m, char *err, size_t err_cap)
{
    uint32_t n = m->experiment->n_devices, left = m->experiment->data.held_out_windows;
    bool moved = true;

    m->held_out_windows = calloc(n, sizeof(uint32_t));
    if (!m->held_out_windows) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    while (left && moved) {
        moved = false;
        for (uint32_t i = 0; i < n && left; i++) {
            if (m->held_out_windows[i] == sl_windows(&m->shards[i].held_out, sl_material_seq(m, i)))
                continue;
            m->held_out_windows[i]++;
            left--;
            moved = true;
        }
    }
    for (uint32_t i = 0; i < n; i++) {
        if (sl_windows(&m->shards[i].train, sl_material_seq(m, i)))
            continue;
        snprintf(err, err_cap,
            "phone %u has no full window of %u tokens; give it more text or lower data.seq", i,
            sl_material_seq(m, i));
        return -EINVAL;
    }
    return 0;
}

struct sl_front_config sl_material_front(
    const struct sl_material *m, const struct sl_class_config *c, uint32_t cut)
{
    const struct sl_experiment *e = m->experiment;
    struct sl_front_config cfg = {.model = m->model,
        .lora = {.rank = c->rank,
            .alpha = (float)e->training.lora.alpha,
            .freeze_a = e->training.lora.freeze_a,
            .seed = e->seed},
        .optim = {.kind = strcmp(e->training.optimizer.kind, "sgd") == 0 ? SL_SGD : SL_ADAMW,
            .beta1 = 0.9f,
            .beta2 = 0.999f,
            .eps = 1e-8f},
        .cut = cut,
        .seq = c->seq,
        .train_windows = e->training.batch,
        .eval_windows = 1,
        .gradients = strcmp(e->training.aggregation, "gradients") == 0};

    for (uint32_t i = 0; i < e->training.lora.n_targets; i++)
        cfg.lora.targets |= sl_target_bits(sl_model_config(m->model)->family, e->training.lora.targets[i]);
    return cfg;
}

/* A phone trains only what it can hold: at every cut that the file gives its class. */
static int check_memory(const struct sl_material *m, char *err, size_t err_cap)
{
    for (uint32_t i = 0; i < m->experiment->n_classes; i++) {
        const struct sl_class_config *c = &m->experiment->fleet[i];
        uint32_t cut = c->cut;
        if (m->experiment->plan.live ||
            m->experiment->plan.random) /* the edge gives no more than they hold */
            cut = m->experiment->plan.min_cut[i];
        for (uint32_t k = 0; k < m->experiment->n_changes; k++)
            cut = m->experiment->changes[k].cut[i] > cut ? m->experiment->changes[k].cut[i] : cut;
        struct sl_front_config front = sl_material_front(m, c, cut);
        size_t mib = (sl_front_memory(&front) + (1 << 20) - 1) >> 20;
        if (mib <= c->memory_mib)
            continue;
        snprintf(err, err_cap,
            "class %s: a front half of %u blocks takes %zu MiB, and its phones have %u (memory_mib); lower "
            "its "
            "cut, data.seq or training.batch",
            c->name, cut, mib, c->memory_mib);
        return -EINVAL;
    }
    return 0;
}

int sl_material_load(const char *experiment_file, struct sl_material *m, char *err, size_t err_cap)
{
    struct sl_tokenizer *tok = NULL;

    memset(m, 0, sizeof(*m));
    m->experiment = calloc(1, sizeof(*m->experiment));
    if (!m->experiment) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    int rc = sl_experiment_load(experiment_file, m->experiment, err, err_cap);
    if (!rc && sl_codec_parse(m->experiment->edge.data.codec, &m->codec)) {
        snprintf(err, err_cap, "edge.data.codec: %s is not known; give " SL_CODEC_NAMES,
            m->experiment->edge.data.codec);
        rc = -EINVAL;
    }
    if (!rc)
        rc = load_model(m, err, err_cap);
    if (m->experiment->sim.replay)
        return rc ? rc : sl_material_make_replay(m, err, err_cap);
    if (!rc)
        rc = check_memory(m, err, err_cap);
    if (!rc)
        rc = load_tokenizer(m, &tok, err, err_cap);
    if (!rc)
        rc = make_shards(m, tok, err, err_cap);
    if (!rc)
        rc = share_held_out(m, err, err_cap);
    sl_tokenizer_free(tok);
    return rc;
}

void sl_material_free(struct sl_material *m)
{
    if (m->shards)
        sl_shards_free(m->shards, m->experiment->n_devices);
    sl_model_free(m->model);
    free(m->held_out_windows);
    sl_replay_free(m->replay);
    free(m->common.g);
    free(m->experiment);
    memset(m, 0, sizeof(*m));
}

int sl_material_write_held_out(const struct sl_material *m, const char *run_dir, char *err, size_t err_cap)
{
    struct sl_id_file f;
    int rc = sl_id_file_open(&f, run_dir, "heldout.ids", err, err_cap);

    if (rc)
        return rc;
    for (uint32_t i = 0; i < m->experiment->n_devices; i++)
        sl_id_file_line(
            &f, m->shards[i].held_out.ids, (size_t)m->held_out_windows[i] * sl_material_seq(m, i));
    return sl_id_file_close(&f, err, err_cap);
}

double sl_material_pass_flop(
    const struct sl_material *m, const uint16_t *len, uint32_t n_seqs, uint32_t cut, bool backward)
{
    uint32_t lens[SL_SEQS_MAX];

    for (uint32_t i = 0; i < n_seqs; i++)
        lens[i] = len[i];
    double flop = backward ? sl_cost_block_backward(&m->shape, lens, n_seqs)
                           : sl_cost_block_forward(&m->shape, lens, n_seqs);
    return cut * flop;
}

void sl_material_sizes(const struct sl_material *m, size_t *message_bytes, size_t *gradient_bytes)
{
    uint32_t batch = m->experiment->training.batch, rows = 1;
    uint32_t windows = batch > SL_PHONE_EVAL_WINDOWS ? batch : SL_PHONE_EVAL_WINDOWS;
    struct sl_grid g;

    for (uint32_t i = 0; i < m->experiment->n_classes; i++)
        rows = m->experiment->fleet[i].seq - 1 > rows ? m->experiment->fleet[i].seq - 1 : rows;
    sl_grid_make(&g, windows * rows, m->shape.d_model, m->codec, 1, 1);
    *message_bytes = (size_t)g.n_units * SL_UNIT_BYTES;
    sl_grid_make(&g, batch * rows, m->shape.d_model, m->codec, 0, 1);
    *gradient_bytes = (size_t)g.tensor_units * SL_UNIT_BYTES;
}
