#include "tests/model/files.h"
#include "tests/model/fixture.h"
#include "trainer/model/peft.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include <cmocka.h>

static const struct sl_model_config llama = {.family = SL_FAMILY_LLAMA,
    .n_layers = 2,
    .d_model = 24,
    .n_heads = 4,
    .n_kv_heads = 2,
    .head_dim = 6,
    .d_ff = 40,
    .vocab = 33,
    .max_positions = 16,
    .norm_eps = 1e-5f,
    .rope_theta = 1e4f,
    .tied_embeddings = true,
    .bos_id = 0,
    .eos_id = 0};
static const struct sl_model_config gpt2 = {.family = SL_FAMILY_GPT2,
    .n_layers = 2,
    .d_model = 24,
    .n_heads = 4,
    .n_kv_heads = 4,
    .head_dim = 6,
    .d_ff = 96,
    .vocab = 33,
    .max_positions = 16,
    .norm_eps = 1e-5f,
    .tied_embeddings = true,
    .bos_id = 0,
    .eos_id = 0};
static const char TENSORS[] = "adapter_model.safetensors", CONFIG[] = "adapter_config.json";

static char *saved(const struct sl_model_config *config, uint32_t targets)
{
    const struct sl_lora_config lora = {.rank = 3, .alpha = 6.5f, .targets = targets, .seed = 11};
    struct sl_adapter *a = fixture_adapter(config, &lora, 0, config->n_layers);
    char *dir = files_dir(), err[300] = "";
    if (sl_peft_save(a, config, "base", dir, err, sizeof err))
        fail_msg("%s", err);
    sl_adapter_free(a);
    return dir;
}

static void loads_the_same(const char *dir, const struct sl_model_config *config, uint32_t targets)
{
    const struct sl_lora_config lora = {.rank = 3, .alpha = 6.5f, .targets = targets, .seed = 11};
    struct sl_adapter *want = fixture_adapter(config, &lora, 0, config->n_layers), *a;
    char err[300] = "";
    if (sl_peft_load(dir, config, &a, err, sizeof err))
        fail_msg("%s", err);
    assert_int_equal(sl_adapter_lora(a)->rank, 3);
    assert_true(sl_adapter_lora(a)->alpha == 6.5f);
    assert_int_equal(sl_adapter_lora(a)->targets, targets);
    for (uint32_t l = 0; l < config->n_layers; l++) {
        struct sl_block x = sl_adapter_block_all(a, l), y = sl_adapter_block_all(want, l);
        assert_int_equal(x.n, y.n);
        assert_memory_equal(x.data, y.data, x.n * sizeof(float));
    }
    sl_adapter_free(a);
    sl_adapter_free(want);
}

static void refused(const char *dir, const struct sl_model_config *config, const char *why)
{
    struct sl_adapter *a = (struct sl_adapter *)1;
    char err[400] = "";
    int code = sl_peft_load(dir, config, &a, err, sizeof err);
    if (code != -EINVAL || !strstr(err, why) || strchr(err, '\n'))
        fail_msg("%d \"%s\" does not say \"%s\"", code, err, why);
    assert_null(a);
}

static void save_load__round_trip(void **state)
{
    const uint32_t llama_targets[] = {
        1u << SL_Q_PROJ | 1u << SL_V_PROJ, fixture_all_targets(SL_FAMILY_LLAMA)};
    const uint32_t gpt2_targets[] = {1u << SL_C_ATTN, fixture_all_targets(SL_FAMILY_GPT2),
        1u << SL_MLP_C_PROJ | 1u << SL_C_FC, 1u << SL_ATTN_C_PROJ};
    for (unsigned i = 0; i < 2; i++) {
        char *dir = saved(&llama, llama_targets[i]);
        loads_the_same(dir, &llama, llama_targets[i]);
        files_dir_remove(dir);
    }
    for (unsigned i = 0; i < 4; i++) {
        char *dir = saved(&gpt2, gpt2_targets[i]);
        loads_the_same(dir, &gpt2, gpt2_targets[i]);
        files_dir_remove(dir);
    }
}

static void check_shape(const cJSON *header, const char *name, int rows, int cols)
{
    const cJSON *t = cJSON_GetObjectItemCaseSensitive(header, name);
    if (!t)
        fail_msg("%s is not there", name);
    const cJSON *shape = cJSON_GetObjectItem(t, "shape");
    assert_int_equal(shape->child->valueint, rows);
    assert_int_equal(shape->child->next->valueint, cols);
    assert_string_equal(cJSON_GetObjectItem(t, "dtype")->valuestring, "F32");
}

