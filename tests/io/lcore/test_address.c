/* Addresses as people write them. */
#include "dataplane/io/lcore/address.h"
#include "tests/wire/test.h"

#include <errno.h>
#include <stdio.h>

static void parse__and_format_are_each_others_inverse(void **state)
{
    static const char *const same[] = {
        "127.0.0.1:4433", "10.77.0.0", "0.0.0.0:1", "[::1]:65535", "[2001:db8::5]", "[fe80::1]:1"};
    char text[SL_ADDR_TEXT];
    struct sl_addr a;

    for (unsigned i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
        assert_int_equal(sl_addr_parse(same[i], &a), 0);
        assert_int_equal(sl_addr_is_mapped(&a), same[i][0] != '[');
        sl_addr_format(&a, text, sizeof(text));
        assert_string_equal(text, same[i]);
    }
}

static void parse__refuses_everything_else(void **state)
{
    static const char *const bad[] = {"", ":", "1.2.3.4:", "1.2.3.4:0", "1.2.3.4:65536", "1.2.3.4:12x",
        "1.2.3.4:-1", "1.2.3.4: 1", "1.2.3:1", "1.2.3.4.5", "::1", "::1:80", "[::1", "[::1]x",
        "[::1]:", "[1.2.3.4]:1", "[]:1", "localhost:1", "1.2.3.4 :1", "1.2.3.4:1:2",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1"};
    struct sl_addr a;

    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (sl_addr_parse(bad[i], &a) != -EINVAL)
            fail_msg("took '%s'", bad[i]);
}

static void kinds__are_told_apart(void **state)
{
    struct sl_addr a;

    assert_int_equal(sl_addr_parse("127.9.9.9:1", &a), 0);
    assert_true(sl_addr_is_loopback(&a));
    assert_false(sl_addr_is_unspecified(&a));
    assert_int_equal(sl_addr_parse("[::1]:1", &a), 0);
    assert_true(sl_addr_is_loopback(&a));
    assert_int_equal(sl_addr_parse("0.0.0.0:1", &a), 0);
    assert_true(sl_addr_is_unspecified(&a));
    assert_false(sl_addr_is_loopback(&a));
    assert_int_equal(sl_addr_parse("[::]:1", &a), 0);
    assert_true(sl_addr_is_unspecified(&a));
    assert_int_equal(sl_addr_parse("10.0.0.1:1", &a), 0);
    assert_false(sl_addr_is_loopback(&a) || sl_addr_is_unspecified(&a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__and_format_are_each_others_inverse),
        cmocka_unit_test(parse__refuses_everything_else),
        cmocka_unit_test(kinds__are_told_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
