/* The safetensors format: 8 bytes (little-endian) header length, a JSON header of names, dtypes, shapes and
 * byte ranges, then the data. The header is checked in full before any datum is read; data are read by
 * position, never mapped, so a file cut short under us is an error and not a crash. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "trainer/model/model.h"

enum {
    SL_ST_MAX_HEADER = 100000000, /* as the format's own library */
    SL_ST_MAX_DIMS = 8
};

struct sl_st_tensor {
    const char *name;  /* owned by the header */
    const char *dtype; /* "F32", ... */
    uint32_t n_dims;
    uint64_t dims[SL_ST_MAX_DIMS];
    uint64_t n;          /* elements */
    uint64_t begin, end; /* bytes of the data part */
};

struct sl_st_header {
    struct sl_st_tensor *tensors; /* in the order of the header */
    uint32_t n;
    cJSON *json;
};

/* Checks header text against the length of the data part: known dtypes, shape times size equal to the byte
 * range, ranges that cover the data without hole or overlap, no name twice. `what` names the file in errors.
 * -EINVAL, -ENOMEM. */
int sl_st_header_parse(const char *text, size_t len, uint64_t data_len, const char *what,
    struct sl_st_header *, char *err, size_t err_cap);
void sl_st_header_free(struct sl_st_header *);

struct sl_st_file {
    int fd;
    char *path;
    uint64_t data_start;
    struct sl_st_header header;
};
int sl_st_open(const char *path, struct sl_st_file *, char *err, size_t err_cap);
void sl_st_close(struct sl_st_file *);
/* A tensor of F32, F16 or BF16 as f32 into dst [tensor->n]. Refuses other dtypes, values that are not finite,
 * and a file that has become shorter, by the tensor's name. */
int sl_st_read(const struct sl_st_file *, const struct sl_st_tensor *, float *dst, char *err, size_t err_cap);

/* Writing: the prefix and header of tensors that will follow one after another, padded to 8 bytes. *out is
 * malloc'ed. */
struct sl_st_entry {
    const char *name;
    uint32_t n_dims, dims[2];
};
int sl_st_header_build(const struct sl_st_entry *, uint32_t n, enum sl_dtype, uint8_t **out, size_t *len);
/* Converts n values to little-endian bytes of a dtype (round to nearest even). -ERANGE: a value is not
 * finite, or not in f16. */
int sl_st_encode(const float *src, size_t n, enum sl_dtype, uint8_t *dst);
size_t sl_dtype_size(enum sl_dtype);
