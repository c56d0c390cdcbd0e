/* JSON as the model's files use it, read strictly: cJSON alone accepts trailing text, keeps the first of two
 * equal keys and cuts strings at \u0000, so a file could say one thing to us and another to its author. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Parses one JSON value of `len` bytes. `what` names the file in errors. Refused: bytes that are not UTF-8,
 * \u0000, text after the value, and an object with the same key twice. -EINVAL or -ENOMEM. The caller deletes
 * *out. */
int sl_json_parse(const char *text, size_t len, const char *what, cJSON **out, char *err, size_t err_cap);

/* A whole regular file of at most `max` bytes, malloc'ed and NUL-terminated. -ENOENT, -EIO, -EINVAL (too
 * large). */
int sl_read_file(const char *path, size_t max, char **text, size_t *len, char *err, size_t err_cap);

/* The value of a key; NULL where it is absent. Exact (cJSON's usual lookup ignores case). */
static inline cJSON *sl_json_get(const cJSON *object, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(object, key);
}

/* Value present and not null. */
static inline bool sl_json_is_set(const cJSON *object, const char *key)
{
    const cJSON *v = sl_json_get(object, key);
    return v && !cJSON_IsNull(v);
}

/* Each reads `key` if it is present and not null, and leaves *out alone otherwise. -EINVAL: another type, or
 * a number that is not whole or outside [min, max]. */
int sl_json_u32(const cJSON *object, const char *key, const char *what, uint32_t min, uint32_t max,
    uint32_t *out, char *err, size_t err_cap);
int sl_json_bool(
    const cJSON *object, const char *key, const char *what, bool *out, char *err, size_t err_cap);
int sl_json_float(const cJSON *object, const char *key, const char *what, double min, double max, float *out,
    char *err, size_t err_cap);

/* Refuses an object that has a key outside the NULL-terminated list. */
int sl_json_only_keys(
    const cJSON *object, const char *const *keys, const char *what, char *err, size_t err_cap);
