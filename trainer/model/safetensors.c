/* Reading safetensors (see safetensors.h). */
#include "trainer/model/safetensors.h"
#include "trainer/model/fail.h"
#include "trainer/model/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    PREFIX = 8,
    CHUNK = 1 << 16 /* values converted at a time */
};

static const struct {
    const char *name;
    unsigned size;
} dtypes[] = {{"F32", 4}, {"F16", 2}, {"BF16", 2}, {"F64", 8}, {"I64", 8}, {"I32", 4}, {"I16", 2}, {"I8", 1},
    {"U64", 8}, {"U32", 4}, {"U16", 2}, {"U8", 1}, {"BOOL", 1}, {"F8_E5M2", 1}, {"F8_E4M3", 1}};

/* A whole number from 0 to 2^53, exactly as JSON's doubles hold it. */
static bool read_count(const cJSON *v, uint64_t *out)
{
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble <= 0x1p53) ||
        v->valuedouble != floor(v->valuedouble))
        return false;
    *out = (uint64_t)v->valuedouble;
    return true;
}

static int read_tensor(
    const cJSON *v, uint64_t data_len, const char *what, struct sl_st_tensor *t, char *err, size_t err_cap)
{
    const cJSON *dtype = sl_json_get(v, "dtype"), *shape = sl_json_get(v, "shape");
    const cJSON *range = sl_json_get(v, "data_offsets");
    unsigned size = 0;
    *t = (struct sl_st_tensor){.name = v->string, .n = 1};
    for (unsigned i = 0; i < sizeof dtypes / sizeof *dtypes && cJSON_IsString(dtype); i++)
        if (strcmp(dtypes[i].name, dtype->valuestring) == 0) {
            t->dtype = dtypes[i].name;
            size = dtypes[i].size;
        }
    if (!size)
        return sl_fail(-EINVAL, err, err_cap, "%s: %.100s: unknown dtype", what, t->name);
    bool ok = cJSON_IsArray(shape);
    for (const cJSON *d = ok ? shape->child : NULL; d && ok; d = d->next) {
        ok = t->n_dims < SL_ST_MAX_DIMS && read_count(d, &t->dims[t->n_dims]) &&
             !__builtin_mul_overflow(t->n, t->dims[t->n_dims], &t->n);
        t->n_dims++;
    }
    uint64_t bytes;
    if (!ok || __builtin_mul_overflow(t->n, (uint64_t)size, &bytes))
        return sl_fail(-EINVAL, err, err_cap, "%s: %.100s: bad shape", what, t->name);
    const cJSON *first = cJSON_IsArray(range) ? range->child : NULL, *second = first ? first->next : NULL;
    if (!second || second->next || !read_count(first, &t->begin) || !read_count(second, &t->end) ||
        t->begin > t->end || t->end - t->begin != bytes)
        return sl_fail(-EINVAL, err, err_cap, "%s: %.100s: data_offsets do not fit its shape", what, t->name);
    if (t->end > data_len)
        return sl_fail(-EINVAL, err, err_cap,
            "%s: truncated: %.100s ends at byte %llu of the data, of which there are %llu; copy the file "
            "again",
            what, t->name, (unsigned long long)t->end, (unsigned long long)data_len);
    return 0;
}

static int compare_begin(const void *a, const void *b)
{
    const struct sl_st_tensor *x = *(struct sl_st_tensor *const *)a, *y = *(struct sl_st_tensor *const *)b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end;
}

/* The ranges cover the data part exactly once. */
static int check_cover(
    const struct sl_st_header *h, uint64_t data_len, const char *what, char *err, size_t err_cap)
{
    struct sl_st_tensor **sorted = malloc((h->n ? h->n : 1) * sizeof(struct sl_st_tensor *));
    if (!sorted)
        return sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", what);
    for (uint32_t i = 0; i < h->n; i++)
        sorted[i] = &h->tensors[i];
    qsort(sorted, h->n, sizeof *sorted, compare_begin);
    uint64_t at = 0;
    int code = 0;
    for (uint32_t i = 0; i < h->n && !code; i++) {
        if (sorted[i]->begin != at)
            code = sl_fail(-EINVAL, err, err_cap, "%s: %.100s: its data %s", what, sorted[i]->name,
                sorted[i]->begin < at ? "overlap another tensor's" : "follow a hole");
        at = sorted[i]->end;
    }
    free(sorted);
    if (!code && at != data_len)
        code = sl_fail(-EINVAL, err, err_cap, "%s: %llu bytes behind the last tensor", what,
            (unsigned long long)(data_len - at));
    return code;
}

int sl_st_header_parse(const char *text, size_t len, uint64_t data_len, const char *what,
    struct sl_st_header *h, char *err, size_t err_cap)
{
    static const char *const keys[] = {"dtype", "shape", "data_offsets", NULL};
    memset(h, 0, sizeof *h);
    if (!len || text[0] != '{')
        return sl_fail(-EINVAL, err, err_cap, "%s: not a safetensors file", what);
    int code = sl_json_parse(text, len, what, &h->json, err, err_cap);
    if (code)
        return code;
    uint32_t n = 0;
    for (const cJSON *v = h->json->child; v; v = v->next)
        n++;
    h->tensors = calloc(n ? n : 1, sizeof *h->tensors);
    if (!h->tensors)
        code = sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", what);
    for (const cJSON *v = h->json->child; v && !code; v = v->next) {
        if (!cJSON_IsObject(v))
            code = sl_fail(-EINVAL, err, err_cap, "%s: %.100s: not an object", what, v->string);
        if (code || strcmp(v->string, "__metadata__") == 0)
            continue;
        code = sl_json_only_keys(v, keys, what, err, err_cap);
        if (!code)
            code = read_tensor(v, data_len, what, &h->tensors[h->n++], err, err_cap);
    }
    if (!code)
        code = check_cover(h, data_len, what, err, err_cap);
    if (code)
        sl_st_header_free(h);
    return code;
}

