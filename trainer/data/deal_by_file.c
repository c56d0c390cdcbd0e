/* Whole files, so that sizes are even. */
#include "trainer/data/deal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* A file as the dealer sees it. */
struct pile {
    uint32_t file, phone;
    size_t bytes; /* of its training text */
};

static int by_size(const void *a, const void *b)
{
    const struct pile *x = a, *y = b;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? 1 : -1;
    return x->file < y->file ? -1 : x->file > y->file;
}

/* Deals the piles, largest first, each to the phone that has least so far; returns the smallest hand. */
static size_t deal(struct pile *piles, size_t n_files, size_t *hands, uint32_t n_phones)
{
    for (uint32_t p = 0; p < n_phones; p++)
        hands[p] = 0;
    for (size_t i = 0; i < n_files; i++) {
        uint32_t least = 0;
        for (uint32_t p = 1; p < n_phones; p++) {
            if (hands[p] < hands[least])
                least = p;
        }
        piles[i].phone = least;
        hands[least] += piles[i].bytes;
    }
    size_t smallest = SIZE_MAX;
    for (uint32_t p = 0; p < n_phones; p++)
        smallest = hands[p] < smallest ? hands[p] : smallest;
    return smallest;
}

/* Works out who gets which file; fails where the text does not suffice. */
static int plan_deal(const struct sl_records *records, const struct sl_shard_config *cfg, uint32_t n_phones,
    uint32_t *phone_of_file, size_t *hands, char *err, size_t err_cap)
{
    struct pile *piles = calloc(records->n_files + 1, sizeof *piles);
    size_t *tried = calloc(records->n_files + 1, sizeof *tried);
    int rc = piles && tried ? 0 : -ENOMEM;
    if (rc)
        snprintf(err, err_cap, "out of memory");
    for (size_t f = 0; f < records->n_files && !rc; f++)
        piles[f].file = (uint32_t)f;
    for (size_t i = 0; i < records->n && !rc; i++) {
        if (!sl_record_held_out(&records->rec[i], cfg->held_out))
            piles[records->rec[i].file].bytes += records->rec[i].len;
    }
    if (!rc)
        qsort(piles, records->n_files, sizeof *piles, by_size);
    if (!rc &&
        (n_phones > records->n_files || deal(piles, records->n_files, hands, n_phones) < cfg->min_bytes)) {
        uint32_t most = (uint32_t)records->n_files;
        while (most > 0 && deal(piles, records->n_files, tried, most) < cfg->min_bytes)
            most--;
        snprintf(err, err_cap,
            "the text is enough for %u phone%s at most, not %u: each needs a file of its own and %zu bytes "
            "of text",
            most, most == 1 ? "" : "s", n_phones, cfg->min_bytes);
        rc = -ERANGE;
    }
    for (size_t f = 0; f < records->n_files && !rc; f++)
        phone_of_file[piles[f].file] = piles[f].phone;
    free(piles);
    free(tried);
    return rc;
}

int sl_deal_by_file(const struct sl_records *records, const struct sl_shard_config *cfg, uint32_t n_phones,
    uint32_t *phone_of_record, size_t *hands, char *err, size_t err_cap)
{
    uint32_t *phone_of_file = calloc(records->n_files + 1, sizeof *phone_of_file);
    if (!phone_of_file) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    int rc = plan_deal(records, cfg, n_phones, phone_of_file, hands, err, err_cap);
    for (size_t i = 0; i < records->n && !rc; i++)
        phone_of_record[i] = phone_of_file[records->rec[i].file];
    free(phone_of_file);
    return rc;
}
