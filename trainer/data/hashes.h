/* Lists of record hashes: what must not be scored because the base model has read it (rules L11). One SHA-256
 * in hex per line; blank lines and lines that begin with '#' are passed over. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_hashes {
    uint8_t (*hash)[32]; /* sorted */
    size_t n;
};

int sl_hashes_read(const char *path, struct sl_hashes *, char *err, size_t err_cap);
bool sl_hashes_have(const struct sl_hashes *, const uint8_t hash[32]);
void sl_hashes_free(struct sl_hashes *);
