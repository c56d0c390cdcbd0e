/* From files to records to token streams (rules L11). Regular files only, de-duplicated by inode and hash.
 * `.jsonl`: one record a line, key "text", and perhaps "label" (text or a number: what shards may be drawn
 * by); otherwise lines that are exactly "%" separate records, else the file is one record. Backspace
 * overstrikes ("_\bx", "x\bx") are removed. A separator takes the end of the line before it along, so
 * separated records do not end in a newline; a file that is one record is taken as it stands. Empty records
 * are dropped.
 *
 * Functions that fail return -EINVAL (content), -ENOENT, -EIO or -ENOMEM with one line in err that names the
 * file (and the line, where there is one). On failure the records read before stay valid. One owner; no
 * thread safety. */
#pragma once

#include "trainer/model/tokenizer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SL_LABELS_MAX = 1024,
    SL_LABEL_NONE = -1,
    SL_LABEL_BEYOND = -2, /* one more than SL_LABELS_MAX different ones */
};

struct sl_record {
    char *text;
    size_t len;
    uint32_t file;    /* index of the file it came from, in the order read */
    uint32_t line;    /* of a `.jsonl` file, from 1; otherwise 0 */
    int32_t label;    /* index into labels, or one of the two above */
    uint8_t hash[32]; /* SHA-256 of text */
};
struct sl_origin; /* what makes two files the same one */
struct sl_records {
    struct sl_record *rec;
    size_t n;
    char **files; /* paths */
    size_t n_files;
    struct sl_origin *origins; /* [n_files], for de-duplication */
    char **labels;             /* different ones, in the order met */
    size_t n_labels;
};

/* Reads one file, or every text file of a directory in name order (`.dat`, `.u8`, hidden files and what holds
 * a NUL byte are not text; links and subdirectories are passed over). A file named alone may be a link, and
 * must be text. */
int sl_records_read(const char *path, struct sl_records *, char *err, size_t err_cap);
/* The same, to records that are there already (or all zero). */
int sl_records_append(struct sl_records *, const char *path, char *err, size_t err_cap);
/* The same from memory: `name` says where the bytes are from, and by its ending what they are. */
int sl_records_append_bytes(
    struct sl_records *, const char *name, const char *bytes, size_t len, char *err, size_t err_cap);
void sl_records_free(struct sl_records *);

/* Whether a record is held out: a function of its hash alone; `fraction` of all records on average. */
bool sl_record_held_out(const struct sl_record *, double fraction);

/* Overstrikes as a terminal shows them: each backspace steps back one character, and of two characters in one
 * place the letter or digit wins over underscores, accents and spaces, else the later one. In place; returns
 * the new length. */
size_t sl_text_remove_overstrikes(char *text, size_t len);
