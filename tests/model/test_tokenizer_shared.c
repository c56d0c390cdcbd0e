/* Two real tokenizers that are not in the tree: GPT-2's, and TinyStories-656K's, against the reference's ids.
 */
#include "tests/model/files.h"
#include "tests/model/golden_ids.h"
#include "trainer/model/tokenizer.h"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* tokenizer.json from vocab.json and merges.txt, as Hugging Face's converter writes it. */
static char *gpt2_json(void)
{
    char *vocab_text = files_read(SHARED_DIR "/tokenizers/gpt2", "vocab.json", NULL);
    char *merges_text = files_read(SHARED_DIR "/tokenizers/gpt2", "merges.txt", NULL), *rest = merges_text;
    strsep(&rest, "\n"); /* "#version: 0.2"; later lines that begin with # are merges */
    cJSON *root =
        cJSON_Parse("{\"added_tokens\":[{\"id\":50256,\"content\":\"<|endoftext|>\",\"single_word\":false,"
                    "\"lstrip\":false,\"rstrip\":false,\"normalized\":true,\"special\":true}],"
                    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
                    "\"trim_offsets\":true},\"decoder\":{\"type\":\"ByteLevel\"},"
                    "\"model\":{\"continuing_subword_prefix\":\"\"}}");
    cJSON *model = cJSON_GetObjectItem(root, "model"), *merges = cJSON_AddArrayToObject(model, "merges");
    cJSON_AddItemToObject(model, "vocab", cJSON_Parse(vocab_text));
    for (char *line; (line = strsep(&rest, "\n"));)
        if (*line)
            cJSON_AddItemToArray(merges, cJSON_CreateString(line));
    char *json = cJSON_PrintUnformatted(root);
    cJSON_Delete(root);
    free(vocab_text);
    free(merges_text);
    return json;
}

static void encode__gpt2(void **state)
{
    char *json = gpt2_json(), err[256] = "";
    struct sl_tokenizer *t = NULL;
    if (sl_tokenizer_parse(json, strlen(json), &t, err, sizeof err))
        fail_msg("%s", err);
    free(json);
    assert_int_equal(sl_tokenizer_vocab(t), 50257);
    assert_true(golden_ids_check(t, "gpt2") > 80);
    sl_tokenizer_free(t);
}

static void encode__tinystories(void **state)
{
    char err[256] = "";
    struct sl_tokenizer *t = NULL;
    if (sl_tokenizer_load(SHARED_DIR "/models/TinyStories-656K/tokenizer.json", &t, err, sizeof err))
        fail_msg("%s", err);
    assert_int_equal(sl_tokenizer_vocab(t), 2048);
    assert_int_equal(sl_tokenizer_bos(t), 1);
    assert_true(golden_ids_check(t, "tinystories") > 80);
    sl_tokenizer_free(t);
}

int main(void)
{
    if (access(SHARED_DIR "/tokenizers/gpt2/vocab.json", R_OK) ||
        access(SHARED_DIR "/models/TinyStories-656K/tokenizer.json", R_OK)) {
        printf("SKIP: %s with tokenizers/gpt2 and models/TinyStories-656K is not there\n", SHARED_DIR);
        return 77;
    }
    const struct CMUnitTest tests[] = {cmocka_unit_test(encode__gpt2), cmocka_unit_test(encode__tinystories)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
