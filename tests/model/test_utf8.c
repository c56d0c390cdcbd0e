#include "trainer/model/utf8.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Every code point but the surrogates, there and back, and no other sequence of its length. */
static void encode_decode__every_code_point(void **state)
{
    for (uint32_t c = 0; c < 0x110000; c++) {
        if (c >= 0xd800 && c < 0xe000)
            continue;
        char p[SL_UTF8_MAX];
        unsigned n = sl_utf8_encode(c, p), bad;
        assert_int_equal(n, c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4);
        assert_int_equal(sl_utf8_sequence(p, n, &bad), n);
        assert_int_equal(sl_utf8_decode(p, n), c);
        assert_int_equal(sl_utf8_sequence(p, n - 1 ? n - 1 : n, &bad), n > 1 ? 0 : 1);
    }
}

/* Of all three-byte strings exactly those are valid that are made of code points: counted in closed form. */
static void sequence__accepts_nothing_else(void **state)
{
    unsigned n[4] = {0};
    for (unsigned v = 0; v < 1u << 24; v++) {
        const char p[3] = {(char)(v >> 16), (char)(v >> 8), (char)v};
        n[sl_utf8_sequence(p, 3, NULL)]++;
    }
    assert_int_equal(n[1], 0x80u << 16);
    assert_int_equal(n[2], (0x800u - 0x80) << 8);
    assert_int_equal(n[3], 0x10000 - 0x800 - 0x800);
}

static void repair__as_python_replaces(void **state)
{
    static const struct {
        const char *in, *out; /* b"...".decode("utf-8", "replace") */
    } cases[] = {{"", ""}, {"ab", "ab"}, {"\xff", "\ufffd"}, {"\xc3(", "\ufffd("}, {"\xe2\x82", "\ufffd"},
        {"\xe2\x82y", "\ufffdy"}, {"\xf0\x9f\x98", "\ufffd"},
        {"\xf0\x9f\x98\xf0\x9f\x98\x80", "\ufffd\U0001f600"}, {"\xed\xa0\x80", "\ufffd\ufffd\ufffd"},
        {"\xc0\xaf", "\ufffd\ufffd"}, {"\xf4\x90\x80\x80", "\ufffd\ufffd\ufffd\ufffd"},
        {"\xe0\x80\xaf", "\ufffd\ufffd\ufffd"}};
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t len;
        char *out = sl_utf8_repair(cases[i].in, strlen(cases[i].in), &len);
        assert_string_equal(out, cases[i].out);
        assert_int_equal(len, strlen(cases[i].out));
        free(out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encode_decode__every_code_point),
        cmocka_unit_test(sequence__accepts_nothing_else),
        cmocka_unit_test(repair__as_python_replaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
