/* Writing PEFT adapters. */
#include "trainer/model/fail.h"
#include "trainer/model/json.h"
#include "trainer/model/peft.h"
#include "trainer/model/peft_internal.h"
#include "trainer/model/replace.h"
#include "trainer/model/safetensors.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* The names PEFT selects the same layers by: the plain name, or more of the path where the plain name means
 * two layers of which only one is adapted (GPT-2's c_proj). */
static bool add_targets(cJSON *list, enum sl_family family, uint32_t targets)
{
    uint32_t done = 0;
    for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
        if (!(targets & 1u << t) || done & 1u << t)
            continue;
        uint32_t same = sl_target_bits(family, sl_target_name(t));
        bool all = (targets & same) == same;
        if (!cJSON_AddItemToArray(list, cJSON_CreateString(all ? sl_target_name(t) : sl_target_path(t))))
            return false;
        done |= all ? same : 1u << t;
    }
    return true;
}

static bool add_string_or_null(cJSON *o, const char *key, const char *text)
{
    return (text ? cJSON_AddStringToObject(o, key, text) : cJSON_AddNullToObject(o, key)) != NULL;
}

/* All keys of LoraConfig, in the order in which PEFT writes them (sorted). */
static bool add_config(
    cJSON *o, const struct sl_lora_config *lora, const struct sl_model_config *config, const char *base_model)
{
    bool gpt2 = config->family == SL_FAMILY_GPT2; /* Conv1D stores its weight [in, out] */
    return cJSON_AddObjectToObject(o, "alpha_pattern") && cJSON_AddNullToObject(o, "auto_mapping") &&
           add_string_or_null(o, "base_model_name_or_path", base_model) &&
           cJSON_AddStringToObject(o, "bias", "none") && cJSON_AddBoolToObject(o, "fan_in_fan_out", gpt2) &&
           cJSON_AddTrueToObject(o, "inference_mode") && cJSON_AddTrueToObject(o, "init_lora_weights") &&
           cJSON_AddNullToObject(o, "layer_replication") && cJSON_AddNullToObject(o, "layers_pattern") &&
           cJSON_AddNullToObject(o, "layers_to_transform") && cJSON_AddObjectToObject(o, "loftq_config") &&
           cJSON_AddNumberToObject(o, "lora_alpha", (double)lora->alpha) &&
           cJSON_AddNumberToObject(o, "lora_dropout", 0) && cJSON_AddNullToObject(o, "megatron_config") &&
           cJSON_AddStringToObject(o, "megatron_core", "megatron.core") &&
           cJSON_AddNullToObject(o, "modules_to_save") && cJSON_AddStringToObject(o, "peft_type", "LORA") &&
           cJSON_AddNumberToObject(o, "r", lora->rank) && cJSON_AddObjectToObject(o, "rank_pattern") &&
           cJSON_AddNullToObject(o, "revision") &&
           add_targets(cJSON_AddArrayToObject(o, "target_modules"), config->family, lora->targets) &&
           cJSON_AddStringToObject(o, "task_type", "CAUSAL_LM") && cJSON_AddFalseToObject(o, "use_dora") &&
           cJSON_AddFalseToObject(o, "use_rslora");
}

int sl_peft_config_json(const struct sl_adapter *adapter, const struct sl_model_config *config,
    const char *base_model, char **out, size_t *len)
{
    cJSON *o = cJSON_CreateObject();
    bool ok = add_config(o, sl_adapter_lora(adapter), config, base_model);
    *out = ok ? cJSON_Print(o) : NULL;
    cJSON_Delete(o);
    *len = *out ? strlen(*out) : 0;
    return *out ? 0 : -ENOMEM;
}

struct factor {
    const float *data;
    size_t n;
};