void sl_st_header_free(struct sl_st_header *h)
{
    free(h->tensors);
    cJSON_Delete(h->json);
    memset(h, 0, sizeof *h);
}

/* All n bytes at a position; -EIO where the file ends before. */
static int read_at(int fd, void *p, size_t n, uint64_t at)
{
    char *to = p;
    while (n) {
        ssize_t got = pread(fd, to, n, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -EIO;
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return 0;
}

static int open_header(struct sl_st_file *f, char *err, size_t err_cap)
{
    struct stat st;
    uint8_t prefix[PREFIX];
    if (fstat(f->fd, &st))
        return sl_fail(-errno, err, err_cap, "%s: %s", f->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return sl_fail(-EINVAL, err, err_cap, "%s: not a regular file", f->path);
    uint64_t size = (uint64_t)st.st_size, len = 0;
    if (size < PREFIX || read_at(f->fd, prefix, PREFIX, 0))
        return sl_fail(-EINVAL, err, err_cap, "%s: truncated: shorter than its 8-byte prefix", f->path);
    for (unsigned i = 0; i < PREFIX; i++)
        len |= (uint64_t)prefix[i] << (8 * i);
    if (len > SL_ST_MAX_HEADER)
        return sl_fail(-EINVAL, err, err_cap, "%s: not a safetensors file (header of %llu bytes)", f->path,
            (unsigned long long)len);
    if (len > size - PREFIX)
        return sl_fail(
            -EINVAL, err, err_cap, "%s: truncated inside its header; copy the file again", f->path);
    char *text = malloc(len + 1);
    int code = text ? read_at(f->fd, text, len, PREFIX) : -ENOMEM;
    if (code)
        sl_fail(code, err, err_cap, "%s: header: %s", f->path, strerror(-code));
    else
        code = sl_st_header_parse(text, len, size - PREFIX - len, f->path, &f->header, err, err_cap);
    free(text);
    f->data_start = PREFIX + len;
    return code;
}

int sl_st_open(const char *path, struct sl_st_file *f, char *err, size_t err_cap)
{
    memset(f, 0, sizeof *f);
    f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (f->fd < 0) {
        int code = errno == ENOENT ? -ENOENT : -EIO;
        return sl_fail(code, err, err_cap, "%s: %s", path, strerror(errno));
    }
    f->path = strdup(path);
    int code = f->path ? open_header(f, err, err_cap) : sl_fail(-ENOMEM, err, err_cap, "out of memory");
    if (code)
        sl_st_close(f);
    return code;
}

void sl_st_close(struct sl_st_file *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->path);
    sl_st_header_free(&f->header);
    f->path = NULL;
    f->fd = -1;
}

static float from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* IEEE 754 binary16 to binary32: exact. */
static float from_half(uint32_t h)
{
    uint32_t sign = (h & 0x8000) << 16, exponent = h >> 10 & 0x1f, fraction = h & 0x3ff;
    if (exponent == 0x1f)
        return from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent == 0) { /* zero and subnormals: fraction * 2^-24 */
        float f = (float)fraction * 0x1p-24f;
        return sign ? -f : f;
    }
    return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

static bool convert(const uint8_t *src, size_t n, unsigned size, bool half, float *dst)
{
    bool finite = true;
    for (size_t i = 0; i < n; i++, src += size) {
        uint32_t bits = (uint32_t)src[0] | (uint32_t)src[1] << 8;
        if (size == 4)
            bits |= (uint32_t)src[2] << 16 | (uint32_t)src[3] << 24;
        dst[i] = size == 4 ? from_bits(bits) : half ? from_half(bits) : from_bits(bits << 16);
        finite &= isfinite(dst[i]) != 0;
    }
    return finite;
}

int sl_st_read(
    const struct sl_st_file *f, const struct sl_st_tensor *t, float *dst, char *err, size_t err_cap)
{
    bool half = strcmp(t->dtype, "F16") == 0;
    if (!half && strcmp(t->dtype, "F32") != 0 && strcmp(t->dtype, "BF16") != 0)
        return sl_fail(-EINVAL, err, err_cap, "%s: %.100s: dtype %s is not supported (F32, F16 and BF16 are)",
            f->path, t->name, t->dtype);
    unsigned size = t->dtype[0] == 'F' && !half ? 4 : 2;
    uint8_t *chunk = malloc((size_t)CHUNK * size);
    if (!chunk)
        return sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", f->path);
    int code = 0;
    for (uint64_t at = 0; at < t->n && !code; at += CHUNK) {
        size_t n = t->n - at < CHUNK ? (size_t)(t->n - at) : CHUNK;
        code = read_at(f->fd, chunk, n * size, f->data_start + t->begin + at * size);
        if (code)
            sl_fail(code, err, err_cap, "%s: truncated or unreadable at %.100s: %s", f->path, t->name,
                strerror(-code));
        else if (!convert(chunk, n, size, half, dst + at))
            code = sl_fail(-EINVAL, err, err_cap, "%s: %.100s: a value is not finite", f->path, t->name);
    }
    free(chunk);
    return code;
}
