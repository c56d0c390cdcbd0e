#include "trainer/data/shard.h"

#include "trainer/data/deal.h"
#include "trainer/data/hashes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* The records of one phone (or, with `held_out`, its held-out ones that are not excluded) as one stream. */
static int make_stream(const struct sl_records *records, const uint32_t *phone_of_record, uint32_t phone,
    bool held_out, const struct sl_shard_config *cfg, const struct sl_hashes *excluded,
    const struct sl_tokenizer *tok, int32_t eos_id, struct sl_stream *stream)
{
    const struct sl_record **mine = malloc((records->n + 1) * sizeof *mine);
    if (!mine)
        return -ENOMEM;
    size_t n = 0;
    for (size_t i = 0; i < records->n; i++) {
        const struct sl_record *rec = &records->rec[i];
        if (phone_of_record[i] == phone && sl_record_held_out(rec, cfg->held_out) == held_out &&
            !(held_out && sl_hashes_have(excluded, rec->hash)))
            mine[n++] = rec;
    }
    int rc = sl_stream_from_records(tok, mine, n, eos_id, stream);
    free(mine);
    return rc;
}

int sl_shards_make(const struct sl_records *records, const struct sl_tokenizer *tok, int32_t eos_id,
    uint32_t n_phones, const struct sl_shard_config *cfg, struct sl_shard **out, char *err, size_t err_cap)
{
    if (n_phones == 0) {
        snprintf(err, err_cap, "no phones to give text to");
        return -EINVAL;
    }
    struct sl_hashes excluded = {0};
    int rc = cfg->excluded ? sl_hashes_read(cfg->excluded, &excluded, err, err_cap) : 0;
    if (rc)
        return rc;
    uint32_t *phone_of_record = calloc(records->n + 1, sizeof *phone_of_record);
    size_t *hands = calloc(n_phones, sizeof *hands);
    struct sl_shard *shards = calloc(n_phones, sizeof *shards);
    if (!phone_of_record || !hands || !shards) {
        snprintf(err, err_cap, "out of memory");
        rc = -ENOMEM;
    }
    if (!rc)
        rc = (cfg->dirichlet ? sl_deal_dirichlet : sl_deal_by_file)(
            records, cfg, n_phones, phone_of_record, hands, err, err_cap);
    for (uint32_t p = 0; p < n_phones && !rc; p++) {
        shards[p].bytes = hands[p];
        rc = make_stream(records, phone_of_record, p, false, cfg, &excluded, tok, eos_id, &shards[p].train);
        if (!rc)
            rc = make_stream(
                records, phone_of_record, p, true, cfg, &excluded, tok, eos_id, &shards[p].held_out);
        if (rc)
            snprintf(err, err_cap, "cannot tokenise the text of phone %u", p);
    }
    free(phone_of_record);
    free(hands);
    sl_hashes_free(&excluded);
    if (rc) {
        sl_shards_free(shards, n_phones);
        return rc;
    }
    *out = shards;
    return 0;
}

void sl_shards_free(struct sl_shard *shards, uint32_t n)
{
    for (uint32_t p = 0; shards && p < n; p++) {
        sl_stream_free(&shards[p].train);
        sl_stream_free(&shards[p].held_out);
    }
    free(shards);
}
