/* config.json of the two families. A key that would change what the network computes, and that we do not
 * compute, is refused; keys about training, generation and bookkeeping (dropouts, initializer_range, ...) are
 * passed over. */
#include "trainer/model/config.h"
#include "trainer/model/fail.h"
#include "trainer/model/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WHAT "config.json"

enum { /* bounds on what a file may ask for; far above any model these families have */
    MAX_LAYERS = 1 << 12,
    MAX_WIDTH = 1 << 17,
    MAX_HEADS = 1 << 12,
    MAX_VOCAB = 1 << 22,
    MAX_POSITIONS = 1 << 24,
};

struct reader {
    const cJSON *root;
    char *err;
    size_t err_cap;
    int code;
};

static void read_u32(struct reader *r, const char *key, uint32_t max, uint32_t *out)
{
    if (!r->code)
        r->code = sl_json_u32(r->root, key, WHAT, 1, max, out, r->err, r->err_cap);
}

static void read_float(struct reader *r, const char *key, double min, double max, float *out)
{
    if (!r->code)
        r->code = sl_json_float(r->root, key, WHAT, min, max, out, r->err, r->err_cap);
}

static void read_bool(struct reader *r, const char *key, bool *out)
{
    if (!r->code)
        r->code = sl_json_bool(r->root, key, WHAT, out, r->err, r->err_cap);
}

static void refuse(struct reader *r, const char *key, const char *why)
{
    if (!r->code)
        r->code = sl_fail(-EINVAL, r->err, r->err_cap, WHAT ": %s: %s", key, why);
}

/* The value says that the feature is off: null, false, 0, "" or an empty list or object. */
static bool is_off(const cJSON *v)
{
    if (cJSON_IsNumber(v))
        return v->valuedouble == 0;
    if (cJSON_IsString(v))
        return !*v->valuestring;
    return cJSON_IsNull(v) || cJSON_IsFalse(v) || (!v->child && (cJSON_IsArray(v) || cJSON_IsObject(v)));
}

/* Keys that, switched on, make a model other than the one we compute. Some belong to neighbours of Llama and
 * GPT-2: a file that says them was not made for our network. */
static const char *const unsupported[] = {"quantization_config", "compression_config", "auto_map",
    "rope_scaling", "sliding_window", "use_sliding_window", "attention_bias", "attention_out_bias",
    "mlp_bias", "qkv_bias", "use_bias", "use_qkv_bias", "use_qk_norm", "qk_norm", "qk_layernorm", "clip_qkv",
    "add_cross_attention", "is_encoder_decoder", "cross_attention_hidden_size",
    "scale_attn_by_inverse_layer_idx", "attn_logit_softcapping", "final_logit_softcapping", "num_experts",
    "num_local_experts", "n_routed_experts", "alibi", "use_alibi", "no_rope_layers", "kv_lora_rank",
    "q_lora_rank", "pruned_heads", "chunk_size_feed_forward", "use_parallel_residual", "parallel_attn",
    "prefix_size"};

/* Keys that must be 1 where they are given. */
static const char *const must_be_one[] = {"partial_rotary_factor", "rotary_pct", "residual_multiplier",
    "embedding_multiplier", "logits_scaling", "logit_scale", "rope_scaling_factor"};

static void check_unsupported(struct reader *r)
{
    for (unsigned i = 0; i < sizeof unsupported / sizeof *unsupported; i++) {
        const char *key = unsupported[i];
        const cJSON *v = sl_json_get(r->root, key);
        /* Qwen-like files give a window and say beside it that it is not used. */
        if (strcmp(key, "sliding_window") == 0 && cJSON_IsFalse(sl_json_get(r->root, "use_sliding_window")))
            continue;
        if (v && !is_off(v))
            refuse(r, key, "not supported");
    }
    for (unsigned i = 0; i < sizeof must_be_one / sizeof *must_be_one; i++) {
        const cJSON *v = sl_json_get(r->root, must_be_one[i]);
        if (v && !cJSON_IsNull(v) && !(cJSON_IsNumber(v) && v->valuedouble == 1))
            refuse(r, must_be_one[i], "not supported");
    }
    const cJSON *types = sl_json_get(r->root, "layer_types");
    for (const cJSON *v = cJSON_IsArray(types) ? types->child : NULL; v; v = v->next)
        if (!cJSON_IsString(v) || strcmp(v->valuestring, "full_attention") != 0)
            refuse(r, "layer_types", "only full_attention is supported");
}

