/* Ids against an independent implementation (tokenizer_reference.py). */
#include "tests/model/files.h"
#include "tests/model/golden_ids.h"
#include "trainer/model/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
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

static void check_style(const char *style)
{
    struct sl_tokenizer *t = load(style);
    assert_true(golden_ids_check(t, style) > 80);
    sl_tokenizer_free(t);
}

static void encode__gpt2_pattern_with_prefix_space(void **state)
{
    check_style("gpt2-style");
}

static void encode__llama3_pattern_and_ignore_merges(void **state)
{
    check_style("llama3-style");
}

static void encode__individual_digits(void **state)
{
    check_style("digits-style");
}

static void encode__byte_fallback_over_the_whole_text(void **state)
{
    check_style("fallback-style");
}

static void encode__unknown_characters_each_their_own_unk(void **state)
{
    check_style("unknown-style");
}

static void encode__nothing(void **state)
{
    struct sl_tokenizer *t = load("gpt2-style");
    uint32_t *ids;
    size_t n = 9;
    assert_int_equal(sl_tokenizer_encode(t, NULL, 0, &ids, &n), 0);
    assert_int_equal(n, 0);
    assert_non_null(ids);
    free(ids);
    sl_tokenizer_free(t);
}

/* A quarter of a megabyte of one letter, and of spaces: quadratic merging would take minutes, and so would a
 * matcher that starts over at every space. Every id must be as in a short text's repetition. */
static void encode__long_runs(void **state)
{
    enum { N = 1 << 18 };
    static const char *const styles[] = {"gpt2-style", "llama3-style", "fallback-style"};
    char *text = malloc(N);
    for (unsigned s = 0; s < 3; s++) {
        struct sl_tokenizer *t = load(styles[s]);
        for (unsigned k = 0; k < 3; k++) {
            memset(text, " ax"[k], N);
            uint32_t *ids;
            char *back;
            size_t n, len;
            assert_int_equal(sl_tokenizer_encode(t, text, N, &ids, &n), 0);
            assert_int_equal(sl_tokenizer_decode(t, ids, n, &back, &len), 0);
            bool prefix = s == 0 && k > 0;
            assert_int_equal(len, N + prefix);
            assert_memory_equal(back + prefix, text, N);
            free(ids);
            free(back);
        }
        sl_tokenizer_free(t);
    }
    free(text);
}

static void bos__is_what_the_template_puts_first(void **state)
{
    static const struct {
        const char *style, *token;
    } expected[] = {
        {"gpt2-style", "<|endoftext|>"}, {"llama3-style", "<|begin|>"}, {"fallback-style", "<s>"}};
    for (unsigned i = 0; i < 3; i++) {
        struct sl_tokenizer *t = load(expected[i].style);
        assert_true(sl_tokenizer_bos(t) >= 0);
        assert_int_equal(sl_tokenizer_bos(t), sl_tokenizer_id(t, expected[i].token));
        sl_tokenizer_free(t);
    }
    struct sl_tokenizer *t = load("digits-style");
    assert_int_equal(sl_tokenizer_bos(t), -1);
    assert_int_equal(sl_tokenizer_id(t, "no such token"), -1);
    sl_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode__gpt2_pattern_with_prefix_space),
        cmocka_unit_test(encode__llama3_pattern_and_ignore_merges),
        cmocka_unit_test(encode__individual_digits),
        cmocka_unit_test(encode__byte_fallback_over_the_whole_text),
        cmocka_unit_test(encode__unknown_characters_each_their_own_unk),
        cmocka_unit_test(encode__nothing),
        cmocka_unit_test(encode__long_runs),
        cmocka_unit_test(bos__is_what_the_template_puts_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
