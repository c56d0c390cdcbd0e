/* Who gets which text (rules L11): records are split into training and held-out first, then dealt to phones
 * by file, or by a Dirichlet distribution over files or labels. */
#pragma once

#include "trainer/data/stream.h"

struct sl_shard {
    struct sl_stream train, held_out;
    size_t bytes; /* of training text */
};

struct sl_shard_config {
    double held_out;      /* fraction */
    const char *excluded; /* file of held-out record hashes (hex, one a line) to drop; NULL: none */
    size_t min_bytes;     /* no shard under this: 60,000 */
    bool dirichlet;       /* otherwise by file; the rest is Dirichlet's */
    double alpha;         /* above 0; INFINITY: every phone's text is a sample of all of it */
    bool by_label;        /* over labels, which all records must have; otherwise over files */
    double size_sigma;    /* shard sizes are log-normal; 0: even */
    uint64_t seed;
};

/* By file: files in descending size are dealt to n phones so that shard sizes are even; every phone has at
 * least one file.
 *
 * Dirichlet: each phone has a mixture over the files (or labels) and a size (trainer/data/dirichlet.h). What
 * all ask for together is fitted to what there is, so that every record, held-out ones too, is in exactly one
 * shard; the records of a file are shuffled and cut up in proportion. A shard under min_bytes, in the draw of
 * sizes or because records are whole, gets what it lacks from the largest ones. All of it is a function of
 * seed and text.
 *
 * Every phone has min_bytes, otherwise -ERANGE and an error that names the largest possible number of phones.
 * -EINVAL: a record without a label, named by file and line. */
int sl_shards_make(const struct sl_records *, const struct sl_tokenizer *, int32_t eos_id, uint32_t n_phones,
    const struct sl_shard_config *, struct sl_shard **, char *err, size_t err_cap);
void sl_shards_free(struct sl_shard *, uint32_t n);
