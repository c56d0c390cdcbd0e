#include "trainer/data/text.h"

#include "tests/data/scratch.h"

#include <errno.h>
#include <openssl/sha.h>
#include <string.h>
#include <unistd.h>

static char err[256];

static struct sl_records parse(const char *name, const char *bytes)
{
    struct sl_records records = {0};
    assert_int_equal(sl_records_append_bytes(&records, name, bytes, strlen(bytes), err, sizeof err), 0);
    return records;
}

static void records__percent_lines_separate(void **state)
{
    struct sl_records r = parse("a", "one\ntwo\n%\n100 %\n% not\n%\n%\nlast\n");
    assert_int_equal(r.n, 3);
    assert_string_equal(r.rec[0].text, "one\ntwo");
    assert_string_equal(r.rec[1].text, "100 %\n% not");
    assert_string_equal(r.rec[2].text, "last");
    sl_records_free(&r);
}

static void records__separator_at_either_end(void **state)
{
    struct sl_records r = parse("a", "%\nx\n%");
    assert_int_equal(r.n, 1);
    assert_string_equal(r.rec[0].text, "x");
    sl_records_free(&r);
}

static void records__file_without_separator_is_one_record_as_it_stands(void **state)
{
    struct sl_records r = parse("a.txt", "one\n\n50%\n");
    assert_int_equal(r.n, 1);
    assert_string_equal(r.rec[0].text, "one\n\n50%\n");
    uint8_t hash[32];
    SHA256((const uint8_t *)"one\n\n50%\n", 9, hash);
    assert_memory_equal(r.rec[0].hash, hash, 32);
    sl_records_free(&r);
}

static void records__jsonl_takes_the_text_of_each_line(void **state)
{
    struct sl_records r =
        parse("a.jsonl", "{\"text\": \"a\\nb\", \"id\": 1}\n\n  {\"text\":\"%\"} \r\n{\"text\":\"\"}\n");
    assert_int_equal(r.n, 2);
    assert_string_equal(r.rec[0].text, "a\nb");
    assert_string_equal(r.rec[1].text, "%");
    sl_records_free(&r);
}

static void records__bad_jsonl_names_the_line(void **state)
{
    static const char *const bad[] = {"{\"text\": 1}", "[]", "{\"text\":\"a\"} x", "{\"text\":\"a\"",
        "{\"Text\":\"a\"}", "\"text\"", "{\"text\":\"a\\u0000b\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char bytes[128];
        snprintf(bytes, sizeof bytes, "{\"text\":\"fine\"}\n%s\n{\"text\":\"fine too\"}\n", bad[i]);
        struct sl_records r = {0};
        assert_int_equal(
            sl_records_append_bytes(&r, "notes.jsonl", bytes, strlen(bytes), err, sizeof err), -EINVAL);
        assert_ptr_equal(strstr(err, "notes.jsonl:2: "), err);
        sl_records_free(&r);
    }
}

