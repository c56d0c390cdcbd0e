/* tokenizer.json files with one thing changed that we do not do: refused, and named. */
#include "tests/model/files.h"
#include "trainer/model/tokenizer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Puts the JSON `value` at a path of keys and indexes ("model/vocab", "added_tokens/0/lstrip"). */
static char *changed(const char *style, const char *path, const char *value)
{
    char name[64], *keys = strdup(path), *rest = keys, *key, *next;
    snprintf(name, sizeof name, "%s.json", style);
    char *text = files_read(GOLDEN_DIR "/tokenizers", name, NULL);
    cJSON *root = cJSON_Parse(text), *at = root, *put = cJSON_Parse(value);
    assert_non_null(put);
    for (key = strsep(&rest, "/"); (next = strsep(&rest, "/")); key = next)
        at =
            cJSON_IsArray(at) ? cJSON_GetArrayItem(at, atoi(key)) : cJSON_GetObjectItemCaseSensitive(at, key);
    assert_non_null(at);
    if (cJSON_IsArray(at))
        cJSON_ReplaceItemInArray(at, atoi(key), put);
    else if (!cJSON_ReplaceItemInObjectCaseSensitive(at, key, put))
        cJSON_AddItemToObject(at, key, put);
    free(text);
    text = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    free(keys);
    return text;
}

static void refused(const char *style, const char *path, const char *value, const char *why)
{
    struct sl_tokenizer *t = (struct sl_tokenizer *)1;
    char *json = changed(style, path, value), err[300] = "";
    int code = sl_tokenizer_parse(json, strlen(json), &t, err, sizeof err);
    if (code != -EINVAL || !strstr(err, why) || strchr(err, '\n'))
        fail_msg("%s = %s: %d \"%s\" does not say \"%s\"", path, value, code, err, why);
    assert_null(t);
    free(json);
}

static void accepted(const char *style, const char *path, const char *value)
{
    struct sl_tokenizer *t;
    char *json = changed(style, path, value), err[300] = "";
    if (sl_tokenizer_parse(json, strlen(json), &t, err, sizeof err))
        fail_msg("%s = %s: %s", path, value, err);
    sl_tokenizer_free(t);
    free(json);
}

static void parse__refuses_pipeline_steps(void **state)
{
    refused("gpt2-style", "truncation", "{\"max_length\":512}", "truncation");
    refused("gpt2-style", "padding", "{\"strategy\":\"BatchLongest\"}", "padding");
    refused("gpt2-style", "novelty", "1", "novelty");
    refused("gpt2-style", "normalizer", "{\"type\":\"NFC\"}", "NFC");
    refused("gpt2-style", "normalizer", "{\"type\":\"Lowercase\"}", "Lowercase");
    refused("fallback-style", "normalizer/normalizers/1/pattern", "{\"Regex\":\" +\"}", "Replace");
    refused("fallback-style", "normalizer/normalizers/0", "{\"type\":\"Sequence\",\"normalizers\":[]}",
        "Sequence");
    refused("gpt2-style", "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\"}", "Metaspace");
    refused("gpt2-style", "pre_tokenizer", "{\"type\":\"Whitespace\"}", "Whitespace");
    refused("gpt2-style", "pre_tokenizer/extra", "1", "extra");
    refused("llama3-style", "pre_tokenizer/pretokenizers/0/pattern", "{\"Regex\":\"\\\\w+\"}", "pattern");
    refused("llama3-style", "pre_tokenizer/pretokenizers/0/pattern", "{\"String\":\" \"}", "pattern");
    refused("llama3-style", "pre_tokenizer/pretokenizers/0/behavior", "\"Removed\"", "behavior");
    refused("llama3-style", "pre_tokenizer/pretokenizers/0/invert", "true", "invert");
    refused("llama3-style", "pre_tokenizer/pretokenizers/1/add_prefix_space", "true", "add_prefix_space");
    refused("gpt2-style", "post_processor", "{\"type\":\"BertProcessing\"}", "BertProcessing");
    refused("gpt2-style", "post_processor/single/1",
        "{\"SpecialToken\":{\"id\":\"<|endoftext|>\",\"type_id\":0}}", "single");
    refused("gpt2-style", "post_processor/special_tokens", "{}", "special_tokens");
    refused("gpt2-style", "decoder", "{\"type\":\"WordPiece\"}", "WordPiece");
    refused("fallback-style", "decoder/decoders/3/start", "2", "start");
    refused("fallback-style", "decoder/decoders/0", "{\"type\":\"CTC\"}", "CTC");
}

