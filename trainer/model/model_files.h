/* The files of a model directory. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "trainer/model/json.h"

/* The safetensors files of DIR: model.safetensors, or else those that model.safetensors.index.json names, in
 * the order in which it first names them. `index` is the index, NULL without one. */
struct sl_model_files {
    char **paths; /* DIR/name */
    uint32_t n;
    cJSON *index;
};
int sl_model_files(const char *dir, struct sl_model_files *, char *err, size_t err_cap);
void sl_model_files_free(struct sl_model_files *);

/* The file (of `files`) in which the index puts a tensor: its number; -1: the index does not know the tensor.
 */
int64_t sl_model_files_place(const struct sl_model_files *, const char *tensor);
