/* From files to records to token streams (rules L11). Regular files only, de-duplicated by inode and hash.
 * `.jsonl`: one record a line, key "text"; otherwise lines that are exactly "%" separate records, else the file is one
 * record. Backspace overstrikes ("_\bx", "x\bx") are removed. */
#pragma once

#include "trainer/model/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_record {
    char *text;
    size_t len;
    uint32_t file;    /* index of the file it came from, in the order read */
    uint8_t hash[32]; /* SHA-256 of text */
};
struct sl_records {
    struct sl_record *rec;
    size_t n;
    char **files; /* paths */
    size_t n_files;
};

/* Reads one file, or every text file of a directory in name order (`.dat`, `.u8` are not text). */
int sl_records_read(const char *path, struct sl_records *, char *err, size_t err_cap);
int sl_records_append(struct sl_records *, const char *path, char *err, size_t err_cap);
void sl_records_free(struct sl_records *);

/* Whether a record is held out: a function of its hash alone; `fraction` of all records on average. */
bool sl_record_held_out(const struct sl_record *, double fraction);