static void read_family(struct reader *r, enum sl_family *family)
{
    static const struct {
        const char *type, *architecture;
    } known[] = {
        [SL_FAMILY_LLAMA] = {"llama", "LlamaForCausalLM"}, [SL_FAMILY_GPT2] = {"gpt2", "GPT2LMHeadModel"}};
    const cJSON *type = sl_json_get(r->root, "model_type"), *list = sl_json_get(r->root, "architectures");
    const cJSON *first = cJSON_IsArray(list) ? list->child : NULL;
    bool has_type = type && !cJSON_IsNull(type), has_list = list && !cJSON_IsNull(list);
    if (!has_type && !has_list) {
        refuse(r, "model_type", "is missing (\"llama\" or \"gpt2\")");
        return;
    }
    for (unsigned f = 0; f < 2; f++) {
        bool type_fits = cJSON_IsString(type) && strcmp(type->valuestring, known[f].type) == 0;
        bool list_fits =
            cJSON_IsString(first) && !first->next && strcmp(first->valuestring, known[f].architecture) == 0;
        if ((type_fits || !has_type) && (list_fits || !has_list)) {
            *family = (enum sl_family)f;
            return;
        }
    }
    bool by_type =
        cJSON_IsString(type) && strcmp(type->valuestring, "llama") && strcmp(type->valuestring, "gpt2");
    const cJSON *bad = by_type || !cJSON_IsString(first) ? type : first;
    if (!r->code)
        r->code = sl_fail(-EINVAL, r->err, r->err_cap,
            WHAT ": %s \"%.60s\" is not supported (LlamaForCausalLM and GPT2LMHeadModel are)",
            bad == type ? "model_type" : "architectures", cJSON_IsString(bad) ? bad->valuestring : "?");
}

/* A token id, null, or (Llama 3) a list of them, of which the first counts. */
static void read_token(struct reader *r, const char *key, uint32_t vocab, int32_t *out)
{
    const cJSON *v = sl_json_get(r->root, key);
    if (!v) {
        if (*out >= (int32_t)vocab) /* Hugging Face's default, of another vocabulary */
            *out = -1;
        return;
    }
    if (cJSON_IsArray(v) && v->child)
        v = v->child;
    if (cJSON_IsNull(v) || (cJSON_IsNumber(v) && v->valuedouble == -1)) {
        *out = -1;
        return;
    }
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= 0 && v->valuedouble < vocab) ||
        v->valuedouble != floor(v->valuedouble))
        refuse(r, key, "must be a token id below vocab_size");
    else
        *out = (int32_t)v->valuedouble;
}

static void check_activation(struct reader *r, const char *key, const char *first, const char *second)
{
    const cJSON *v = sl_json_get(r->root, key);
    if (!v || cJSON_IsNull(v))
        return;
    const char *name = cJSON_IsString(v) ? v->valuestring : "";
    if (strcmp(name, first) != 0 && strcmp(name, second) != 0 && !r->code)
        r->code = sl_fail(
            -EINVAL, r->err, r->err_cap, WHAT ": %s \"%.40s\" is not supported (%s is)", key, name, first);
}

/* transformers 5 moved rope_theta into rope_parameters. */
static void read_rope(struct reader *r, float *theta)
{
    read_float(r, "rope_theta", 1e-3, 1e12, theta);
    const cJSON *p = sl_json_get(r->root, "rope_parameters");
    if (!p || cJSON_IsNull(p))
        return;
    const cJSON *type = sl_json_get(p, "rope_type");
    for (const cJSON *v = p->child; v; v = v->next)
        if (strcmp(v->string, "rope_theta") != 0 && strcmp(v->string, "rope_type") != 0)
            refuse(r, "rope_parameters", "only rope_type \"default\" with rope_theta is supported");
    if (!cJSON_IsObject(p) || (type && (!cJSON_IsString(type) || strcmp(type->valuestring, "default") != 0)))
        refuse(r, "rope_parameters", "only rope_type \"default\" with rope_theta is supported");
    if (!r->code)
        r->code =
            sl_json_float(p, "rope_theta", WHAT ": rope_parameters", 1e-3, 1e12, theta, r->err, r->err_cap);
}

