/* JSON read strictly (see json.h). */
#include "trainer/model/json.h"
#include "trainer/model/fail.h"
#include "trainer/model/utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The first key that an object holds twice; NULL: none, or `*code` is -ENOMEM. */
static const char *repeated_key(const cJSON *object, int *code)
{
    size_t n = 0;
    for (const cJSON *v = object->child; v; v = v->next)
        n++;
    if (n < 2)
        return NULL;
    const char **names = malloc(n * sizeof *names);
    if (!names) {
        *code = -ENOMEM;
        return NULL;
    }
    size_t i = 0;
    for (const cJSON *v = object->child; v; v = v->next)
        names[i++] = v->string;
    qsort(names, n, sizeof *names, compare_names);
    const char *found = NULL;
    for (i = 1; i < n && !found; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            found = names[i];
    free(names);
    return found;
}

/* Depth is bounded by cJSON's CJSON_NESTING_LIMIT (1000). */
static int check_keys(const cJSON *value, const char *what, char *err, size_t err_cap)
{
    int code = 0;
    if (cJSON_IsObject(value)) {
        const char *key = repeated_key(value, &code);
        if (code)
            return sl_fail(code, err, err_cap, "%s: out of memory", what);
        if (key)
            return sl_fail(-EINVAL, err, err_cap, "%s: the key \"%.100s\" is there twice", what, key);
    }
    if (!cJSON_IsObject(value) && !cJSON_IsArray(value))
        return 0;
    for (const cJSON *v = value->child; v && !code; v = v->next)
        code = check_keys(v, what, err, err_cap);
    return code;
}

/* An escape \u0000 anywhere: a backslash that is not itself escaped, then u0000. */
static bool has_escaped_nul(const char *text, size_t len)
{
    for (size_t i = 0; i + 1 < len; i++) {
        if (text[i] != '\\')
            continue;
        if (i + 6 <= len && memcmp(text + i + 1, "u0000", 5) == 0)
            return true;
        i++;
    }
    return false;
}

int sl_json_parse(const char *text, size_t len, const char *what, cJSON **out, char *err, size_t err_cap)
{
    *out = NULL;
    if (!sl_utf8_valid(text, len) || memchr(text, 0, len))
        return sl_fail(-EINVAL, err, err_cap, "%s: not UTF-8 text", what);
    if (has_escaped_nul(text, len))
        return sl_fail(-EINVAL, err, err_cap, "%s: a string holds \\u0000, which is not supported", what);
    const char *end = text;
    cJSON *root = cJSON_ParseWithLengthOpts(text, len, &end, false);
    if (!root)
        return sl_fail(-EINVAL, err, err_cap,
            "%s: not JSON (near byte %zu): the file is damaged or cut short", what,
            end >= text && end <= text + len ? (size_t)(end - text) : 0);
    for (size_t i = (size_t)(end - text); i < len; i++) {
        if (text[i] == ' ' || text[i] == '\n' || text[i] == '\r' || text[i] == '\t')
            continue;
        cJSON_Delete(root);
        return sl_fail(-EINVAL, err, err_cap, "%s: text after the JSON value (byte %zu)", what, i);
    }
    int code = check_keys(root, what, err, err_cap);
    if (code) {
        cJSON_Delete(root);
        return code;
    }
    *out = root;
    return 0;
}

static int read_all(int fd, char *p, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t got = pread(fd, p + at, len - at, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        at += (size_t)got;
    }
    return 0;
}

int sl_read_file(const char *path, size_t max, char **text, size_t *len, char *err, size_t err_cap)
{
    *text = NULL;
    *len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        int code = -errno;
        return sl_fail(code == -ENOENT ? code : -EIO, err, err_cap, "%s: %s", path, strerror(-code));
    }
    struct stat st;
    char *p = NULL;
    int code = fstat(fd, &st) ? -errno : 0;
    if (!code && !S_ISREG(st.st_mode))
        code = sl_fail(-EINVAL, err, err_cap, "%s: not a regular file", path);
    else if (!code && (uint64_t)st.st_size > max)
        code = sl_fail(-EINVAL, err, err_cap, "%s: larger than %zu bytes", path, max);
    else if (!code) {
        p = malloc((size_t)st.st_size + 1);
        code = p ? read_all(fd, p, (size_t)st.st_size) : -ENOMEM;
        if (code)
            sl_fail(code, err, err_cap, "%s: %s", path, strerror(-code));
    }
    close(fd);
    if (code) {
        free(p);
        return code;
    }
    p[st.st_size] = 0;
    *text = p;
    *len = (size_t)st.st_size;
    return 0;
}

int sl_json_u32(const cJSON *object, const char *key, const char *what, uint32_t min, uint32_t max,
    uint32_t *out, char *err, size_t err_cap)
{
    if (!sl_json_is_set(object, key))
        return 0;
    const cJSON *v = sl_json_get(object, key);
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= min && v->valuedouble <= max) ||
        v->valuedouble != floor(v->valuedouble))
        return sl_fail(
            -EINVAL, err, err_cap, "%s: %s must be a whole number from %u to %u", what, key, min, max);
    *out = (uint32_t)v->valuedouble;
    return 0;
}

int sl_json_bool(const cJSON *object, const char *key, const char *what, bool *out, char *err, size_t err_cap)
{
    if (!sl_json_is_set(object, key))
        return 0;
    const cJSON *v = sl_json_get(object, key);
    if (!cJSON_IsBool(v))
        return sl_fail(-EINVAL, err, err_cap, "%s: %s must be true or false", what, key);
    *out = cJSON_IsTrue(v);
    return 0;
}

int sl_json_float(const cJSON *object, const char *key, const char *what, double min, double max, float *out,
    char *err, size_t err_cap)
{
    if (!sl_json_is_set(object, key))
        return 0;
    const cJSON *v = sl_json_get(object, key);
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= min && v->valuedouble <= max))
        return sl_fail(-EINVAL, err, err_cap, "%s: %s must be a number from %g to %g", what, key, min, max);
    *out = (float)v->valuedouble;
    return 0;
}

int sl_json_only_keys(
    const cJSON *object, const char *const *keys, const char *what, char *err, size_t err_cap)
{
    for (const cJSON *v = object->child; v; v = v->next) {
        const char *const *k = keys;
        while (*k && strcmp(*k, v->string) != 0)
            k++;
        if (!*k)
            return sl_fail(-EINVAL, err, err_cap, "%s: \"%.100s\" is not supported", what, v->string);
    }
    return 0;
}
