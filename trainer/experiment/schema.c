#include "trainer/experiment/schema.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_CAP = 128 };

int sl_schema_error(struct sl_reader *r, const yaml_node_t *node, const char *format, ...)
{
    va_list args;
    int n = snprintf(r->err, r->err_cap, "%s:%zu: ", r->file, node->start_mark.line + 1);

    if (n >= 0 && (size_t)n < r->err_cap) {
        va_start(args, format);
        vsnprintf(r->err + n, r->err_cap - (size_t)n, format, args);
        va_end(args);
    }
    return -EINVAL;
}

static const char *scalar(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : NULL;
}

/* A scalar without embedded NUL, so that C strings and YAML's agree. */
static bool is_text(const yaml_node_t *node)
{
    return node->type == YAML_SCALAR_NODE &&
           strlen((const char *)node->data.scalar.value) == node->data.scalar.length;
}

static bool is_decimal(const char *text)
{
    return *text && strspn(text, "0123456789.eE+-") == strlen(text);
}

int sl_schema_number(struct sl_reader *r, const yaml_node_t *node, const char *key, double lo, double hi,
    bool integer, double *out)
{
    const char *text = scalar(node);
    char *end;

    if (!text || !is_text(node) || node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE || !is_decimal(text))
        return sl_schema_error(r, node, "%s: '%s' is not a number; give a plain decimal one", key,
            text ? text : "(not a scalar)");
    double v = strtod(text, &end);
    if (*end || !isfinite(v))
        return sl_schema_error(r, node, "%s: '%s' is not a finite decimal number", key, text);
    if (integer && (v != floor(v) || strpbrk(text, ".eE")))
        return sl_schema_error(r, node, "%s: %s is not a whole number", key, text);
    if (v < lo || v > hi)
        return sl_schema_error(r, node, "%s: %s is out of range; give %g to %g", key, text, lo, hi);
    *out = v;
    return 0;
}

static int read_u64(struct sl_reader *r, const yaml_node_t *node, const char *key, uint64_t *out)
{
    double unused;
    int status = sl_schema_number(r, node, key, 0, 18446744073709551615.0, true, &unused);

    if (status)
        return status;
    errno = 0;
    *out = strtoull(scalar(node), NULL, 10); /* a double would round above 2^53 */
    return errno ? sl_schema_error(r, node, "%s: %s does not fit 64 bits", key, scalar(node)) : 0;
}

static bool among(const char *text, const char *choices)
{
    size_t n = strlen(text);

    for (const char *p = choices; p && *p;) {
        size_t len = strcspn(p, "|");
        if (len == n && memcmp(p, text, n) == 0)
            return true;
        p += len + (p[len] == '|');
    }
    return false;
}

static int read_text(struct sl_reader *r, const yaml_node_t *node, const char *key, char *out, size_t size)
{
    if (!is_text(node) || node->data.scalar.length == 0)
        return sl_schema_error(r, node, "%s: give a text", key);
    if (node->data.scalar.length >= size)
        return sl_schema_error(r, node, "%s: is longer than %zu bytes", key, size - 1);
    memcpy(out, node->data.scalar.value, node->data.scalar.length + 1);
    return 0;
}

static int read_choice(struct sl_reader *r, const yaml_node_t *node, const struct sl_field *f, char *out)
{
    int status = read_text(r, node, f->path, out, f->size);
    const char *text = scalar(node);

    if (text && among(text, f->later))
        return sl_schema_error(
            r, node, "%s: '%s' is not supported by this version; use %s", f->path, text, f->choices);
    if (!text || !among(text, f->choices))
        return sl_schema_error(
            r, node, "%s: '%s' is not one of %s", f->path, text ? text : "(not a scalar)", f->choices);
    return status;
}

static int read_bool(struct sl_reader *r, const yaml_node_t *node, const char *key, bool *out)
{
    const char *text = scalar(node);

    if (!text || (strcmp(text, "true") != 0 && strcmp(text, "false") != 0))
        return sl_schema_error(r, node, "%s: give true or false", key);
    *out = text[0] == 't';
    return 0;
}

static int read_text_list(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, char *base)
{
    uint32_t n = 0;

    if (node->type != YAML_SEQUENCE_NODE)
        return sl_schema_error(r, node, "%s: give a list, like [a, b]", f->path);
    for (yaml_node_item_t *i = node->data.sequence.items.start; i < node->data.sequence.items.top; i++) {
        yaml_node_t *item = yaml_document_get_node(r->document, *i);
        if (n == f->max)
            return sl_schema_error(r, item, "%s: more than %u entries", f->path, f->max);
        int status = read_text(r, item, f->path, base + f->offset + n * f->size, f->size);
        if (status)
            return status;
        n++;
    }
    memcpy(base + f->count_offset, &n, sizeof n);
    return 0;
}

