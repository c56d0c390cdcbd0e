#include "trainer/data/overlap.h"

#include "tests/data/scratch.h"

#include <string.h>

static struct sl_overlap *seen(const char *text)
{
    struct sl_overlap *o;
    assert_int_equal(sl_overlap_create(&o), 0);
    assert_int_equal(sl_overlap_add(o, text, strlen(text)), 0);
    return o;
}

static bool shares(const struct sl_overlap *o, const char *text)
{
    return sl_overlap_shares(o, text, strlen(text));
}

static void overlap__ten_words_in_a_row_whatever_stands_between(void **state)
{
    struct sl_overlap *o = seen("It was the best of times, it was the worst of times");
    assert_true(shares(o, "He said: \"was THE best\nof times -- it was the worst of\" all"));
    assert_false(shares(o, "was the best of times it was the worst")); /* nine */
    assert_false(shares(o, "was the best of times it is the worst of times"));
    assert_false(shares(o, ""));
    sl_overlap_free(o);
}

static void overlap__runs_do_not_cross_texts(void **state)
{
    struct sl_overlap *o = seen("one two three four five");
    assert_int_equal(sl_overlap_add(o, "six seven eight nine ten", 24), 0);
    assert_false(shares(o, "one two three four five six seven eight nine ten"));
    sl_overlap_free(o);
}

static void overlap__grows_and_forgets_nothing(void **state)
{
    struct sl_overlap *o = seen("");
    char text[400];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 20000; i++) {
            int n = 0;
            for (int k = 0; k < 14; k++)
                n += snprintf(text + n, sizeof text - (size_t)n, "w%d ", 100 * i + k);
            if (round == 0)
                assert_int_equal(sl_overlap_add(o, text, (size_t)n), 0);
            else
                assert_true(sl_overlap_shares(o, text, (size_t)n));
        }
    }
    sl_overlap_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(overlap__ten_words_in_a_row_whatever_stands_between),
        cmocka_unit_test(overlap__runs_do_not_cross_texts),
        cmocka_unit_test(overlap__grows_and_forgets_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