/* Names, shapes and keys as PEFT's save_pretrained leaves them. */
static void save__pefts_layout(void **state)
{
    char *dir = saved(&llama, 1u << SL_K_PROJ | 1u << SL_DOWN_PROJ);
    struct files_tensors t = files_tensors_read(dir, TENSORS);
    check_shape(t.header, "base_model.model.model.layers.1.self_attn.k_proj.lora_A.weight", 3, 24);
    check_shape(t.header, "base_model.model.model.layers.1.self_attn.k_proj.lora_B.weight", 12, 3);
    check_shape(t.header, "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight", 3, 40);
    check_shape(t.header, "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight", 24, 3);
    assert_int_equal(cJSON_GetArraySize(t.header), 1 + 2 * 2 * 2);
    files_tensors_write(dir, TENSORS, &t);
    char *text = files_read(dir, CONFIG, NULL);
    cJSON *c = cJSON_Parse(text);
    free(text);
    assert_string_equal(cJSON_GetObjectItem(c, "peft_type")->valuestring, "LORA");
    assert_string_equal(cJSON_GetObjectItem(c, "task_type")->valuestring, "CAUSAL_LM");
    assert_string_equal(cJSON_GetObjectItem(c, "base_model_name_or_path")->valuestring, "base");
    assert_int_equal(cJSON_GetObjectItem(c, "r")->valueint, 3);
    assert_true(cJSON_GetObjectItem(c, "lora_alpha")->valuedouble == 6.5);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItem(c, "fan_in_fan_out")));
    assert_string_equal(cJSON_GetObjectItem(c, "target_modules")->child->valuestring, "k_proj");
    assert_string_equal(cJSON_GetObjectItem(c, "target_modules")->child->next->valuestring, "down_proj");
    cJSON_Delete(c);
    files_dir_remove(dir);

    dir = saved(&gpt2, 1u << SL_C_ATTN | 1u << SL_MLP_C_PROJ);
    t = files_tensors_read(dir, TENSORS);
    check_shape(t.header, "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight", 3, 24);
    check_shape(t.header, "base_model.model.transformer.h.0.attn.c_attn.lora_B.weight", 72, 3);
    check_shape(t.header, "base_model.model.transformer.h.1.mlp.c_proj.lora_A.weight", 3, 96);
    files_tensors_write(dir, TENSORS, &t);
    text = files_read(dir, CONFIG, NULL);
    c = cJSON_Parse(text);
    free(text);
    assert_true(cJSON_IsTrue(cJSON_GetObjectItem(c, "fan_in_fan_out")));
    /* "c_proj" alone would mean attention's as well */
    assert_string_equal(cJSON_GetObjectItem(c, "target_modules")->child->next->valuestring, "mlp.c_proj");
    cJSON_Delete(c);
    files_dir_remove(dir);
}

static void write_text(const char *dir, const char *text)
{
    files_write(dir, CONFIG, text, strlen(text));
}

static void write_config(const char *dir, const char *more)
{
    char text[600];
    snprintf(text, sizeof text,
        "{\"peft_type\":\"LORA\",\"task_type\":\"CAUSAL_LM\",\"r\":3,\"lora_alpha\":6.5%s%s}",
        *more ? "," : "", more);
    write_text(dir, text);
}

/* What PEFT itself writes, of several versions. */
static void load__accepts_pefts_own_configs(void **state)
{
    static const char *const targets[] = {"\"target_modules\":[\"v_proj\",\"q_proj\"]",
        "\"target_modules\":[\"self_attn.q_proj\",\"v_proj\"],\"lora_dropout\":0.05,\"fan_in_fan_out\":true,"
        "\"bias\":\"none\"",
        "\"auto_mapping\":{\"base_model_class\":\"LlamaForCausalLM\"},\"init_lora_weights\":\"gaussian\","
        "\"target_modules\":[\"q_proj\",\"v_proj\"],\"qalora_group_size\":16,\"use_qalora\":false,\"peft_"
        "version\":\"0.17.1\","
        "\"lora_bias\":false,\"corda_config\":null,\"rank_pattern\":{},\"modules_to_save\":[],\"use_dora\":"
        "false"};
    char *dir = saved(&llama, 1u << SL_Q_PROJ | 1u << SL_V_PROJ);
    for (unsigned i = 0; i < 3; i++) {
        write_config(dir, targets[i]);
        loads_the_same(dir, &llama, 1u << SL_Q_PROJ | 1u << SL_V_PROJ);
    }
    files_dir_remove(dir);
    dir = saved(&llama, fixture_all_targets(SL_FAMILY_LLAMA));
    write_config(dir, "\"target_modules\":\"all-linear\"");
    loads_the_same(dir, &llama, fixture_all_targets(SL_FAMILY_LLAMA));
    files_dir_remove(dir);
}

