/* adapter_config.json, for both families. */
#include "trainer/model/peft_internal.h"

#include <stdlib.h>
#include <string.h>

size_t sl_fuzz_seed(unsigned index, uint8_t *buf, size_t cap)
{
    static const char first[] =
        "{\"peft_type\":\"LORA\",\"task_type\":\"CAUSAL_LM\",\"r\":8,\"lora_alpha\":16,\"lora_dropout\":0.05,"
        "\"bias\":\"none\",\"target_modules\":[\"q_proj\",\"self_attn.v_proj\"],\"use_dora\":false,"
        "\"rank_pattern\":{},\"modules_to_save\":null}";
    static const char second[] = "{\"peft_type\":\"LORA\",\"fan_in_fan_out\":true,\"r\":4,"
                                 "\"target_modules\":[\"c_attn\",\"mlp.c_proj\"]}";
    static const char third[] =
        "{\"peft_type\":\"LORA\",\"target_modules\":\"all-linear\",\"init_lora_weights\":\"gaussian\"}";
    static const char *const seeds[] = {first, second, third};
    if (index >= 3)
        return 0;
    size_t n = strlen(seeds[index]);
    memcpy(buf, seeds[index], n);
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint32_t bits[] = {[SL_FAMILY_LLAMA] = (1u << SL_C_ATTN) - 1,
        [SL_FAMILY_GPT2] = (1u << SL_TARGET_COUNT) - (1u << SL_C_ATTN)};
    for (unsigned family = 0; family < 2; family++) {
        struct sl_lora_config lora;
        char err[256];
        if (sl_peft_config_parse((const char *)data, size, "fuzz", family, &lora, err, sizeof err))
            continue;
        if (!lora.rank || !lora.targets || lora.targets & ~bits[family] || !(lora.alpha >= 0))
            abort();
    }
    return 0;
}
