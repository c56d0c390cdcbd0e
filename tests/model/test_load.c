/* Models from directories: what we wrote, spoilt in one way at a time. */
#include "tests/model/files.h"
#include "tests/model/fixture.h"
#include "trainer/model/model.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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
static const char FILE_NAME[] = "model.safetensors";

static char *saved(const struct sl_model_config *config)
{
    char *dir = files_dir(), err[256] = "";
    struct sl_model *m = fixture_model(config, 5);
    if (sl_model_save(m, dir, SL_DTYPE_F32, err, sizeof err))
        fail_msg("%s", err);
    sl_model_free(m);
    return dir;
}

static void loads_the_same(const char *dir, const struct sl_model_config *config)
{
    struct sl_model *want = fixture_model(config, 5), *m;
    char err[400] = "";
    if (sl_model_load(dir, &m, err, sizeof err))
        fail_msg("%s", err);
    assert_int_equal(sl_model_param_count(m), sl_model_param_count(want));
    for (uint32_t i = 0; i < sl_model_param_count(m); i++) {
        struct sl_param *a = sl_model_param(m, i), *b = sl_model_param(want, i);
        assert_string_equal(a->name, b->name);
        assert_memory_equal(a->data, b->data, a->n * sizeof(float));
    }
    sl_model_free(m);
    sl_model_free(want);
}

static void refused(const char *dir, int code, const char *why)
{
    struct sl_model *m = (struct sl_model *)1;
    char err[400] = "";
    int got = sl_model_load(dir, &m, err, sizeof err);
    if (got != code || !strstr(err, why) || strchr(err, '\n'))
        fail_msg("%d \"%s\", not %d with \"%s\"", got, err, code, why);
    assert_null(m);
}

/* Gives every tensor a name without the first `prefix` characters where it starts with them. */
static void strip(struct files_tensors *t, const char *prefix)
{
    for (cJSON *v = t->header->child; v; v = v->next)
        if (strncmp(v->string, prefix, strlen(prefix)) == 0)
            memmove(v->string, v->string + strlen(prefix), strlen(v->string + strlen(prefix)) + 1);
}

static void rename_tensor(struct files_tensors *t, const char *from, const char *to)
{
    cJSON *v = cJSON_DetachItemFromObjectCaseSensitive(t->header, from);
    assert_non_null(v);
    cJSON_AddItemToObject(t->header, to, v);
}

static void load__what_was_saved(void **state)
{
    const struct sl_model_config *const configs[] = {&llama, &gpt2};
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned tied = 0; tied < 2; tied++) {
            struct sl_model_config c = *configs[i];
            c.tied_embeddings = tied;
            char *dir = saved(&c);
            loads_the_same(dir, &c);
            files_dir_remove(dir);
        }
    }
}

static void load__names_without_prefix_and_known_buffers(void **state)
{
    static const float ones[256];
    char *dir = saved(&llama);
    struct files_tensors t = files_tensors_read(dir, FILE_NAME);
    files_tensors_add(
        &t, "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", (uint32_t[]){3}, 1, ones, 12);
    strip(&t, "model.");
    files_tensors_write(dir, FILE_NAME, &t);
    loads_the_same(dir, &llama);
    files_dir_remove(dir);

    dir = saved(&gpt2);
    t = files_tensors_read(dir, FILE_NAME);
    files_tensors_add(&t, "transformer.h.1.attn.bias", "U8", (uint32_t[]){1, 1, 16, 16}, 4, ones, 256);
    files_tensors_add(&t, "h.0.attn.masked_bias", "F32", NULL, 0, ones, 4);
    strip(&t, "transformer.");
    files_tensors_write(dir, FILE_NAME, &t);
    loads_the_same(dir, &gpt2);
    files_dir_remove(dir);
}

static void load__either_name_of_a_tied_matrix(void **state)
{
    char *dir = saved(&llama);
    struct files_tensors t = files_tensors_read(dir, FILE_NAME);
    rename_tensor(&t, "model.embed_tokens.weight", "lm_head.weight");
    files_tensors_write(dir, FILE_NAME, &t);
    loads_the_same(dir, &llama);
    /* both names, the same values */
    struct sl_model *m = fixture_model(&llama, 5);
    struct sl_param *embed = sl_model_find(m, "model.embed_tokens.weight");
    t = files_tensors_read(dir, FILE_NAME);
    files_tensors_add(
        &t, "embed_tokens.weight", "F32", embed->dims, 2, embed->data, embed->n * sizeof(float));
    files_tensors_write(dir, FILE_NAME, &t);
    loads_the_same(dir, &llama);
    /* both names, another value */
    t = files_tensors_read(dir, FILE_NAME);
    t.data[t.len - 1] ^= 1;
    files_tensors_write(dir, FILE_NAME, &t);
    refused(dir, -EINVAL, "tie_word_embeddings");
    sl_model_free(m);
    files_dir_remove(dir);
}

static void load__untied_needs_both(void **state)
{
    struct sl_model_config c = llama;
    c.tied_embeddings = false;
    char *dir = saved(&c);
    struct files_tensors t = files_tensors_read(dir, FILE_NAME);
    files_tensors_drop(&t, "lm_head.weight");
    files_tensors_write(dir, FILE_NAME, &t);
    refused(dir, -EINVAL, "missing tensor lm_head.weight");
    files_dir_remove(dir);
}