static void parse__refuses_models(void **state)
{
    refused("gpt2-style", "model/type", "\"Unigram\"", "model.type");
    refused("gpt2-style", "model/dropout", "0.1", "dropout");
    refused("gpt2-style", "model/continuing_subword_prefix", "\"##\"", "continuing_subword_prefix");
    refused("gpt2-style", "model/end_of_word_suffix", "\"</w>\"", "end_of_word_suffix");
    refused("gpt2-style", "model/byte_fallback", "true", "byte_fallback");
    refused("gpt2-style", "model/unk_token", "\"nowhere\"", "unk_token");
    refused("gpt2-style", "model/fuse_unk", "1", "fuse_unk");
    refused("gpt2-style", "model/vocab", "[]", "vocab");
    refused("gpt2-style", "model/vocab/!", "-1", "\"!\"");
    refused("gpt2-style", "model/vocab/!", "1.5", "\"!\"");
    refused("gpt2-style", "model/vocab/!", "2000000000", "\"!\"");
    refused("gpt2-style", "model/vocab/!", "4000000", "holes");
    refused("gpt2-style", "model/vocab/!", "3", "share the id 3");
    refused("gpt2-style", "model/merges/0", "\"a b c\"", "entry 0");
    refused("gpt2-style", "model/merges/5", "\"nowhere b\"", "entry 5");
    refused("gpt2-style", "model/merges/5", "\"! !\"", "entry 5");
    refused("gpt2-style", "model/merges/5", "[\"a\"]", "entry 5");
    refused("gpt2-style", "model/merges/5", "\" a\"", "entry 5");
    refused("fallback-style", "model/vocab/<0x41>", "\"x\"", "<0x41>");
}

static void parse__byte_tokens_all_or_none(void **state)
{
    char *text = files_read(GOLDEN_DIR "/tokenizers", "fallback-style.json", NULL), err[300] = "";
    struct sl_tokenizer *t;
    char *byte = strstr(text, "\"<0x41>\"");
    assert_non_null(byte);
    byte[1] = 'x';
    assert_int_equal(sl_tokenizer_parse(text, strlen(text), &t, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "255 of the 256"));
    free(text);
}

static void parse__refuses_added_tokens(void **state)
{
    refused("gpt2-style", "added_tokens/0/lstrip", "true", "lstrip");
    refused("gpt2-style", "added_tokens/0/rstrip", "true", "rstrip");
    refused("gpt2-style", "added_tokens/0/single_word", "true", "single_word");
    refused("gpt2-style", "added_tokens/0/strange", "true", "strange");
    refused("gpt2-style", "added_tokens/0/id", "7", "<|endoftext|>");
    refused("gpt2-style", "added_tokens/0/content", "\"new\"", "\"new\"");
    refused("gpt2-style", "added_tokens/0/content", "\"\"", "added_tokens");
    refused("gpt2-style", "added_tokens/0", "7", "added_tokens");
    refused("gpt2-style", "added_tokens", "{}", "added_tokens");
}

static void parse__accepts_variants(void **state)
{
    accepted("gpt2-style", "model/type", "\"BPE\"");
    accepted("gpt2-style", "model/dropout", "0.0");
    accepted("gpt2-style", "model/continuing_subword_prefix", "\"\"");
    accepted("gpt2-style", "decoder", "null");
    accepted("gpt2-style", "post_processor", "null");
    accepted("gpt2-style", "added_tokens", "null");
    accepted("gpt2-style", "model/merges", "[]");
    accepted("fallback-style", "normalizer/normalizers/0/prepend", "\"_\"");
}

static void load__no_such_file(void **state)
{
    struct sl_tokenizer *t;
    char err[300] = "";
    assert_int_equal(sl_tokenizer_load("/nowhere/tokenizer.json", &t, err, sizeof err), -ENOENT);
    assert_non_null(strstr(err, "/nowhere/tokenizer.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__refuses_pipeline_steps),
        cmocka_unit_test(parse__refuses_models),
        cmocka_unit_test(parse__byte_tokens_all_or_none),
        cmocka_unit_test(parse__refuses_added_tokens),
        cmocka_unit_test(parse__accepts_variants),
        cmocka_unit_test(load__no_such_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
