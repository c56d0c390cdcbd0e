#include "tests/model/files.h"
#include "trainer/model/tokenizer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *train(const char *const *texts, const size_t *lens, size_t n, uint32_t vocab)
{
    char *json, err[256] = "";
    size_t len;
    if (sl_tokenizer_train(texts, lens, n, vocab, &json, &len, err, sizeof err))
        fail_msg("%s", err);
    assert_int_equal(strlen(json), len);
    return json;
}

/* Merge by merge what counting everything again each time gives (tokenizer_reference.py train). */
static void train__merges_as_by_recounting(void **state)
{
    size_t len;
    char *text = files_read(GOLDEN_DIR "/tokenizers", "train.txt", &len);
    char *golden = files_read(GOLDEN_DIR "/tokenizers", "train.golden", NULL), *rest = golden;
    char *json = train((const char *const *)&text, &len, 1, 500);
    cJSON *root = cJSON_Parse(json);
    const cJSON *merges = cJSON_GetObjectItem(cJSON_GetObjectItem(root, "model"), "merges");
    unsigned n = 0;
    for (const cJSON *v = merges->child; v; v = v->next, n++)
        assert_string_equal(v->valuestring, strsep(&rest, "\n"));
    assert_true(n >= 500 - 257);
    assert_string_equal(rest, "");
    cJSON_Delete(root);
    free(json);
    free(golden);
    free(text);
}

static void train__reads_back_and_decodes_to_the_text(void **state)
{
    size_t len;
    char *text = files_read(GOLDEN_DIR "/tokenizers", "train.txt", &len), err[256] = "";
    char *json = train((const char *const *)&text, &len, 1, 400);
    struct sl_tokenizer *t;
    assert_int_equal(sl_tokenizer_parse(json, strlen(json), &t, err, sizeof err), 0);
    assert_int_equal(sl_tokenizer_vocab(t), 400);
    assert_int_equal(sl_tokenizer_id(t, "<|endoftext|>"), 0);
    assert_int_equal(sl_tokenizer_bos(t), 0);
    uint32_t *ids;
    size_t n, back_len;
    char *back;
    assert_int_equal(sl_tokenizer_encode(t, text, len, &ids, &n), 0);
    assert_true(n < len * 2 / 3);
    assert_int_equal(sl_tokenizer_decode(t, ids, n, &back, &back_len), 0);
    assert_int_equal(back_len, len);
    assert_memory_equal(back, text, len);
    free(back);
    free(ids);
    sl_tokenizer_free(t);
    free(json);
    free(text);
}

static void train__words_do_not_cross_texts(void **state)
{
    const char *const parts[] = {"ab", "ab", "ab"}, *const whole[] = {"ababab"};
    const size_t part_lens[] = {2, 2, 2}, whole_len[] = {6};
    char *a = train(parts, part_lens, 3, 258), *b = train(whole, whole_len, 1, 259);
    assert_non_null(strstr(a, "\"a b\""));
    assert_non_null(strstr(b, "\"ab ab\""));
    free(a);
    free(b);
}

static void train__too_little_text(void **state)
{
    const char *const text[] = {"ab"};
    const size_t len[] = {2};
    char *json, err[256] = "";
    size_t n;
    assert_int_equal(sl_tokenizer_train(text, len, 1, 300, &json, &n, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "258"));
    assert_null(json);
    assert_int_equal(sl_tokenizer_train(text, len, 1, 256, &json, &n, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "257"));
}

static void train__bytes_that_are_not_utf8(void **state)
{
    const char *const text[] = {"\xff\xfe ab \xc3 ab ab"};
    const size_t len[] = {strlen(text[0])};
    char *json = train(text, len, 1, 262), err[256];
    struct sl_tokenizer *t;
    assert_int_equal(sl_tokenizer_parse(json, strlen(json), &t, err, sizeof err), 0);
    sl_tokenizer_free(t);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(train__merges_as_by_recounting),
        cmocka_unit_test(train__reads_back_and_decodes_to_the_text),
        cmocka_unit_test(train__words_do_not_cross_texts),
        cmocka_unit_test(train__too_little_text),
        cmocka_unit_test(train__bytes_that_are_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
