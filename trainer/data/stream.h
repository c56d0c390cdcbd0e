/* Token streams and windows (rules L1, L11). A window of T tokens is T-1 predicted tokens. */
#pragma once

#include "trainer/data/text.h"

struct sl_stream {
    uint32_t *ids;
    size_t n;
};

/* Records as one stream: [bos] tokens... eos per record (bos where the tokenizer says so; eos_id < 0: none).
 * Where begin and end are the same token, one of it stands between two records and serves as both. 0, -ENOMEM
 * or the tokenizer's error. */
int sl_stream_from_records(const struct sl_tokenizer *, const struct sl_record *const *recs, size_t n,
    int32_t eos_id, struct sl_stream *);
/* A text file of token ids, one stream per line; windows never cross lines. Ids must be below vocab. Blank
 * lines are no streams. -EINVAL names the line. `*streams` is an array of *n, each to be freed, and then the
 * array. */
int sl_streams_from_ids_file(
    const char *path, uint32_t vocab, struct sl_stream **, size_t *n, char *err, size_t err_cap);
/* The same from memory; `name` is what an error calls it. */
int sl_streams_from_ids(const char *name, const char *bytes, size_t len, uint32_t vocab, struct sl_stream **,
    size_t *n, char *err, size_t err_cap);
void sl_stream_free(struct sl_stream *);

/* Full windows of T tokens in a stream, one after another without overlap, and the i-th of them. */
size_t sl_windows(const struct sl_stream *, uint32_t seq);
const uint32_t *sl_window(const struct sl_stream *, uint32_t seq, size_t i);
