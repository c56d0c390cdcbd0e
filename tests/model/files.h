/* Files for the tests of this folder: a temporary directory, whole files, and safetensors taken apart to be
 * spoilt. */
#pragma once

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

/* A new empty directory, malloc'ed; aborts where none can be made. */
char *files_dir(void);
void files_dir_remove(char *dir); /* with all in it; frees */

char *files_path(const char *dir, const char *name); /* malloc'ed */
void files_write(const char *dir, const char *name, const void *p, size_t n);
void *files_read(const char *dir, const char *name, size_t *n); /* malloc'ed, NUL-terminated */

/* A safetensors file as its JSON header and its data. */
struct files_tensors {
    cJSON *header;
    uint8_t *data;
    size_t len;
};
struct files_tensors files_tensors_read(const char *dir, const char *name);
/* Writes and frees. */
void files_tensors_write(const char *dir, const char *name, struct files_tensors *);
/* Moves tensor `name` out of the header, and its bytes out of the data. */
void files_tensors_drop(struct files_tensors *, const char *name);
/* Adds a tensor at the end of the data. dims: n_dims of them. */
void files_tensors_add(struct files_tensors *, const char *name, const char *dtype, const uint32_t *dims,
    unsigned n_dims, const void *p, size_t n);
