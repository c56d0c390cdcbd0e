/* Reading PEFT adapters. A key of adapter_config.json that we do not know must be off (null, false, 0 or
 * empty): PEFT adds features by adding keys, and one that is on would change what the adapter computes. */
#include "trainer/model/peft.h"
#include "trainer/model/fail.h"
#include "trainer/model/json.h"
#include "trainer/model/peft_internal.h"
#include "trainer/model/safetensors.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG = 16 << 20, MAX_RANK = 1 << 14 };

static bool is_off(const cJSON *v)
{
    if (cJSON_IsNumber(v))
        return v->valuedouble == 0;
    if (cJSON_IsString(v))
        return !*v->valuestring;
    return cJSON_IsNull(v) || cJSON_IsFalse(v) || (!v->child && (cJSON_IsArray(v) || cJSON_IsObject(v)));
}

/* Keys that say nothing about what the adapter computes once it is trained, or that are read elsewhere here.
 * fan_in_fan_out follows from the architecture (PEFT corrects it likewise); lora_dropout is for training
 * only. */
static const char *const passed_over[] = {"auto_mapping", "base_model_name_or_path", "revision",
    "inference_mode", "peft_version", "layers_pattern", "megatron_core", "qalora_group_size",
    "fan_in_fan_out", "lora_dropout", "r", "lora_alpha", "target_modules", "peft_type", "task_type", "bias",
    "init_lora_weights"};

/* A key that must be one of two strings, null or absent. */
static int check_word(const cJSON *root, const char *what, const char *key, const char *a, const char *b,
    char *err, size_t err_cap)
{
    const cJSON *v = sl_json_get(root, key);
    if (!v || cJSON_IsNull(v))
        return 0;
    const char *word = cJSON_IsString(v) ? v->valuestring : "?";
    if (strcmp(word, a) == 0 || strcmp(word, b) == 0)
        return 0;
    return sl_fail(
        -EINVAL, err, err_cap, "%s: %s \"%.60s\" is not supported (\"%s\" is)", what, key, word, a);
}

static int check_config_keys(const cJSON *root, const char *what, char *err, size_t err_cap)
{
    for (const cJSON *v = root->child; v; v = v->next) {
        bool known = false;
        for (unsigned i = 0; i < sizeof passed_over / sizeof *passed_over; i++)
            known |= strcmp(v->string, passed_over[i]) == 0;
        if (!known && !is_off(v))
            return sl_fail(-EINVAL, err, err_cap, "%s: %.100s is not supported", what, v->string);
    }
    int code = 0;
    if (!sl_json_is_set(root, "peft_type"))
        code = sl_fail(-EINVAL, err, err_cap, "%s: peft_type is missing (\"LORA\")", what);
    if (!code)
        code = check_word(root, what, "peft_type", "LORA", "LORA", err, err_cap);
    if (!code)
        code = check_word(root, what, "task_type", "CAUSAL_LM", "CAUSAL_LM", err, err_cap);
    if (!code)
        code = check_word(root, what, "bias", "none", "none", err, err_cap);
    const cJSON *init =
        sl_json_get(root, "init_lora_weights"); /* some schemes also change the base weights */
    if (!code && !cJSON_IsBool(init))
        code = check_word(root, what, "init_lora_weights", "gaussian", "gaussian", err, err_cap);
    return code;
}

/* The linear layers that one entry of target_modules selects: PEFT matches whole path components from the
 * end. */
static uint32_t match_target(enum sl_family family, const char *entry)
{
    uint32_t bits = 0;
    size_t len = strlen(entry);
    for (unsigned t = sl_family_first_target(family); t < sl_family_end_target(family); t++) {
        const char *path = sl_target_path(t);
        size_t n = strlen(path);
        if (len && len <= n && strcmp(path + n - len, entry) == 0 && (len == n || path[n - len - 1] == '.'))
            bits |= 1u << t;
    }
    return bits;
}

static int read_targets(
    const cJSON *root, const char *what, enum sl_family family, uint32_t *targets, char *err, size_t err_cap)
{
    const cJSON *v = sl_json_get(root, "target_modules");
    *targets = 0;
    if (cJSON_IsString(v) && strcmp(v->valuestring, "all-linear") == 0) {
        for (unsigned t = sl_family_first_target(family); t < sl_family_end_target(family); t++)
            *targets |= 1u << t;
        return 0;
    }
    if (!cJSON_IsArray(v) || !v->child)
        return sl_fail(-EINVAL, err, err_cap,
            "%s: target_modules must be a list of names (patterns are not supported)", what);
    for (const cJSON *e = v->child; e; e = e->next) {
        uint32_t bits = cJSON_IsString(e) ? match_target(family, e->valuestring) : 0;
        if (!bits)
            return sl_fail(-EINVAL, err, err_cap,
                "%s: target_modules: \"%.60s\" is no linear layer of this model", what,
                cJSON_IsString(e) ? e->valuestring : "?");
        *targets |= bits;
    }
    return 0;
}

int sl_peft_config_parse(const char *json, size_t len, const char *what, enum sl_family family,
    struct sl_lora_config *lora, char *err, size_t err_cap)
{
    cJSON *root;
    *lora = (struct sl_lora_config){.rank = 8, .alpha = 8}; /* LoraConfig's defaults */
    int code = sl_json_parse(json, len, what, &root, err, err_cap);
    if (code)
        return code;
    if (!cJSON_IsObject(root))
        code = sl_fail(-EINVAL, err, err_cap, "%s: not an object", what);
    if (!code)
        code = check_config_keys(root, what, err, err_cap);
    if (!code)
        code = sl_json_u32(root, "r", what, 1, MAX_RANK, &lora->rank, err, err_cap);
    if (!code)
        code = sl_json_float(root, "lora_alpha", what, 0, 1e9, &lora->alpha, err, err_cap);
    if (!code)
        code = read_targets(root, what, family, &lora->targets, err, err_cap);
    cJSON_Delete(root);
    return code;
}

