/* Adapters as PEFT 0.x stores them: adapter_config.json and adapter_model.safetensors, names
 * "base_model.model.<module path>.lora_A.weight", fan_in_fan_out true for GPT-2. */
#pragma once

#include "trainer/model/lora.h"

/* Reads an adapter; it must cover all blocks of the model. What PEFT can say and the library does not compute (use_dora,
 * use_rslora, bias, modules_to_save, rank_pattern, ...) is refused by name. The adapter covers [0, n_layers). */
int sl_peft_load(const char *dir, const struct sl_model_config *, struct sl_adapter **, char *err, size_t err_cap);

/* Serialises to memory: the caller writes the two files (the edge does so through io_uring). `out` is malloc'ed. */
int sl_peft_config_json(const struct sl_adapter *, const struct sl_model_config *, const char *base_model,
    char **out, size_t *len);
int sl_peft_safetensors(struct sl_adapter *, const struct sl_model_config *, uint8_t **out, size_t *len);
/* Both, to DIR (created where missing), each by write to a temporary name, fsync, rename. */
int sl_peft_save(struct sl_adapter *, const struct sl_model_config *, const char *base_model, const char *dir,
    char *err, size_t err_cap);
