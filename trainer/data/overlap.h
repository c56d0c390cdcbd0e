/* Which texts share ten consecutive words with a body of text (rules L11). A word is a run of letters, digits
 * and apostrophes, whatever its case; line breaks and punctuation between words do not count. Runs are
 * compared by a 64-bit hash, so a false match has a chance of about 1e-12 per word: it would drop a held-out
 * record too many, never too few. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { SL_OVERLAP_WORDS = 10 };

struct sl_overlap;

int sl_overlap_create(struct sl_overlap **); /* 0 or -ENOMEM */
int sl_overlap_add(
    struct sl_overlap *, const char *text, size_t len); /* 0 or -ENOMEM; runs do not cross texts */
bool sl_overlap_shares(const struct sl_overlap *, const char *text, size_t len);
void sl_overlap_free(struct sl_overlap *);
