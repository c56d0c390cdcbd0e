/* Writing safetensors: the header, and values in the three dtypes. */
#include "trainer/model/json.h"
#include "trainer/model/safetensors.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PREFIX = 8, ALIGN = 8 };

size_t sl_dtype_size(enum sl_dtype dtype)
{
    return dtype == SL_DTYPE_F32 ? 4 : 2;
}

static bool add_entry(cJSON *root, const struct sl_st_entry *e, enum sl_dtype dtype, uint64_t *at)
{
    static const char *const names[] = {
        [SL_DTYPE_F32] = "F32", [SL_DTYPE_F16] = "F16", [SL_DTYPE_BF16] = "BF16"};
    uint64_t n = 1;
    cJSON *tensor = cJSON_AddObjectToObject(root, e->name);
    if (!cJSON_AddStringToObject(tensor, "dtype", names[dtype]))
        return false;
    cJSON *shape = cJSON_AddArrayToObject(tensor, "shape");
    for (uint32_t i = 0; i < e->n_dims; i++) {
        if (!cJSON_AddItemToArray(shape, cJSON_CreateNumber(e->dims[i])))
            return false;
        n *= e->dims[i];
    }
    uint64_t end = *at + n * sl_dtype_size(dtype);
    cJSON *range = cJSON_AddArrayToObject(tensor, "data_offsets");
    bool ok = cJSON_AddItemToArray(range, cJSON_CreateNumber((double)*at)) &&
              cJSON_AddItemToArray(range, cJSON_CreateNumber((double)end));
    *at = end;
    return ok;
}

int sl_st_header_build(
    const struct sl_st_entry *entries, uint32_t n, enum sl_dtype dtype, uint8_t **out, size_t *len)
{
    *out = NULL;
    *len = 0;
    cJSON *root = cJSON_CreateObject();
    cJSON *meta =
        cJSON_AddObjectToObject(root, "__metadata__"); /* transformers insists on the format's name */
    bool ok = cJSON_AddStringToObject(meta, "format", "pt") != NULL;
    uint64_t at = 0;
    for (uint32_t i = 0; i < n && ok; i++)
        ok = add_entry(root, &entries[i], dtype, &at);
    char *text = ok ? cJSON_PrintUnformatted(root) : NULL;
    cJSON_Delete(root);
    if (!text)
        return -ENOMEM;
    size_t json = strlen(text), padded = (json + ALIGN - 1) / ALIGN * ALIGN;
    uint8_t *p = malloc(PREFIX + padded);
    if (!p) {
        free(text);
        return -ENOMEM;
    }
    for (unsigned i = 0; i < PREFIX; i++)
        p[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    memset(p + PREFIX, ' ', padded);
    memcpy(p + PREFIX, text, json);
    free(text);
    *out = p;
    *len = PREFIX + padded;
    return 0;
}

static uint32_t to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static uint32_t to_bfloat(float f)
{
    uint32_t bits = to_bits(f);
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/* Rounds to nearest even; 0x7c00 (infinity) where the value is too large. */
static uint32_t to_half(float f)
{
    uint32_t bits = to_bits(f), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude >= 0x47800000) /* 2^16 and above */
        return sign | 0x7c00;
    if (magnitude < 0x38800000) /* below 2^-14: a multiple of 2^-24, rounded by the FPU */
        return sign | (uint32_t)lrintf(fabsf(f) * 0x1p24f);
    uint32_t rounded = magnitude + 0xfff + (magnitude >> 13 & 1);
    return sign | ((rounded - 0x38000000) >> 13);
}

int sl_st_encode(const float *src, size_t n, enum sl_dtype dtype, uint8_t *dst)
{
    bool good = true;
    size_t size = sl_dtype_size(dtype);
    for (size_t i = 0; i < n; i++, dst += size) {
        uint32_t bits = dtype == SL_DTYPE_F32   ? to_bits(src[i])
                        : dtype == SL_DTYPE_F16 ? to_half(src[i])
                                                : to_bfloat(src[i]);
        uint32_t infinity = dtype == SL_DTYPE_F32 ? 0x7f800000 : dtype == SL_DTYPE_F16 ? 0x7c00 : 0x7f80;
        good &= isfinite(src[i]) && (bits & infinity) != infinity;
        for (size_t b = 0; b < size; b++)
            dst[b] = (uint8_t)(bits >> (8 * b));
    }
    return good ? 0 : -ERANGE;
}
