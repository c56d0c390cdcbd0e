/* The subcommands of sluice-train. */
#pragma once

#include "trainer/tools/cli.h"

extern const struct sl_command sl_eval_command, sl_lora_command, sl_pretrain_command, sl_tokenizer_command,
    sl_generate_command, sl_fedlora_command, sl_merge_command, sl_encode_command, sl_overlap_command,
    sl_stability_command;