static void load__refuses_config_by_name(void **state)
{
    static const char *const cases[][2] = {{"use_dora", "true"}, {"use_rslora", "true"}, {"bias", "\"all\""},
        {"modules_to_save", "[\"lm_head\"]"}, {"rank_pattern", "{\"q_proj\":4}"},
        {"alpha_pattern", "{\"q_proj\":4}"}, {"layers_to_transform", "[0]"}, {"layer_replication", "[[0,1]]"},
        {"lora_bias", "true"}, {"init_lora_weights", "\"pissa\""}, {"trainable_token_indices", "[1]"},
        {"some_new_feature", "true"}, {"target_parameters", "[\"x\"]"}, {"exclude_modules", "\"q_proj\""}};
    char *dir = saved(&llama, 1u << SL_Q_PROJ), more[200];
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(more, sizeof more, "\"target_modules\":[\"q_proj\"],\"%s\":%s", cases[i][0], cases[i][1]);
        write_config(dir, more);
        refused(dir, &llama, cases[i][0]);
    }
    write_config(dir, "");
    refused(dir, &llama, "target_modules");
    write_config(dir, "\"target_modules\":\".*q_proj\"");
    refused(dir, &llama, "target_modules");
    write_config(dir, "\"target_modules\":[\"c_attn\"]");
    refused(dir, &llama, "c_attn");
    write_config(dir, "\"target_modules\":[\"proj\"]");
    refused(dir, &llama, "\"proj\"");
    static const char *const whole[][2] = {{"{\"peft_type\":\"IA3\"}", "IA3"}, {"{}", "peft_type"},
        {"[]", "object"}, {"{\"peft_type\":\"LORA\",\"task_type\":\"SEQ_CLS\"}", "SEQ_CLS"},
        {"{\"peft_type\":\"LORA\",\"r\":0}", "r must be"},
        {"{\"peft_type\":\"LORA\",\"lora_alpha\":\"x\"}", "lora_alpha"}};
    for (unsigned i = 0; i < sizeof whole / sizeof *whole; i++) {
        write_text(dir, whole[i][0]);
        refused(dir, &llama, whole[i][1]);
    }
    files_dir_remove(dir);
}

static void load__refuses_tensors_by_name(void **state)
{
    static const char name[] = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
    static const float zeros[72];
    char *dir = saved(&llama, 1u << SL_Q_PROJ);
    size_t len;
    char *good = files_read(dir, TENSORS, &len);

    struct files_tensors t = files_tensors_read(dir, TENSORS);
    files_tensors_drop(&t, name);
    files_tensors_write(dir, TENSORS, &t);
    refused(dir, &llama, name);

    files_write(dir, TENSORS, good, len);
    t = files_tensors_read(dir, TENSORS);
    files_tensors_add(
        &t, "base_model.model.lm_head.lora_A.weight", "F32", (uint32_t[]){3, 24}, 2, zeros, 288);
    files_tensors_write(dir, TENSORS, &t);
    refused(dir, &llama, "unknown tensor base_model.model.lm_head.lora_A.weight");

    files_write(dir, TENSORS, good, len);
    write_text(dir, "{\"peft_type\":\"LORA\",\"r\":4,\"target_modules\":[\"q_proj\"]}");
    refused(dir, &llama, "shape");
    write_text(dir, "{\"peft_type\":\"LORA\",\"r\":16384,\"target_modules\":[\"q_proj\"]}");
    refused(dir, &llama, "shape");

    struct sl_model_config deeper = llama;
    deeper.n_layers = 3;
    write_text(dir, "{\"peft_type\":\"LORA\",\"r\":3,\"target_modules\":[\"q_proj\"]}");
    refused(dir, &deeper, "missing tensor base_model.model.model.layers.2.self_attn.q_proj.lora_A.weight");
    free(good);
    files_dir_remove(dir);
}

static void save__refuses_what_is_not_finite(void **state)
{
    const struct sl_lora_config lora = {.rank = 2, .alpha = 4, .targets = 1u << SL_Q_PROJ};
    struct sl_adapter *a = fixture_adapter(&llama, &lora, 0, 2);
    char *dir = files_dir(), err[300] = "";
    sl_adapter_b(a, 1, SL_Q_PROJ)[0] = NAN;
    assert_int_equal(sl_peft_save(a, &llama, NULL, dir, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "finite"));
    sl_adapter_free(a);
    files_dir_remove(dir);
}

static void save__full_disk_leaves_the_old_files(void **state)
{
    const struct sl_lora_config lora = {.rank = 64, .alpha = 4, .targets = 1u << SL_Q_PROJ};
    char *dir = saved(&llama, 1u << SL_Q_PROJ), err[300] = "";
    struct sl_adapter *a = fixture_adapter(&llama, &lora, 0, 2);
    struct rlimit old, tiny;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &old);
    tiny = old;
    tiny.rlim_cur = 4096;
    setrlimit(RLIMIT_FSIZE, &tiny);
    int code = sl_peft_save(a, &llama, NULL, dir, err, sizeof err);
    setrlimit(RLIMIT_FSIZE, &old);
    assert_int_equal(code, -EFBIG);
    loads_the_same(dir, &llama, 1u << SL_Q_PROJ);
    sl_adapter_free(a);
    files_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(save_load__round_trip),
        cmocka_unit_test(save__pefts_layout),
        cmocka_unit_test(load__accepts_pefts_own_configs),
        cmocka_unit_test(load__refuses_config_by_name),
        cmocka_unit_test(load__refuses_tensors_by_name),
        cmocka_unit_test(save__refuses_what_is_not_finite),
        cmocka_unit_test(save__full_disk_leaves_the_old_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
