/* Shards by a Dirichlet distribution over files or labels: how much of each group a phone gets is drawn
 * (dirichlet.h), then records are cut up accordingly. */
#include "trainer/data/deal.h"

#include "trainer/data/dirichlet.h"
#include "trainer/tensor/rng.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TABLE_MAX = 1 << 24 }; /* phones times groups: 128 MiB of doubles */
/* Records are not cut, so a shard comes out near its size: the draw aims a little above the least one. */
static const double margin = 1.02;

/* A record in the order in which its group is cut up. */
struct card {
    uint64_t order;
    uint32_t record, group;
    bool held_out;
};

struct dealer {
    const struct sl_records *records;
    const struct sl_shard_config *cfg;
    uint64_t seed;
    uint32_t n_groups;
    struct card *card; /* [records->n], sorted: group, held out or not, order */
    double *bytes;     /* [n_groups] of training text */
    double *held_out;  /* [n_groups] */
    double *share;     /* [n_groups] of the training text */
    double total;
    uint32_t *phone_of_record;
    size_t *hands;
};

static int by_group(const void *a, const void *b)
{
    const struct card *x = a, *y = b;

    if (x->group != y->group)
        return x->group < y->group ? -1 : 1;
    if (x->held_out != y->held_out)
        return x->held_out ? 1 : -1;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->record < y->record ? -1 : x->record > y->record;
}

/* A record's place depends on what it says, not on where it stood. */
static uint64_t order_of(uint64_t key, const struct sl_record *rec)
{
    uint64_t head;

    memcpy(&head, rec->hash, sizeof(head));
    return sl_rng_mix(key ^ head);
}

static int check_labels(const struct sl_records *records, char *err, size_t err_cap)
{
    for (size_t i = 0; i < records->n; i++) {
        const struct sl_record *rec = &records->rec[i];
        const char *file = records->files[rec->file];
        if (rec->label >= 0)
            continue;
        if (rec->label == SL_LABEL_BEYOND)
            snprintf(err, err_cap, "%s:%u: more than %d different labels; give data.dirichlet.by: file", file,
                rec->line, SL_LABELS_MAX);
        else if (rec->line)
            snprintf(err, err_cap,
                "%s:%u: has no \"label\" (text or a number), which data.dirichlet.by: label needs", file,
                rec->line);
        else
            snprintf(err, err_cap,
                "%s:1: is no .jsonl file, so its records have no labels; give data.dirichlet.by: file", file);
        return -EINVAL;
    }
    return 0;
}

static int count_groups(struct dealer *d)
{
    const struct sl_records *records = d->records;
    uint64_t key = sl_rng_key(d->seed, "shards.order");

    d->n_groups = (uint32_t)(d->cfg->by_label ? records->n_labels : records->n_files);
    d->card = malloc((records->n + 1) * sizeof(*d->card));
    d->bytes = calloc(d->n_groups + 1, sizeof(double));
    d->held_out = calloc(d->n_groups + 1, sizeof(double));
    d->share = calloc(d->n_groups + 1, sizeof(double));
    if (!d->card || !d->bytes || !d->held_out || !d->share)
        return -ENOMEM;
    for (size_t i = 0; i < records->n; i++) {
        const struct sl_record *rec = &records->rec[i];
        uint32_t group = d->cfg->by_label ? (uint32_t)rec->label : rec->file;
        bool held_out = sl_record_held_out(rec, d->cfg->held_out);
        d->card[i] = (struct card){order_of(key, rec), (uint32_t)i, group, held_out};
        (held_out ? d->held_out : d->bytes)[group] += (double)rec->len;
        d->total += held_out ? 0 : (double)rec->len;
    }
    for (uint32_t g = 0; g < d->n_groups && d->total > 0; g++)
        d->share[g] = d->bytes[g] / d->total;
    qsort(d->card, records->n, sizeof(*d->card), by_group);
    return 0;
}

/* table [n][n_groups]: bytes of each group for each phone. False: there is not enough text. */
static bool plan(const struct dealer *d, uint32_t n, double *table, double *size)
{
    const struct sl_shard_config *c = d->cfg;
    uint64_t sizes = sl_rng_key(d->seed, "shards.size"), mixtures = sl_rng_key(d->seed, "shards.mixture");
    double least = (double)c->min_bytes, most = d->total / n * (1 - 1e-9);

    if (least > most || !sl_shard_sizes(sizes, n, c->size_sigma, d->total, fmin(least * margin, most), size))
        return false;
    for (uint32_t i = 0; i < n; i++)
        sl_dirichlet_draw(mixtures, i, c->alpha, d->share, d->n_groups, table + (size_t)i * d->n_groups);
    sl_shard_fit(table, n, d->n_groups, size, d->bytes);
    return true;
}

/* Cuts a run of cards (of one group, all to train on or all held out) in proportion to `column`: a card goes
 * where its middle falls. */
