#include "tests/bench/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool flag;
static uint64_t number;
static double real;
static const char *text;
static const char *const choices[] = {"one", "two", NULL};
static const struct bench_option table[] = {
    {"flag", BENCH_FLAG, &flag, NULL, "", 0, 0, NULL},
    {"number", BENCH_NUMBER, &number, "N", "", 2, 9, NULL},
    {"real", BENCH_REAL, &real, "X", "", 0, 0, NULL},
    {"text", BENCH_TEXT, &text, "T", "", 0, 0, choices},
    {0},
};

static int parse(const char *a, const char *b, char *err)
{
    char *argv[] = {(char *)(uintptr_t)a, (char *)(uintptr_t)b};
    return bench_options_parse(table, b != NULL ? 2 : 1, argv, err, 256);
}

static void parse__takes_both_spellings(void **state)
{
    char err[256];
    assert_int_equal(parse("--number", "9", err), 0);
    assert_int_equal(number, 9);
    assert_int_equal(parse("--number=2", "--flag", err), 0);
    assert_int_equal(number, 2);
    assert_true(flag);
    assert_int_equal(parse("--real", "0.25", err), 0);
    assert_true(real > 0.24 && real < 0.26);
    assert_int_equal(parse("--text", "two", err), 0);
    assert_string_equal(text, "two");
}

static void parse__says_what_is_wrong(void **state)
{
    static const struct {
        const char *a, *b, *says;
    } cases[] = {{"--number", "10", "from 2 to 9"}, {"--number", "7m", "not 7m"},
        {"--number", "-3", "not -3"}, {"--number", NULL, "needs a value"}, {"--nmber", "3", "no such option"},
        {"number", "3", "not an option"}, {"--text", "three", "one of: one two"}, {"--real", "x", "not x"},
        {"--real", "nan", "not nan"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char err[256] = "";
        assert_true(parse(cases[i].a, cases[i].b, err) < 0);
        if (strstr(err, cases[i].says) == NULL)
            fail_msg("%s %s: %s", cases[i].a, cases[i].b != NULL ? cases[i].b : "", err);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__takes_both_spellings),
        cmocka_unit_test(parse__says_what_is_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