static void load__refuses_tensors_by_name(void **state)
{
    static const char norm[] = "model.layers.1.input_layernorm.weight";
    static const float zeros[24];
    for (unsigned i = 0; i < 6; i++) {
        char *dir = saved(&llama);
        struct files_tensors t = files_tensors_read(dir, FILE_NAME);
        char why[200];
        cJSON *shape = cJSON_GetObjectItem(cJSON_GetObjectItem(t.header, norm), "shape");
        cJSON *range = cJSON_GetObjectItem(cJSON_GetObjectItem(t.header, norm), "data_offsets");
        switch (i) {
        case 0:
            files_tensors_drop(&t, norm);
            snprintf(why, sizeof why, "missing tensor %s", norm);
            break;
        case 1:
            files_tensors_add(
                &t, "model.layers.1.self_attn.q_proj.bias", "F32", (uint32_t[]){24}, 1, zeros, 96);
            snprintf(why, sizeof why, "unknown tensor model.layers.1.self_attn.q_proj.bias");
            break;
        case 2:
            files_tensors_add(&t, "layers.1.input_layernorm.weight", "F32", (uint32_t[]){24}, 1, zeros, 96);
            snprintf(why, sizeof why, "duplicate tensor layers.1.input_layernorm.weight");
            break;
        case 3:
            cJSON_SetNumberHelper(shape->child, 12);
            cJSON_AddItemToArray(shape, cJSON_CreateNumber(2));
            snprintf(why, sizeof why, "%s: shape [12, 2], but config.json makes it [24]", norm);
            break;
        case 4:
            memcpy(t.data + (size_t)range->child->valuedouble + 8, "\0\0\300\177", 4); /* NaN */
            snprintf(why, sizeof why, "%s: a value is not finite", norm);
            break;
        default:
            t.len -= 50; /* half of the last tensor */
            snprintf(why, sizeof why, "truncated: model.norm.weight");
        }
        files_tensors_write(dir, FILE_NAME, &t);
        refused(dir, -EINVAL, why);
        files_dir_remove(dir);
    }
}

static void load__refuses_files(void **state)
{
    char *dir = saved(&llama), *path = files_path(dir, FILE_NAME), *config = files_path(dir, "config.json");
    assert_int_equal(truncate(path, 30), 0);
    refused(dir, -EINVAL, "truncated");
    assert_int_equal(unlink(path), 0);
    refused(dir, -ENOENT, "model.safetensors");
    files_write(dir, FILE_NAME, "\2\0\0\0\0\0\0\0{}", 10);
    refused(dir, -EINVAL, "missing tensor model.embed_tokens.weight");
    /* a config that asks for terabytes is refused before anything is allocated */
    static const char huge[] = "{\"model_type\":\"llama\",\"num_hidden_layers\":4000,\"hidden_size\":65536}";
    files_write(dir, "config.json", huge, strlen(huge));
    refused(dir, -EINVAL, "do not belong together");
    files_write(dir, "config.json", "{\"model_type\":\"opt\"}", 20);
    refused(dir, -EINVAL, "opt");
    assert_int_equal(unlink(config), 0);
    refused(dir, -ENOENT, "config.json");
    free(config);
    free(path);
    files_dir_remove(dir);
}

/* The model in two files, tensors dealt in turn. */
static void shard(const char *dir)
{
    static const char *const names[] = {
        "model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"};
    struct sl_model *m = fixture_model(&llama, 5);
    struct files_tensors t[2] = {{.header = cJSON_CreateObject()}, {.header = cJSON_CreateObject()}};
    cJSON *index = cJSON_CreateObject(), *map = cJSON_AddObjectToObject(index, "weight_map");
    for (uint32_t i = 0; i < sl_model_param_count(m); i++) {
        struct sl_param *p = sl_model_param(m, i);
        files_tensors_add(&t[i % 2], p->name, "F32", p->dims, p->n_dims, p->data, p->n * sizeof(float));
        cJSON_AddStringToObject(map, p->name, names[i % 2]);
    }
    for (unsigned i = 0; i < 2; i++)
        files_tensors_write(dir, names[i], &t[i]);
    char *text = cJSON_Print(index);
    files_write(dir, "model.safetensors.index.json", text, strlen(text));
    free(text);
    cJSON_Delete(index);
    sl_model_free(m);
    char *path = files_path(dir, FILE_NAME);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void load__sharded(void **state)
{
    static const char other[] = "model-00002-of-00002.safetensors"; /* it is the last of 20: in 00001 */
    static const char *const index = "model.safetensors.index.json";
    char *dir = saved(&llama);
    shard(dir);
    loads_the_same(dir, &llama);
    /* a tensor that the index places elsewhere */
    char *text = files_read(dir, index, NULL);
    cJSON *root = cJSON_Parse(text), *map = cJSON_GetObjectItem(root, "weight_map");
    free(text);
    cJSON_ReplaceItemInObject(map, "model.norm.weight", cJSON_CreateString(other));
    text = cJSON_Print(root);
    files_write(dir, index, text, strlen(text));
    free(text);
    refused(dir, -EINVAL, "model.norm.weight is here, but the index puts it into another file");
    /* a path out of the directory */
    cJSON_ReplaceItemInObject(map, "model.norm.weight", cJSON_CreateString("../other.safetensors"));
    text = cJSON_Print(root);
    files_write(dir, index, text, strlen(text));
    refused(dir, -EINVAL, "../other.safetensors");
    free(text);
    /* a shard that is not there */
    cJSON_ReplaceItemInObject(map, "model.norm.weight", cJSON_CreateString("gone.safetensors"));
    text = cJSON_Print(root);
    files_write(dir, index, text, strlen(text));
    refused(dir, -ENOENT, "gone.safetensors");
    free(text);
    cJSON_Delete(root);
    files_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(load__what_was_saved),
        cmocka_unit_test(load__names_without_prefix_and_known_buffers),
        cmocka_unit_test(load__either_name_of_a_tied_matrix),
        cmocka_unit_test(load__untied_needs_both),
        cmocka_unit_test(load__refuses_tensors_by_name),
        cmocka_unit_test(load__refuses_files),
        cmocka_unit_test(load__sharded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