static void overstrikes__as_paper_shows_them(void **state)
{
    static const char *const cases[][2] = {
        {"_\bT_\bh_\be end", "The end"},
        {"b\bbo\bol\bld\bd", "bold"},
        {"T\b_h\b_e\b_", "The"},
        {"caf'\be", "cafe"},
        {"cafe\b'", "cafe"},
        {"____\b\b\b\bword", "word"},
        {"word\b\b\b\b____ on", "word on"},
        {"\b\bx", "x"},
        {"_\b\xc3\xa9t\xc3\xa9\b_", "\xc3\xa9t\xc3\xa9"},
        {"a\nb_\bc\nd\b", "a\nbc\nd"},
        {"no change", "no change"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[64];
        size_t len = strlen(strcpy(text, cases[i][0]));
        text[sl_text_remove_overstrikes(text, len)] = '\0';
        assert_string_equal(text, cases[i][1]);
    }
}

static void overstrikes__lines_too_long_lose_only_the_backspaces(void **state)
{
    enum { LONG = 6000 };
    char *text = test_malloc(LONG + 1);
    memset(text, 'x', LONG);
    text[5] = text[LONG - 1] = '\b';
    assert_int_equal(sl_text_remove_overstrikes(text, LONG), LONG - 2);
    for (int i = 0; i < LONG - 2; i++)
        assert_int_equal(text[i], 'x');
    test_free(text);
}

static void records__directory_in_name_order_text_only(void **state)
{
    struct scratch dir = scratch_make();
    scratch_write(&dir, "b", "second\n%\n");
    scratch_write(&dir, "a", "first\n%\n_\bx\n%\n");
    scratch_write(&dir, "a.dat", "index\n");
    scratch_write(&dir, "a.u8", "first\n%\n");
    scratch_write(&dir, ".hidden", "no\n");
    scratch_write_bytes(&dir, "binary", "a\0b", 3);
    scratch_link(&dir, "a", "z-link");
    scratch_mkdir(&dir, "folder");
    struct sl_records r;
    assert_int_equal(sl_records_read(dir.path, &r, err, sizeof err), 0);
    assert_int_equal(r.n_files, 2);
    assert_int_equal(r.n, 3);
    assert_string_equal(r.rec[0].text, "first");
    assert_string_equal(r.rec[1].text, "x");
    assert_string_equal(r.rec[2].text, "second");
    assert_int_equal(r.rec[2].file, 1);
    sl_records_free(&r);
    scratch_remove(&dir);
}

static void records__same_inode_and_same_bytes_count_once(void **state)
{
    struct scratch dir = scratch_make();
    char one[300], other[300];
    scratch_write(&dir, "a", "text one\n");
    scratch_write(&dir, "b", "text two\n");
    scratch_write(&dir, "c", "text one\n");
    snprintf(one, sizeof one, "%s/b", dir.path);
    snprintf(other, sizeof other, "%s/d", dir.path);
    assert_int_equal(link(one, other), 0);
    struct sl_records r;
    assert_int_equal(sl_records_read(dir.path, &r, err, sizeof err), 0);
    assert_int_equal(r.n_files, 2);
    assert_int_equal(r.n, 2);
    /* A file named on its own that is there already adds nothing. */
    assert_int_equal(sl_records_append(&r, other, err, sizeof err), 0);
    assert_int_equal(r.n, 2);
    sl_records_free(&r);
    scratch_remove(&dir);
}

static void records__what_cannot_be_read_is_named(void **state)
{
    struct scratch dir = scratch_make();
    char path[300];
    struct sl_records r;
    snprintf(path, sizeof path, "%s/none", dir.path);
    assert_int_equal(sl_records_read(path, &r, err, sizeof err), -ENOENT);
    assert_non_null(strstr(err, "none: No such file"));
    assert_int_equal(sl_records_read(dir.path, &r, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "holds no text"));
    scratch_write_bytes(&dir, "binary", "a\0b", 3);
    snprintf(path, sizeof path, "%s/binary", dir.path);
    assert_int_equal(sl_records_read(path, &r, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "not a text file"));
    assert_int_equal(sl_records_read("/dev/null", &r, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "not a regular file"));
    scratch_remove(&dir);
}

static void held_out__by_hash_alone_and_about_the_fraction(void **state)
{
    struct sl_records r = {0};
    for (int i = 0; i < 5000; i++) {
        char text[32];
        int n = snprintf(text, sizeof text, "record %d", i);
        assert_int_equal(sl_records_append_bytes(&r, text, text, (size_t)n, err, sizeof err), 0);
    }
    size_t held_out = 0, more = 0;
    for (size_t i = 0; i < r.n; i++) {
        bool tenth = sl_record_held_out(&r.rec[i], 0.1);
        held_out += tenth;
        more += sl_record_held_out(&r.rec[i], 0.2);
        if (tenth)
            assert_true(sl_record_held_out(&r.rec[i], 0.2));
        assert_false(sl_record_held_out(&r.rec[i], 0));
        assert_true(sl_record_held_out(&r.rec[i], 1));
    }
    /* 5 standard deviations of a binomial */
    assert_in_range(held_out, 500 - 106, 500 + 106);
    assert_in_range(more, 1000 - 141, 1000 + 141);
    struct sl_record same = {.file = 7};
    memcpy(same.hash, r.rec[0].hash, 32);
    assert_int_equal(sl_record_held_out(&same, 0.1), sl_record_held_out(&r.rec[0], 0.1));
    sl_records_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records__percent_lines_separate),
        cmocka_unit_test(records__separator_at_either_end),
        cmocka_unit_test(records__file_without_separator_is_one_record_as_it_stands),
        cmocka_unit_test(records__jsonl_takes_the_text_of_each_line),
        cmocka_unit_test(records__bad_jsonl_names_the_line),
        cmocka_unit_test(records__directory_in_name_order_text_only),
        cmocka_unit_test(records__same_inode_and_same_bytes_count_once),
        cmocka_unit_test(records__what_cannot_be_read_is_named),
        cmocka_unit_test(held_out__by_hash_alone_and_about_the_fraction),
        cmocka_unit_test(overstrikes__as_paper_shows_them),
        cmocka_unit_test(overstrikes__lines_too_long_lose_only_the_backspaces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
