#include "trainer/pipeline/batch.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct sl_batch {
    struct sl_batch_config config;
    struct sl_half *half;
    uint32_t n_layers, d_model, vocab, max_positions, max_seqs;
    uint32_t n_members, n_live, n_seqs, rows;
    struct sl_batch_member *members; /* [max_members] */
    struct sl_seq *seqs;             /* [max_seqs] */
    float *scratch;                  /* [max_rows, d_model]; NULL under codec f32 */
    float *sorted;                   /* [max_rows]: for medians */
    float *medians, *medians_sorted; /* [max_members] */
    bool finite;                     /* all gradients that have left in this backward pass */
    float usual;                     /* median of the last batch that passed; 0: none yet */
};

static void leave_rows(void *app, struct sl_seq *seqs, uint32_t n);

static int allocate(struct sl_batch *b)
{
    size_t rows = b->config.max_rows, members = b->config.max_members;
    b->members = calloc(members, sizeof *b->members);
    b->seqs = calloc(b->max_seqs, sizeof *b->seqs);
    b->sorted = malloc(rows * sizeof *b->sorted);
    b->medians = malloc(2 * members * sizeof *b->medians);
    if (b->config.codec != SL_CODEC_F32)
        b->scratch = malloc(rows * b->d_model * sizeof *b->scratch);
    if (!b->members || !b->seqs || !b->sorted || !b->medians ||
        (b->config.codec != SL_CODEC_F32 && !b->scratch))
        return -ENOMEM;
    b->medians_sorted = b->medians + members;
    struct sl_half_config half = {.first = b->config.first,
        .last = b->n_layers,
        .max_rows = b->config.max_rows,
        .max_seqs = b->max_seqs,
        .inference = b->config.inference,
        .leave = leave_rows,
        .app = b};
    return sl_half_create(b->config.model, b->config.adapter, &half, &b->half);
}

int sl_batch_create(const struct sl_batch_config *config, struct sl_batch **out)
{
    *out = NULL;
    const struct sl_model_config *m = sl_model_config(config->model);
    if (config->first < 1 || config->first >= m->n_layers || !config->max_rows || !config->max_members)
        return -EINVAL;
    struct sl_batch *b = calloc(1, sizeof *b);
    if (!b)
        return -ENOMEM;
    b->config = *config;
    b->n_layers = m->n_layers;
    b->d_model = m->d_model;
    b->vocab = m->vocab;
    b->max_positions = m->max_positions;
    uint64_t seqs = (uint64_t)config->max_members * SL_SEQS_MAX;
    b->max_seqs = seqs < config->max_rows ? (uint32_t)seqs : config->max_rows;
    int err = allocate(b);
    if (err) {
        sl_batch_free(b);
        return err;
    }
    *out = b;
    return 0;
}

void sl_batch_free(struct sl_batch *b)
{
    if (!b)
        return;
    sl_half_free(b->half);
    free(b->members);
    free(b->seqs);
    free(b->scratch);
    free(b->sorted);
    free(b->medians);
    free(b);
}

void sl_batch_clear(struct sl_batch *b)
{
    b->n_members = b->n_live = b->n_seqs = b->rows = 0;
}

static const char *check_message(const struct sl_batch *b, const struct sl_slot *slot, uint32_t cut)
{
    const struct sl_request *r = &slot->request;
    uint64_t rows = 0;
    if (cut < b->config.first || cut >= b->n_layers)
        return "its cut is outside of what this edge node computes";
    if (!r->n_seqs || r->n_seqs > SL_SEQS_MAX)
        return "no sequences, or too many";
    for (uint32_t i = 0; i < r->n_seqs; i++) {
        if (!r->len[i] || r->len[i] > b->max_positions)
            return "a sequence of no rows, or of more than the model has positions";
        rows += r->len[i];
    }
    if (rows != slot->grid.rows)
        return "its sequences do not add up to the rows granted";
    if (rows > b->config.max_rows || r->n_seqs > b->max_seqs)
        return "more rows than this edge node computes at a time";
    const uint32_t *targets = sl_slot_targets(slot);
    for (uint64_t i = 0; i < rows; i++)
        if (targets[i] >= b->vocab)
            return "a target token id is not below the vocabulary";
    return NULL;
}

