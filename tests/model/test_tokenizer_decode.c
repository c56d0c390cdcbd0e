#include "tests/model/files.h"
#include "trainer/model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct sl_tokenizer *load(const char *style)
{
    struct sl_tokenizer *t = NULL;
    char name[64], err[256] = "";
    snprintf(name, sizeof name, "tokenizers/%s.json", style);
    char *path = files_path(GOLDEN_DIR, name);
    if (sl_tokenizer_load(path, &t, err, sizeof err))
        fail_msg("%s", err);
    free(path);
    return t;
}

static void check(const struct sl_tokenizer *t, const uint32_t *ids, size_t n, const char *want)
{
    char *text;
    size_t len;
    assert_int_equal(sl_tokenizer_decode(t, ids, n, &text, &len), 0);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
    free(text);
}

static void check_round_trip(const struct sl_tokenizer *t, const char *text, const char *want)
{
    uint32_t *ids;
    size_t n;
    assert_int_equal(sl_tokenizer_encode(t, text, strlen(text), &ids, &n), 0);
    check(t, ids, n, want);
    free(ids);
}

static void decode__byte_level(void **state)
{
    struct sl_tokenizer *t = load("llama3-style");
    static const char *const texts[] = {
        "", "The edge node.", " \n\t x", "日本語 \U0001f600 é", "a<|begin|>b"};
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++)
        check_round_trip(t, texts[i], texts[i]);
    sl_tokenizer_free(t);
}

/* Half a character becomes one U+FFFD; ids that have no token are passed over. */
static void decode__broken_characters_and_ids(void **state)
{
    struct sl_tokenizer *t = load("llama3-style");
    const uint32_t ids[] = {(uint32_t)sl_tokenizer_id(t, "a"), (uint32_t)sl_tokenizer_id(t, "\u00f0"),
        (uint32_t)sl_tokenizer_id(t, "\u0141"), 123456, (uint32_t)sl_tokenizer_id(t, "b")};
    /* U+00F0 is byte F0, U+0141 is byte 9F: the start of an emoji */
    static const uint32_t first[] = {0};
    check(t, ids, 5, "a\ufffdb");
    check(t, first, 0, "");
    sl_tokenizer_free(t);
}

static void decode__byte_fallback(void **state)
{
    struct sl_tokenizer *t = load("fallback-style");
    check_round_trip(t, "the phone", "the phone");
    check_round_trip(t, "  the  phone ", "  the  phone ");
    check_round_trip(t, "日 \U0001f600\n", "日 \U0001f600\n");
    static const char *const tokens[] = {"<0xE6>", "<0x97>", "t", "<0x41>"};
    uint32_t broken[4];
    for (unsigned i = 0; i < 4; i++) {
        assert_true(sl_tokenizer_id(t, tokens[i]) >= 0);
        broken[i] = (uint32_t)sl_tokenizer_id(t, tokens[i]);
    }
    /* Hugging Face: one U+FFFD per byte of a run that is not UTF-8 */
    check(t, broken, 4, "\ufffd\ufffdtA");
    sl_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode__byte_level),
        cmocka_unit_test(decode__broken_characters_and_ids),
        cmocka_unit_test(decode__byte_fallback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