static int read_config(
    const char *dir, enum sl_family family, struct sl_lora_config *lora, char *err, size_t err_cap)
{
    char *path = NULL, *text;
    size_t len;
    if (asprintf(&path, "%s/adapter_config.json", dir) < 0)
        return sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", dir);
    int code = sl_read_file(path, MAX_CONFIG, &text, &len, err, err_cap);
    if (!code) {
        code = sl_peft_config_parse(text, len, path, family, lora, err, err_cap);
        free(text);
    }
    free(path);
    return code;
}

void sl_peft_tensor_name(
    enum sl_family family, uint32_t layer, enum sl_target target, bool b, char name[SL_PEFT_NAME_CAP])
{
    snprintf(name, SL_PEFT_NAME_CAP, "base_model.model.%s%u.%s.lora_%c.weight",
        sl_family_block_prefix(family), layer, sl_target_path(target), b ? 'B' : 'A');
}

static int load_factor(const struct sl_st_file *st, bool *used, const char *name, uint32_t rows,
    uint32_t cols, float *dst, char *err, size_t err_cap)
{
    for (uint32_t i = 0; i < st->header.n; i++) {
        const struct sl_st_tensor *t = &st->header.tensors[i];
        if (strcmp(t->name, name) != 0)
            continue;
        if (t->n_dims != 2 || t->dims[0] != rows || t->dims[1] != cols)
            return sl_fail(-EINVAL, err, err_cap,
                "%s: %.150s: the shape is not [%u, %u] (r, or another base model?)", st->path, name, rows,
                cols);
        used[i] = true;
        return sl_st_read(st, t, dst, err, err_cap);
    }
    return sl_fail(-EINVAL, err, err_cap, "%s: missing tensor %s", st->path, name);
}

static int load_factors(const struct sl_st_file *st, const struct sl_model_config *config,
    struct sl_adapter *adapter, bool *used, char *err, size_t err_cap)
{
    const struct sl_lora_config *lora = sl_adapter_lora(adapter);
    char name[SL_PEFT_NAME_CAP];
    int code = 0;
    for (uint32_t l = 0; l < config->n_layers && !code; l++) {
        for (unsigned t = 0; t < SL_TARGET_COUNT && !code; t++) {
            uint32_t in, out;
            if (!(lora->targets & 1u << t))
                continue;
            sl_target_dims(config, t, &in, &out);
            sl_peft_tensor_name(config->family, l, t, false, name);
            code = load_factor(st, used, name, lora->rank, in, sl_adapter_a(adapter, l, t), err, err_cap);
            if (code)
                break;
            sl_peft_tensor_name(config->family, l, t, true, name);
            code = load_factor(st, used, name, out, lora->rank, sl_adapter_b(adapter, l, t), err, err_cap);
        }
    }
    for (uint32_t i = 0; i < st->header.n && !code; i++)
        if (!used[i])
            code = sl_fail(
                -EINVAL, err, err_cap, "%s: unknown tensor %.150s", st->path, st->header.tensors[i].name);
    return code;
}

/* Values that the config asks for, against those that the file holds: before memory is allocated for them. */
static int check_size(const struct sl_st_file *st, const struct sl_model_config *config,
    const struct sl_lora_config *lora, char *err, size_t err_cap)
{
    static const double slack = 1 << 22; /* a missing tensor is to be named, not taken for this */
    double want = 0, have = 0;
    for (unsigned t = 0; t < SL_TARGET_COUNT; t++) {
        uint32_t in, out;
        if (!(lora->targets & 1u << t))
            continue;
        sl_target_dims(config, t, &in, &out);
        want += (double)lora->rank * ((double)in + out) * config->n_layers;
    }
    for (uint32_t i = 0; i < st->header.n; i++)
        have += (double)st->header.tensors[i].n;
    if (want <= slack + 4 * have)
        return 0;
    return sl_fail(-EINVAL, err, err_cap, "%s: holds %.0f values; r %u on this model makes %.0f", st->path,
        have, lora->rank, want);
}

int sl_peft_load(
    const char *dir, const struct sl_model_config *config, struct sl_adapter **out, char *err, size_t err_cap)
{
    struct sl_lora_config lora;
    struct sl_st_file st;
    char *path = NULL;
    *out = NULL;
    int code = read_config(dir, config->family, &lora, err, err_cap);
    if (code)
        return code;
    if (asprintf(&path, "%s/adapter_model.safetensors", dir) < 0)
        return sl_fail(-ENOMEM, err, err_cap, "%s: out of memory", dir);
    code = sl_st_open(path, &st, err, err_cap);
    free(path);
    if (code)
        return code;
    bool *used = calloc(st.header.n ? st.header.n : 1, sizeof *used);
    struct sl_adapter *adapter = NULL;
    code = check_size(&st, config, &lora, err, err_cap);
    if (!code) {
        code = used ? sl_adapter_create(config, &lora, 0, config->n_layers, &adapter) : -ENOMEM;
        if (code)
            sl_fail(code, err, err_cap, "%s: %s", dir, strerror(-code));
        else
            code = load_factors(&st, config, adapter, used, err, err_cap);
    }
    free(used);
    sl_st_close(&st);
    if (code)
        sl_adapter_free(adapter);
    else
        *out = adapter;
    return code;
}