int sl_batch_add(struct sl_batch *b, struct sl_slot *slot, uint32_t device, uint32_t cut, const char **why)
{
    *why = check_message(b, slot, cut);
    if (*why)
        return -EINVAL;
    if (b->n_members == b->config.max_members || slot->grid.rows > b->config.max_rows - b->rows ||
        slot->request.n_seqs > b->max_seqs - b->n_seqs)
        return -ENOSPC;
    b->members[b->n_members++] = (struct sl_batch_member){.slot = slot,
        .device = device,
        .cut = cut,
        .n_seqs = slot->request.n_seqs,
        .rows = slot->grid.rows,
        .step = slot->request.step};
    b->n_live = b->n_members;
    b->rows += slot->grid.rows;
    b->n_seqs += slot->request.n_seqs;
    return 0;
}

static int in_batch_order(const void *a, const void *b)
{
    const struct sl_batch_member *x = a, *y = b;
    if (!x->refused != !y->refused)
        return x->refused ? 1 : -1;
    if (x->cut != y->cut)
        return x->cut < y->cut ? -1 : 1;
    if (x->device != y->device)
        return x->device < y->device ? -1 : 1;
    return x->step < y->step ? -1 : x->step > y->step;
}

/* Sequences of a member, whose rows start at `x` (float [rows, d_model]). */
static void add_sequences(struct sl_batch *b, struct sl_batch_member *m, float *x)
{
    const uint32_t *targets = sl_slot_targets(m->slot);
    m->seq0 = b->n_seqs;
    for (uint32_t i = 0; i < m->n_seqs; i++) {
        uint32_t len = m->slot->request.len[i];
        b->seqs[b->n_seqs++] = (struct sl_seq){.len = len,
            .enter = m->cut,
            .x = x,
            .dx = b->config.inference ? NULL : x, /* the forward pass has copied x by then */
            .targets = targets};
        x += (size_t)len * b->d_model;
        targets += len;
    }
}

static void lay_out(struct sl_batch *b)
{
    qsort(b->members, b->n_members, sizeof *b->members, in_batch_order);
    b->n_live = b->n_seqs = b->rows = 0;
    for (uint32_t i = 0; i < b->n_members && !b->members[i].refused; i++) {
        struct sl_batch_member *m = &b->members[i];
        float *x = (float *)(void *)m->slot->data;
        if (b->scratch) {
            x = b->scratch + (size_t)b->rows * b->d_model;
            sl_codec_decode(
                sl_codec_stored(b->config.codec), m->slot->data, x, (uint64_t)m->rows * b->d_model);
        }
        add_sequences(b, m, x);
        b->rows += m->rows;
        b->n_live++;
    }
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static float median(float *values, uint32_t n)
{
    qsort(values, n, sizeof *values, by_value);
    return values[(n - 1) / 2];
}

/* A member's own rows: all finite, none beyond the bound times their median. Leaves the median. */
static const char *check_rows(struct sl_batch *b, const struct sl_batch_member *m, float *median_out)
{
    float *sorted = b->sorted;
    uint32_t n = 0;
    for (uint32_t s = m->seq0; s < m->seq0 + m->n_seqs; s++) {
        const float *meansq = sl_half_entry_meansq(b->half, s);
        for (uint32_t r = 0; r < b->seqs[s].len; r++) {
            if (!isfinite(meansq[r]))
                return "its activations are not finite";
            sorted[n++] = meansq[r];
        }
    }
    *median_out = median(sorted, n);
    if (sorted[n - 1] > SL_ROW_NORM_MAX * SL_ROW_NORM_MAX * (double)*median_out)
        return "a row of its activations is beyond 10000 times the median norm";
    return NULL;
}

/* Marks members whose content is refused; returns how many. A message that is absurd as a whole has an
 * ordinary median of its own, so it is also held against the median of the gang's messages, or, where there
 * are too few to say which is the absurd one, against the last batch's. */
static uint32_t check_content(struct sl_batch *b)
{
    uint32_t refused = 0, n = 0;
    for (uint32_t i = 0; i < b->n_live; i++) {
        struct sl_batch_member *m = &b->members[i];
        m->refused = check_rows(b, m, &b->medians[i]);
        if (m->refused)
            refused++;
        else
            b->medians_sorted[n++] = b->medians[i];
    }
    if (n == 0 || (n < 3 && !(b->usual > 0)))
        return refused;
    float usual = n < 3 ? b->usual : median(b->medians_sorted, n);
    double bound = SL_ROW_NORM_MAX * SL_ROW_NORM_MAX * (double)usual;
    for (uint32_t i = 0; i < b->n_live; i++) {
        struct sl_batch_member *m = &b->members[i];
        if (m->refused || b->medians[i] <= bound)
            continue;
        m->refused = "its activations are beyond 10000 times the norm of the others'";
        refused++;
    }
    return refused;
}

uint32_t sl_batch_forward(struct sl_batch *b)
{
    lay_out(b);
    while (b->n_live) {
        /* Everything that it can refuse was checked as the messages were added. */
        if (sl_half_forward(b->half, b->seqs, b->n_seqs, NULL))
            return 0;
        if (!check_content(b))
            break;
        lay_out(b);
    }
    if (b->n_live) {
        memcpy(b->medians_sorted, b->medians, b->n_live * sizeof *b->medians);
        b->usual = median(b->medians_sorted, b->n_live);
    }
    for (uint32_t i = 0; i < b->n_live; i++) {
        struct sl_batch_member *m = &b->members[i];
        m->nll = 0;
        for (uint32_t s = m->seq0; s < m->seq0 + m->n_seqs; s++)
            m->nll += b->seqs[s].nll;
    }
    return b->n_live;
}

/* x - x is 0 for a finite x and NaN otherwise: a sum that vectorises. */
static bool all_finite(const float *x, size_t n)
{
    float sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] - x[i];
    return sum == 0;
}

