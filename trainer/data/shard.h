/* Who gets which text (rules L11): records are split into training and held-out first, then dealt to phones
 * by file. */
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
};

/* By file: files in descending size are dealt to n phones so that shard sizes are even; every phone has at
 * least one file and min_bytes, otherwise -ERANGE and an error that names the largest possible number of
 * phones. */
int sl_shards_by_file(const struct sl_records *, const struct sl_tokenizer *, int32_t eos_id,
    uint32_t n_phones, const struct sl_shard_config *, struct sl_shard **, char *err, size_t err_cap);
void sl_shards_free(struct sl_shard *, uint32_t n);
