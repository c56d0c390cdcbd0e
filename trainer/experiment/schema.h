/* Reads a YAML mapping into a struct by a table: one row a key. Every node carries its line, so every error
 * does. Internal to the folder. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <yaml.h>

enum { SL_FIELDS_MAX = 160 }; /* of a table */

enum sl_field_kind {
    SL_FIELD_U32,
    SL_FIELD_U64,
    SL_FIELD_DOUBLE,
    SL_FIELD_BOOL,
    SL_FIELD_TEXT,      /* char[size] */
    SL_FIELD_CHOICE,    /* char[size]; one of `choices` */
    SL_FIELD_TEXT_LIST, /* char[max][size], count at count_offset (u32) */
    SL_FIELD_CUSTOM,    /* `read` does it */
    SL_FIELD_LATER,     /* understood by a later version: refused by name */
};

struct sl_reader {
    yaml_document_t *document;
    const char *file;
    char *err;
    size_t err_cap;
};

struct sl_field {
    const char *path; /* "training.lora.rank" */
    enum sl_field_kind kind;
    size_t offset, size;
    double lo, hi;       /* numbers: inclusive range */
    const char *choices; /* CHOICE: "adamw|sgd" */
    const char *later;   /* CHOICE: values of later versions, "bf16|..." */
    size_t count_offset; /* TEXT_LIST */
    uint32_t max;        /* TEXT_LIST */
    bool required;
    int (*read)(struct sl_reader *, yaml_node_t *, const struct sl_field *, void *base);
};

/* Fills `base` from a mapping. Keys of sections are prefixes of paths. -EINVAL with err. */
int sl_schema_read(
    struct sl_reader *, yaml_node_t *mapping, const struct sl_field *, size_t n_fields, void *base);
/* "FILE:LINE: TEXT"; returns -EINVAL. */
int sl_schema_error(struct sl_reader *, const yaml_node_t *, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A plain scalar as a number: decimal, whole, finite, within [lo, hi]. */
int sl_schema_number(
    struct sl_reader *, const yaml_node_t *, const char *key, double lo, double hi, bool integer, double *);