/* Every factor of the adapter in file order, with its name. Returns how many; with NULLs only counts. */
static uint32_t list_factors(struct sl_adapter *adapter, const struct sl_model_config *config,
    struct sl_st_entry *entries, struct factor *factors, char (*names)[SL_PEFT_NAME_CAP])
{
    const struct sl_lora_config *lora = sl_adapter_lora(adapter);
    uint32_t n = 0;
    for (uint32_t l = sl_adapter_first(adapter); l < sl_adapter_last(adapter); l++)
        for (unsigned t = 0; t < SL_TARGET_COUNT; t++)
            for (unsigned b = 0; b < 2 && lora->targets & 1u << t; b++, n++) {
                uint32_t in, out;
                if (!entries)
                    continue;
                sl_target_dims(config, t, &in, &out);
                sl_peft_tensor_name(config->family, l, t, b, names[n]);
                entries[n] = (struct sl_st_entry){names[n], 2, {b ? out : lora->rank, b ? lora->rank : in}};
                factors[n] = (struct factor){b ? sl_adapter_b(adapter, l, t) : sl_adapter_a(adapter, l, t),
                    (size_t)lora->rank * (b ? out : in)};
            }
    return n;
}

/* Header and values in one allocation. */
static int join(
    const struct sl_st_entry *entries, const struct factor *factors, uint32_t n, uint8_t **out, size_t *len)
{
    uint8_t *header;
    size_t header_len, total;
    int err = sl_st_header_build(entries, n, SL_DTYPE_F32, &header, &header_len);
    if (err)
        return err;
    total = header_len;
    for (uint32_t i = 0; i < n; i++)
        total += factors[i].n * sizeof(float);
    uint8_t *p = realloc(header, total);
    if (!p) {
        free(header);
        return -ENOMEM;
    }
    size_t at = header_len;
    for (uint32_t i = 0; i < n && !err; i++) {
        err = sl_st_encode(factors[i].data, factors[i].n, SL_DTYPE_F32, p + at);
        at += factors[i].n * sizeof(float);
    }
    if (err) {
        free(p);
        return err;
    }
    *out = p;
    *len = total;
    return 0;
}

int sl_peft_safetensors(
    struct sl_adapter *adapter, const struct sl_model_config *config, uint8_t **out, size_t *len)
{
    *out = NULL;
    *len = 0;
    uint32_t n = list_factors(adapter, config, NULL, NULL, NULL);
    struct sl_st_entry *entries = calloc(n ? n : 1, sizeof *entries);
    struct factor *factors = calloc(n ? n : 1, sizeof *factors);
    char(*names)[SL_PEFT_NAME_CAP] = calloc(n ? n : 1, sizeof *names);
    int err = -ENOMEM;
    if (entries && factors && names) {
        list_factors(adapter, config, entries, factors, names);
        err = join(entries, factors, n, out, len);
    }
    free(entries);
    free(factors);
    free(names);
    return err;
}

static int replace_both(
    const char *dir, const void *config, size_t config_len, const void *tensors, size_t tensors_len)
{
    struct sl_replace a = {.fd = -1}, b = {.fd = -1};
    int err = sl_replace_open(&a, dir, "adapter_config.json");
    if (!err)
        err = sl_replace_open(&b, dir, "adapter_model.safetensors");
    if (!err)
        err = sl_replace_write(&a, config, config_len);
    if (!err)
        err = sl_replace_write(&b, tensors, tensors_len);
    if (!err)
        err = sl_replace_flush(&a);
    if (!err)
        err = sl_replace_flush(&b);
    if (!err) /* both are on disk before either replaces its old self */
        err = sl_replace_commit(&b);
    if (!err)
        err = sl_replace_commit(&a);
    sl_replace_abort(&a);
    sl_replace_abort(&b);
    return err;
}

int sl_peft_save(struct sl_adapter *adapter, const struct sl_model_config *config, const char *base_model,
    const char *dir, char *err, size_t err_cap)
{
    char *json = NULL;
    uint8_t *tensors = NULL;
    size_t json_len, tensors_len;
    if (mkdir(dir, 0777) && errno != EEXIST)
        return sl_fail(-errno, err, err_cap, "%s: %s", dir, strerror(errno));
    int code = sl_peft_config_json(adapter, config, base_model, &json, &json_len);
    if (!code)
        code = sl_peft_safetensors(adapter, config, &tensors, &tensors_len);
    if (code == -ERANGE)
        code = sl_fail(-EINVAL, err, err_cap,
            "%s: the adapter has values that are not finite; nothing was written", dir);
    else if (code || (code = replace_both(dir, json, json_len, tensors, tensors_len)))
        sl_fail(code, err, err_cap, "%s: %s; the old files stay", dir, strerror(-code));
    free(json);
    free(tensors);
    return code;
}
