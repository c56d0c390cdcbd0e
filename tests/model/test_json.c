#include "tests/model/files.h"
#include "trainer/model/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void refused(const char *text, size_t len, const char *why)
{
    cJSON *v = (cJSON *)1;
    char err[256] = "";
    assert_int_equal(sl_json_parse(text, len, "f.json", &v, err, sizeof err), -EINVAL);
    assert_null(v);
    if (!strstr(err, why) || !strstr(err, "f.json"))
        fail_msg("\"%s\" does not say \"%s\"", err, why);
}

static void parse__refuses_what_cjson_lets_pass(void **state)
{
    refused("{\"a\":1} x", strlen("{\"a\":1} x"), "after");
    refused("{\"a\":1}{}", strlen("{\"a\":1}{}"), "after");
    refused("{\"a\":1,\"b\":{\"c\":1,\"d\":2,\"c\":3}}", strlen("{\"a\":1,\"b\":{\"c\":1,\"d\":2,\"c\":3}}"),
        "\"c\" is there twice");
    refused("[{\"a\":1,\"a\":1}]", strlen("[{\"a\":1,\"a\":1}]"), "\"a\" is there twice");
    refused("\"a\\u0000b\"", strlen("\"a\\u0000b\""), "\\u0000");
    refused("\"a\xff\"", strlen("\"a\xff\""), "UTF-8");
    refused("\"a\0\"", 4, "UTF-8");
    refused("{\"a\":", strlen("{\"a\":"), "not JSON");
    refused("", strlen(""), "not JSON");
}

static void parse__accepts(void **state)
{
    static const char *const texts[] = {
        "{}", " {\"a\":{\"a\":1}} \r\n\t", "\"a\\\\u0000b\"", "[1,2]", "{\"A\":1,\"a\":2}"};
    for (unsigned i = 0; i < sizeof texts / sizeof *texts; i++) {
        cJSON *v;
        char err[256] = "";
        if (sl_json_parse(texts[i], strlen(texts[i]), "f.json", &v, err, sizeof err))
            fail_msg("%s: %s", texts[i], err);
        cJSON_Delete(v);
    }
}

static void parse__deep_nesting_is_an_error(void **state)
{
    enum { N = 100000 };
    char *text = malloc(N);
    memset(text, '[', N);
    refused(text, N, "not JSON");
    free(text);
}

static void u32__range_and_type(void **state)
{
    cJSON *o = cJSON_Parse("{\"n\":7,\"half\":1.5,\"s\":\"7\",\"minus\":-1,\"big\":4294967296,\"nil\":null}");
    char err[256] = "";
    uint32_t n = 3;
    assert_int_equal(sl_json_u32(o, "n", "f", 0, 10, &n, err, sizeof err), 0);
    assert_int_equal(n, 7);
    assert_int_equal(sl_json_u32(o, "absent", "f", 0, 10, &n, err, sizeof err), 0);
    assert_int_equal(sl_json_u32(o, "nil", "f", 0, 10, &n, err, sizeof err), 0);
    assert_int_equal(n, 7);
    static const char *const bad[] = {"half", "s", "minus", "big"};
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(sl_json_u32(o, bad[i], "f", 0, UINT32_MAX, &n, err, sizeof err), -EINVAL);
        assert_non_null(strstr(err, bad[i]));
    }
    assert_int_equal(sl_json_u32(o, "n", "f", 0, 6, &n, err, sizeof err), -EINVAL);
    assert_int_equal(n, 7);
    cJSON_Delete(o);
}

static void read_file__errors(void **state)
{
    char *dir = files_dir(), *path = files_path(dir, "f"), *text, err[300] = "";
    size_t len;
    assert_int_equal(sl_read_file(path, 10, &text, &len, err, sizeof err), -ENOENT);
    assert_non_null(strstr(err, path));
    assert_int_equal(sl_read_file(dir, 10, &text, &len, err, sizeof err), -EINVAL);
    files_write(dir, "f", "0123456789", 10);
    assert_int_equal(sl_read_file(path, 9, &text, &len, err, sizeof err), -EINVAL);
    assert_int_equal(sl_read_file(path, 10, &text, &len, err, sizeof err), 0);
    assert_string_equal(text, "0123456789");
    free(text);
    free(path);
    files_dir_remove(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse__refuses_what_cjson_lets_pass),
        cmocka_unit_test(parse__accepts),
        cmocka_unit_test(parse__deep_nesting_is_an_error),
        cmocka_unit_test(u32__range_and_type),
        cmocka_unit_test(read_file__errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
