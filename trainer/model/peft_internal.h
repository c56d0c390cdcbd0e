/* Shared by reading and writing of PEFT adapters. */
#pragma once

#include "trainer/model/lora.h"
#include "trainer/model/model_internal.h"

#include <stdbool.h>

enum { SL_PEFT_NAME_CAP = 128 };

/* "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight" */
void sl_peft_tensor_name(enum sl_family, uint32_t layer, enum sl_target, bool b, char name[SL_PEFT_NAME_CAP]);

/* adapter_config.json: rank, alpha and targets; the rest of *lora is zero. `what` names the file in errors.
 */
int sl_peft_config_parse(const char *json, size_t len, const char *what, enum sl_family,
    struct sl_lora_config *lora, char *err, size_t err_cap);
