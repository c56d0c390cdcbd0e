#include "trainer/pipeline/batch.h"

#include "trainer/pipeline/modelled.h"
#include "trainer/tensor/rows.h"

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
    float *scratch; /* [max_rows, d_model]: gradients to be coded; NULL where there are none */
    float *sorted;  /* [max_rows]: for medians */
    float *medians, *medians_sorted; /* [max_members] */
    uint64_t pass_from_ns;           /* pace: when this backward pass began */
    bool finite;                     /* all gradients that have left in this backward pass */
    float usual;                     /* median of the last batch that passed; 0: none yet */
};

static void leave_rows(void *app, struct sl_seq *seqs, uint32_t n);

/* Does a gradient of this codec differ from what the half writes? */
static bool is_coded(enum sl_codec codec)
{
    return codec != SL_CODEC_F32 && codec != SL_CODEC_BF16;
}

static int allocate(struct sl_batch *b)
{
    bool coded = is_coded(b->config.codec) && !b->config.inference && !b->config.modelled;
    size_t rows = b->config.max_rows, members = b->config.max_members;
    b->members = calloc(members, sizeof *b->members);
    b->seqs = calloc(b->max_seqs, sizeof *b->seqs);
    b->sorted = malloc(rows * sizeof *b->sorted);
    b->medians = malloc(2 * members * sizeof *b->medians);
    if (coded)
        b->scratch = malloc(rows * b->d_model * sizeof *b->scratch);
    if (!b->members || !b->seqs || !b->sorted || !b->medians || (coded && !b->scratch))
        return -ENOMEM;
    b->medians_sorted = b->medians + members;
    if (b->config.modelled)
        return 0;
    struct sl_half_config half = {.first = b->config.first,
        .last = b->n_layers,
        .max_rows = b->config.max_rows,
        .max_seqs = b->max_seqs,
        .max_adapters = b->config.max_members,
        .inference = b->config.inference,
        .recompute = b->config.recompute,
        .profile = b->config.profile,
        .lora = b->config.lora,
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
    if (b->half)
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
    return sl_batch_add_personal(b, slot, device, cut, NULL, why);
}

int sl_batch_add_personal(struct sl_batch *b, struct sl_slot *slot, uint32_t device, uint32_t cut,
    struct sl_adapter *adapter, const char **why)
{
    *why = check_message(b, slot, cut);
    if (*why)
        return -EINVAL;
    if (b->n_members == b->config.max_members || slot->grid.rows > b->config.max_rows - b->rows ||
        slot->request.n_seqs > b->max_seqs - b->n_seqs)
        return -ENOSPC;
    b->members[b->n_members++] = (struct sl_batch_member){.slot = slot,
        .adapter = adapter,
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

/* Sequences of a member, whose rows are in its slot. Their gradient goes where they are, which the half has
 * read by then; one that has to be coded goes to the scratch, at the member's rows of the batch. */
static void add_sequences(struct sl_batch *b, struct sl_batch_member *m)
{
    bool f32 = b->config.codec == SL_CODEC_F32, train = !b->config.inference;
    const uint32_t *targets = sl_slot_targets(m->slot);
    float *x = (float *)(void *)m->slot->data;
    sl_bf16 *half_x = (sl_bf16 *)(void *)m->slot->data;
    float *coded = b->scratch ? b->scratch + (size_t)b->rows * b->d_model : NULL;
    size_t at = 0;
    m->seq0 = b->n_seqs;
    for (uint32_t i = 0; i < m->n_seqs; i++) {
        uint32_t len = m->slot->request.len[i];
        struct sl_seq *s = &b->seqs[b->n_seqs++];
        *s = (struct sl_seq){.len = len, .enter = m->cut, .targets = targets, .adapter = m->adapter};
        if (f32)
            s->x = x + at;
        else
            s->x_bf16 = half_x + at;
        if (train && f32)
            s->dx = x + at;
        else if (train && coded)
            s->dx = coded + at;
        else if (train)
            s->dx_bf16 = half_x + at;
        at += (size_t)len * b->d_model;
        targets += len;
    }
}

static void lay_out(struct sl_batch *b)
{
    qsort(b->members, b->n_members, sizeof *b->members, in_batch_order);
    b->n_live = b->n_seqs = b->rows = 0;
    for (uint32_t i = 0; i < b->n_members && !b->members[i].refused; i++) {
        struct sl_batch_member *m = &b->members[i];
        add_sequences(b, m);
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

static uint32_t modelled_forward(struct sl_batch *b)
{
    lay_out(b);
    sl_modelled_pass(b->config.modelled, b->seqs, b->n_seqs, false);
    for (uint32_t i = 0; i < b->n_live; i++)
        b->members[i].nll = 0;
    return b->n_live;
}

uint32_t sl_batch_forward(struct sl_batch *b)
{
    if (b->config.modelled)
        return modelled_forward(b);
    lay_out(b);
    uint64_t from = b->config.pace ? sl_modelled_now() : 0;
    while (b->n_live) {
        /* Everything that it can refuse was checked as the messages were added. */
        if (sl_half_forward(b->half, b->seqs, b->n_seqs, NULL))
            return 0;
        if (!check_content(b))
            break;
        lay_out(b);
    }
    if (b->config.pace)
        sl_modelled_catch_up(b->config.pace, b->seqs, b->n_seqs, false, 0, from);
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

/* A bf16 is infinite or NaN where all bits of its exponent are set. */
static bool all_finite_bf16(const sl_bf16 *x, size_t n)
{
    const sl_bf16 exponent = 0x7F80;
    uint16_t found = 0;
    for (size_t i = 0; i < n; i++)
        found |= (x[i] & exponent) == exponent;
    return !found;
}

static bool adapter_is_finite(struct sl_adapter *a, uint32_t first)
{
    for (uint32_t l = sl_adapter_first(a) > first ? sl_adapter_first(a) : first; l < sl_adapter_last(a);
         l++) {
        struct sl_block block = sl_adapter_block(a, l);
        if (!sl_all_finite(block.grad, block.n))
            return false;
    }
    return true;
}

static bool gradients_are_finite(const struct sl_batch *b)
{
    if (b->config.adapter && !adapter_is_finite(b->config.adapter, b->config.first))
        return false;
    for (uint32_t i = 0; i < b->n_live; i++)
        if (b->members[i].adapter && !adapter_is_finite(b->members[i].adapter, b->members[i].cut))
            return false;
    return true;
}

/* Each member's gradient is checked by itself before it leaves (rules T15). A member's rows lie together. */
static void leave_member(struct sl_batch *b, struct sl_batch_member *m)
{
    const struct sl_seq *seq = &b->seqs[m->seq0];
    size_t n = (size_t)m->rows * b->d_model;
    bool finite =
        isfinite(m->nll) && (seq->dx ? sl_all_finite(seq->dx, n) : all_finite_bf16(seq->dx_bf16, n));
    if (finite && b->scratch)
        sl_codec_encode(b->config.codec, seq->dx, m->slot->data, n);
    b->finite = b->finite && finite;
    m->left = true;
    if (b->config.leave)
        b->config.leave(b->config.app, m, finite);
}

static void leave_rows(void *app, struct sl_seq *seqs, uint32_t n)
{
    struct sl_batch *b = app;
    uint32_t first = (uint32_t)(seqs - b->seqs);
    if (b->config.pace)
        sl_modelled_catch_up(b->config.pace, b->seqs, b->n_seqs, true, seqs->enter, b->pass_from_ns);
    for (uint32_t i = 0; i < b->n_live; i++)
        if (b->members[i].seq0 >= first && b->members[i].seq0 < first + n)
            leave_member(b, &b->members[i]);
}

/* All leave when the pass is over: which of them a real one would let go first is not modelled. */
static void modelled_backward(struct sl_batch *b)
{
    sl_modelled_pass(b->config.modelled, b->seqs, b->n_seqs, true);
    for (uint32_t i = 0; i < b->n_live; i++) {
        struct sl_batch_member *m = &b->members[i];
        sl_modelled_gradient(b->config.codec, m->slot->data, m->slot->grid.tensor_units);
        m->left = true;
        if (b->config.leave)
            b->config.leave(b->config.app, m, true);
    }
}

int sl_batch_backward(struct sl_batch *b)
{
    if (!isfinite(sl_batch_nll(b)))
        return -EDOM;
    b->finite = true;
    if (b->config.adapter)
        sl_adapter_zero_grads(b->config.adapter);
    for (uint32_t i = 0; i < b->n_live; i++)
        if (b->members[i].adapter)
            sl_adapter_zero_grads(b->members[i].adapter);
    if (b->config.modelled) {
        modelled_backward(b);
        return 0;
    }
    b->pass_from_ns = b->config.pace ? sl_modelled_now() : 0;
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
    for (uint32_t i = 0; i < b->n_live; i++) {
        const struct sl_batch_member *m = &b->members[i];
        if (m->adapter && !isfinite(m->nll))
            continue; /* its own affair */
        for (uint32_t s = m->seq0; s < m->seq0 + m->n_seqs; s++)
            nll += b->seqs[s].nll;
    }
    return nll;
}

uint64_t sl_batch_gemms(const struct sl_batch *b)
{
    return b->half ? sl_half_gemm_count(b->half) : 0;
}