static void cut(struct dealer *d, const struct card *card, size_t n_cards, double bytes, uint32_t n,
    const double *column, size_t stride)
{
    double sum = 0, upto, at = 0;
    uint32_t phone = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += column[i * stride];
    upto = column[0];
    for (size_t c = 0; c < n_cards; c++) {
        size_t len = d->records->rec[card[c].record].len;
        while (phone + 1 < n && (at + (double)len / 2) / bytes * sum >= upto)
            upto += column[++phone * stride];
        d->phone_of_record[card[c].record] = phone;
        if (!card[c].held_out)
            d->hands[phone] += len;
        at += (double)len;
    }
}

/* Nobody wishes for a group without training text: its held-out records follow the shards' sizes. */
static void cut_all(struct dealer *d, uint32_t n, const double *table, const double *size)
{
    size_t first = 0;

    memset(d->hands, 0, n * sizeof(*d->hands));
    while (first < d->records->n) {
        const struct card *c = &d->card[first];
        size_t last = first;
        while (
            last < d->records->n && d->card[last].group == c->group && d->card[last].held_out == c->held_out)
            last++;
        bool wished = d->bytes[c->group] > 0;
        cut(d, c, last - first, (c->held_out ? d->held_out : d->bytes)[c->group], n,
            wished ? table + c->group : size, wished ? d->n_groups : 1);
        first = last;
    }
}

/* The training record of `from` that it can spare and that `to` wishes most for; -1: none. */
static int64_t choose(const struct dealer *d, uint32_t from, uint32_t to, const double *table)
{
    int64_t best = -1;
    double wish = -1;

    for (size_t c = 0; c < d->records->n; c++) {
        uint32_t r = d->card[c].record;
        if (d->phone_of_record[r] != from || d->card[c].held_out ||
            d->hands[from] < d->cfg->min_bytes + d->records->rec[r].len)
            continue;
        double w = table[(size_t)to * d->n_groups + d->card[c].group];
        if (w > wish) {
            wish = w;
            best = r;
        }
    }
    return best;
}

/* Records are whole, so a shard may end under the least: the largest gives to the smallest, as long as it
 * takes. */
static bool repair(struct dealer *d, uint32_t n, const double *table)
{
    for (;;) {
        uint32_t poor = 0, rich = 0;
        for (uint32_t i = 1; i < n; i++) {
            poor = d->hands[i] < d->hands[poor] ? i : poor;
            rich = d->hands[i] > d->hands[rich] ? i : rich;
        }
        if (d->hands[poor] >= d->cfg->min_bytes)
            return true;
        int64_t r = choose(d, rich, poor, table);
        if (r < 0)
            return false;
        d->phone_of_record[r] = poor;
        d->hands[poor] += d->records->rec[r].len;
        d->hands[rich] -= d->records->rec[r].len;
    }
}

static bool deal(struct dealer *d, uint32_t n, double *table, double *size)
{
    if (!plan(d, n, table, size))
        return false;
    cut_all(d, n, table, size);
    return repair(d, n, table);
}

/* The most phones below n for which it works, if fewer phones are never harder than more. */
static uint32_t most_phones(struct dealer *d, uint32_t n, double *table, double *size)
{
    uint32_t works = 0, fails = n;

    if (d->cfg->min_bytes && d->total / (double)d->cfg->min_bytes < n)
        fails = (uint32_t)(d->total / (double)d->cfg->min_bytes) + 1;
    while (fails - works > 1) {
        uint32_t middle = works + (fails - works) / 2;
        if (deal(d, middle, table, size))
            works = middle;
        else
            fails = middle;
    }
    return works;
}

static int deal_or_explain(struct dealer *d, uint32_t n, char *err, size_t err_cap)
{
    if ((uint64_t)n * d->n_groups > TABLE_MAX) {
        snprintf(err, err_cap, "%u phones of %u files or labels each are more than %d shares to draw", n,
            d->n_groups, TABLE_MAX);
        return -ERANGE;
    }
    double *table = malloc((size_t)n * d->n_groups * sizeof(double)), *size = malloc(n * sizeof(double));
    int rc = table && size ? 0 : -ENOMEM;
    if (!rc && !deal(d, n, table, size)) {
        uint32_t most = most_phones(d, n, table, size);
        snprintf(err, err_cap,
            "the text is enough for %u phone%s at most, not %u: each needs %zu bytes of whole records", most,
            most == 1 ? "" : "s", n, d->cfg->min_bytes);
        rc = -ERANGE;
    }
    free(table);
    free(size);
    return rc;
}

int sl_deal_dirichlet(const struct sl_records *records, const struct sl_shard_config *cfg, uint32_t n_phones,
    uint32_t *phone_of_record, size_t *hands, char *err, size_t err_cap)
{
    struct dealer d = {.records = records,
        .cfg = cfg,
        .seed = cfg->seed,
        .phone_of_record = phone_of_record,
        .hands = hands};
    int rc = cfg->by_label ? check_labels(records, err, err_cap) : 0;

    if (!rc)
        rc = count_groups(&d);
    if (!rc)
        rc = deal_or_explain(&d, n_phones, err, err_cap);
    if (rc == -ENOMEM)
        snprintf(err, err_cap, "out of memory");
    free(d.card);
    free(d.bytes);
    free(d.held_out);
    free(d.share);
    return rc;
}