static void read_llama(struct reader *r, struct sl_model_config *c)
{
    *c = (struct sl_model_config){.family = SL_FAMILY_LLAMA, /* the rest: LlamaConfig's defaults */
        .n_layers = 32,
        .d_model = 4096,
        .n_heads = 32,
        .d_ff = 11008,
        .vocab = 32000,
        .max_positions = 2048,
        .norm_eps = 1e-6f,
        .rope_theta = 10000.0f,
        .bos_id = 1,
        .eos_id = 2};
    read_u32(r, "vocab_size", MAX_VOCAB, &c->vocab);
    read_u32(r, "hidden_size", MAX_WIDTH, &c->d_model);
    read_u32(r, "intermediate_size", MAX_WIDTH, &c->d_ff);
    read_u32(r, "num_hidden_layers", MAX_LAYERS, &c->n_layers);
    read_u32(r, "num_attention_heads", MAX_HEADS, &c->n_heads);
    c->n_kv_heads = c->n_heads;
    read_u32(r, "num_key_value_heads", MAX_HEADS, &c->n_kv_heads);
    read_u32(r, "max_position_embeddings", MAX_POSITIONS, &c->max_positions);
    read_float(r, "rms_norm_eps", 0, 1, &c->norm_eps);
    read_bool(r, "tie_word_embeddings", &c->tied_embeddings);
    check_activation(r, "hidden_act", "silu", "swish");
    read_rope(r, &c->rope_theta);
    if (r->code)
        return;
    if (!sl_json_is_set(r->root, "head_dim") && c->d_model % c->n_heads)
        refuse(r, "hidden_size", "is not a multiple of num_attention_heads, and there is no head_dim");
    c->head_dim = c->d_model / c->n_heads;
    read_u32(r, "head_dim", MAX_WIDTH, &c->head_dim);
    if (c->n_heads % c->n_kv_heads)
        refuse(r, "num_key_value_heads", "does not divide num_attention_heads");
    if (!c->head_dim || c->head_dim % 2)
        refuse(r, "head_dim", "must be even for rotary positions");
    if ((uint64_t)c->head_dim * c->n_heads > MAX_WIDTH)
        refuse(r, "head_dim", "times num_attention_heads is too large");
}

static void read_gpt2(struct reader *r, struct sl_model_config *c)
{
    *c = (struct sl_model_config){.family = SL_FAMILY_GPT2, /* the rest: GPT2Config's defaults */
        .n_layers = 12,
        .d_model = 768,
        .n_heads = 12,
        .vocab = 50257,
        .max_positions = 1024,
        .norm_eps = 1e-5f,
        .tied_embeddings = true,
        .bos_id = 50256,
        .eos_id = 50256};
    bool scaled = true;
    read_u32(r, "vocab_size", MAX_VOCAB, &c->vocab);
    read_u32(r, "n_embd", MAX_WIDTH / 4, &c->d_model);
    c->d_ff = 4 * c->d_model;
    read_u32(r, "n_inner", MAX_WIDTH, &c->d_ff);
    read_u32(r, "n_layer", MAX_LAYERS, &c->n_layers);
    read_u32(r, "n_head", MAX_HEADS, &c->n_heads);
    read_u32(r, "n_positions", MAX_POSITIONS, &c->max_positions);
    read_float(r, "layer_norm_epsilon", 0, 1, &c->norm_eps);
    read_bool(r, "tie_word_embeddings", &c->tied_embeddings);
    read_bool(r, "scale_attn_weights", &scaled);
    check_activation(
        r, "activation_function", "gelu_new", "gelu_pytorch_tanh"); /* two names of one function */
    if (!scaled)
        refuse(r, "scale_attn_weights", "false is not supported");
    if (c->d_model % c->n_heads)
        refuse(r, "n_embd", "is not a multiple of n_head");
    c->n_kv_heads = c->n_heads;
    c->head_dim = c->d_model / c->n_heads;
}