static bool gradients_are_finite(const struct sl_batch *b)
{
    for (uint32_t l = b->config.first; l < b->n_layers; l++) {
        struct sl_block block = sl_adapter_block(b->config.adapter, l);
        if (!all_finite(block.grad, block.n))
            return false;
    }
    return true;
}

/* Each member's gradient is checked by itself before it leaves (rules T15). A member's rows lie together. */
static void leave_member(struct sl_batch *b, struct sl_batch_member *m)
{
    const float *dx = b->seqs[m->seq0].dx;
    size_t n = (size_t)m->rows * b->d_model;
    bool finite = all_finite(dx, n);
    if (finite && b->scratch)
        sl_codec_encode(b->config.codec, dx, m->slot->data, n);
    b->finite = b->finite && finite;
    m->left = true;
    if (b->config.leave)
        b->config.leave(b->config.app, m, finite);
}

static void leave_rows(void *app, struct sl_seq *seqs, uint32_t n)
{
    struct sl_batch *b = app;
    uint32_t first = (uint32_t)(seqs - b->seqs);
    for (uint32_t i = 0; i < b->n_live; i++)
        if (b->members[i].seq0 >= first && b->members[i].seq0 < first + n)
            leave_member(b, &b->members[i]);
}

int sl_batch_backward(struct sl_batch *b)
{
    if (!isfinite(sl_batch_nll(b)))
        return -EDOM;
    b->finite = true;
    sl_adapter_zero_grads(b->config.adapter);
    int err = sl_half_backward(b->half, b->seqs, b->n_seqs, NULL);
    if (err)
        return err;
    return b->finite && gradients_are_finite(b) ? 0 : -EDOM;
}

uint32_t sl_batch_members(const struct sl_batch *b)
{
    return b->n_members;
}

const struct sl_batch_member *sl_batch_member(const struct sl_batch *b, uint32_t i)
{
    return &b->members[i];
}

const struct sl_seq *sl_batch_seqs(const struct sl_batch *b)
{
    return b->seqs;
}

uint64_t sl_batch_tokens_at(const struct sl_batch *b, uint32_t layer)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < b->n_live && b->members[i].cut <= layer; i++)
        n += b->members[i].rows;
    return n;
}

uint64_t sl_batch_tokens(const struct sl_batch *b)
{
    return b->rows;
}

double sl_batch_nll(const struct sl_batch *b)
{
    double nll = 0;
    for (uint32_t s = 0; s < b->n_seqs; s++)
        nll += b->seqs[s].nll;
    return nll;
}

uint64_t sl_batch_gemms(const struct sl_batch *b)
{
    return sl_half_gemm_count(b->half);
}