static int read_field(struct sl_reader *r, yaml_node_t *node, const struct sl_field *f, char *base)
{
    double v = 0;
    int status;

    switch (f->kind) {
    case SL_FIELD_U32:
        status = sl_schema_number(r, node, f->path, f->lo, f->hi, true, &v);
        if (status == 0)
            *(uint32_t *)(void *)(base + f->offset) = (uint32_t)v;
        return status;
    case SL_FIELD_U64:
        return read_u64(r, node, f->path, (uint64_t *)(void *)(base + f->offset));
    case SL_FIELD_DOUBLE:
        return sl_schema_number(r, node, f->path, f->lo, f->hi, false, (double *)(void *)(base + f->offset));
    case SL_FIELD_BOOL:
        return read_bool(r, node, f->path, (bool *)(base + f->offset));
    case SL_FIELD_TEXT:
        return read_text(r, node, f->path, base + f->offset, f->size);
    case SL_FIELD_CHOICE:
        return read_choice(r, node, f, base + f->offset);
    case SL_FIELD_TEXT_LIST:
        return read_text_list(r, node, f, base);
    case SL_FIELD_CUSTOM:
        return f->read(r, node, f, base);
    case SL_FIELD_LATER:
        return sl_schema_error(r, node, "%s: is not supported by this version; remove it", f->path);
    }
    return -EINVAL;
}

static const struct sl_field *find_field(const struct sl_field *fields, size_t n, const char *path)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(fields[i].path, path) == 0)
            return &fields[i];
    return NULL;
}

static bool is_section(const struct sl_field *fields, size_t n, const char *path)
{
    size_t len = strlen(path);

    for (size_t i = 0; i < n; i++)
        if (strncmp(fields[i].path, path, len) == 0 && fields[i].path[len] == '.')
            return true;
    return false;
}

static int refuse_repeated(
    struct sl_reader *r, const yaml_node_t *mapping, const yaml_node_pair_t *pair, const char *path)
{
    const yaml_node_t *key = yaml_document_get_node(r->document, pair->key);

    for (const yaml_node_pair_t *p = mapping->data.mapping.pairs.start; p < pair; p++) {
        const yaml_node_t *earlier = yaml_document_get_node(r->document, p->key);
        if (strcmp(scalar(earlier), scalar(key)) == 0)
            return sl_schema_error(
                r, key, "%s: repeats the key of line %zu; keep one", path, earlier->start_mark.line + 1);
    }
    return 0;
}

static int read_mapping(struct sl_reader *r, yaml_node_t *mapping, const char *prefix,
    const struct sl_field *fields, size_t n, char *base, bool *seen)
{
    if (mapping->type != YAML_MAPPING_NODE)
        return sl_schema_error(r, mapping, "%s: give keys and values", *prefix ? prefix : "experiment");
    for (yaml_node_pair_t *p = mapping->data.mapping.pairs.start; p < mapping->data.mapping.pairs.top; p++) {
        yaml_node_t *key = yaml_document_get_node(r->document, p->key);
        yaml_node_t *value = yaml_document_get_node(r->document, p->value);
        char path[PATH_CAP];
        int status;

        if (!is_text(key))
            return sl_schema_error(r, key, "%s: a key must be a plain word", *prefix ? prefix : "experiment");
        if (snprintf(path, sizeof path, "%s%s%s", prefix, *prefix ? "." : "", scalar(key)) >=
            (int)sizeof path)
            return sl_schema_error(r, key, "unknown key '%.40s...'", scalar(key));
        status = refuse_repeated(r, mapping, p, path);
        if (status)
            return status;
        const struct sl_field *f = find_field(fields, n, path);
        if (f) {
            status = read_field(r, value, f, base);
            seen[f - fields] = true;
        } else if (is_section(fields, n, path)) {
            status = read_mapping(r, value, path, fields, n, base, seen);
        } else {
            status =
                sl_schema_error(r, key, "%s: unknown key; see docs/experiment.md for those that exist", path);
        }
        if (status)
            return status;
    }
    return 0;
}

int sl_schema_read(
    struct sl_reader *r, yaml_node_t *mapping, const struct sl_field *fields, size_t n_fields, void *base)
{
    bool seen[SL_FIELDS_MAX] = {false};

    if (n_fields > SL_FIELDS_MAX)
        return -EINVAL;
    int status = read_mapping(r, mapping, "", fields, n_fields, base, seen);
    for (size_t i = 0; status == 0 && i < n_fields; i++)
        if (fields[i].required && !seen[i])
            status = sl_schema_error(r, mapping, "%s: is missing; add it", fields[i].path);
    return status;
}