int sl_model_config_parse(
    const char *json, size_t len, struct sl_model_config *config, char *err, size_t err_cap)
{
    cJSON *root;
    memset(config, 0, sizeof *config);
    int code = sl_json_parse(json, len, WHAT, &root, err, err_cap);
    if (code)
        return code;
    struct reader r = {.root = root, .err = err, .err_cap = err_cap};
    enum sl_family family = SL_FAMILY_LLAMA;
    if (!cJSON_IsObject(root))
        r.code = sl_fail(-EINVAL, err, err_cap, WHAT ": not an object");
    if (!r.code)
        read_family(&r, &family);
    if (!r.code)
        check_unsupported(&r);
    if (!r.code) {
        if (family == SL_FAMILY_LLAMA)
            read_llama(&r, config);
        else
            read_gpt2(&r, config);
    }
    if (!r.code) {
        read_token(&r, "bos_token_id", config->vocab, &config->bos_id);
        read_token(&r, "eos_token_id", config->vocab, &config->eos_id);
    }
    cJSON_Delete(root);
    if (r.code)
        memset(config, 0, sizeof *config);
    return r.code;
}

/* A float by the shortest decimal that reads back to the same float (cJSON would print the
 * double: 9.99999997e-07). */
static bool add_float(cJSON *object, const char *key, float value)
{
    char text[32];
    if (value == floorf(value) && value < 1e9f) {
        snprintf(text, sizeof text, "%.1f", (double)value);
        return cJSON_AddRawToObject(object, key, text) != NULL;
    }
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return cJSON_AddRawToObject(object, key, text) != NULL;
}

static bool add_token(cJSON *object, const char *key, int32_t id)
{
    return (id < 0 ? cJSON_AddNullToObject(object, key) : cJSON_AddNumberToObject(object, key, id)) != NULL;
}

static bool add_llama(cJSON *o, const struct sl_model_config *c)
{
    return cJSON_AddStringToObject(o, "model_type", "llama") &&
           cJSON_AddStringToObject(o, "hidden_act", "silu") &&
           cJSON_AddNumberToObject(o, "hidden_size", c->d_model) &&
           cJSON_AddNumberToObject(o, "intermediate_size", c->d_ff) &&
           cJSON_AddNumberToObject(o, "num_hidden_layers", c->n_layers) &&
           cJSON_AddNumberToObject(o, "num_attention_heads", c->n_heads) &&
           cJSON_AddNumberToObject(o, "num_key_value_heads", c->n_kv_heads) &&
           cJSON_AddNumberToObject(o, "head_dim", c->head_dim) &&
           cJSON_AddNumberToObject(o, "max_position_embeddings", c->max_positions) &&
           add_float(o, "rms_norm_eps", c->norm_eps) && add_float(o, "rope_theta", c->rope_theta) &&
           cJSON_AddNullToObject(o, "rope_scaling") && cJSON_AddFalseToObject(o, "attention_bias") &&
           cJSON_AddFalseToObject(o, "mlp_bias");
}

static bool add_gpt2(cJSON *o, const struct sl_model_config *c)
{
    return cJSON_AddStringToObject(o, "model_type", "gpt2") &&
           cJSON_AddStringToObject(o, "activation_function", "gelu_new") &&
           cJSON_AddNumberToObject(o, "n_embd", c->d_model) &&
           cJSON_AddNumberToObject(o, "n_inner", c->d_ff) &&
           cJSON_AddNumberToObject(o, "n_layer", c->n_layers) &&
           cJSON_AddNumberToObject(o, "n_head", c->n_heads) &&
           cJSON_AddNumberToObject(o, "n_positions", c->max_positions) &&
           add_float(o, "layer_norm_epsilon", c->norm_eps);
}

int sl_model_config_json(const struct sl_model_config *c, const char *dtype, char **out, size_t *len)
{
    *out = NULL;
    *len = 0;
    cJSON *o = cJSON_CreateObject();
    const char *architecture = c->family == SL_FAMILY_LLAMA ? "LlamaForCausalLM" : "GPT2LMHeadModel";
    cJSON *list = cJSON_AddArrayToObject(o, "architectures");
    bool ok = list && cJSON_AddItemToArray(list, cJSON_CreateString(architecture)) &&
              (c->family == SL_FAMILY_LLAMA ? add_llama(o, c) : add_gpt2(o, c)) &&
              cJSON_AddNumberToObject(o, "vocab_size", c->vocab) &&
              cJSON_AddBoolToObject(o, "tie_word_embeddings", c->tied_embeddings) &&
              add_token(o, "bos_token_id", c->bos_id) && add_token(o, "eos_token_id", c->eos_id) &&
              cJSON_AddStringToObject(o, "torch_dtype", dtype);
    *out = ok ? cJSON_Print(o) : NULL;
    cJSON_Delete(o);
    if (!*out)
        return -ENOMEM;
    *len = strlen(*out);
    return 0;
}
