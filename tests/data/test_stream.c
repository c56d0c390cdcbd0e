#include "trainer/data/stream.h"

#include "tests/data/scratch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char err[256];

/* Ids: "<e>" 0, "a" 1, "b" 2, "<s>" 3; `begin` is the token that the post-processor puts first, or NULL. */
static struct sl_tokenizer *tiny_tokenizer(const char *begin)
{
    char json[2000], post[500] = "null";
    if (begin)
        snprintf(post, sizeof post,
            "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"%s\",\"type_id\":0}},"
            "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":"
            "0}},"
            "{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],"
            "\"special_tokens\":{\"%s\":{\"id\":\"%s\",\"ids\":[%d],\"tokens\":[\"%s\"]}}}",
            begin, begin, begin, strcmp(begin, "<s>") == 0 ? 3 : 0, begin);
    snprintf(json, sizeof json,
        "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,\"added_tokens\":["
        "{\"id\":0,\"content\":\"<e>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,"
        "\"normalized\":false,"
        "\"special\":true},{\"id\":3,\"content\":\"<s>\",\"single_word\":false,\"lstrip\":false,\"rstrip\":"
        "false,"
        "\"normalized\":false,\"special\":true}],\"normalizer\":null,\"pre_tokenizer\":{\"type\":"
        "\"ByteLevel\","
        "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},\"post_processor\":%s,"
        "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"<e>\":0,\"a\":1,\"b\":"
        "2,"
        "\"<s>\":3},\"merges\":[]}}",
        post);
    struct sl_tokenizer *tok;
    int rc = sl_tokenizer_parse(json, strlen(json), &tok, err, sizeof err);
    if (rc)
        fail_msg("%s", err);
    return tok;
}

static void check_stream(const char *begin, int32_t end, const uint32_t *want, size_t n)
{
    struct sl_record one = {.text = (char *)"ab", .len = 2}, two = {.text = (char *)"b", .len = 1};
    const struct sl_record *recs[] = {&one, &two};
    struct sl_tokenizer *tok = tiny_tokenizer(begin);
    struct sl_stream stream;
    assert_int_equal(sl_stream_from_records(tok, recs, 2, end, &stream), 0);
    assert_int_equal(stream.n, n);
    assert_memory_equal(stream.ids, want, n * sizeof *want);
    sl_stream_free(&stream);
    sl_tokenizer_free(tok);
}

static void stream__end_after_each_record(void **state)
{
    check_stream(NULL, 0, (uint32_t[]){1, 2, 0, 2, 0}, 5);
}

static void stream__no_end_token(void **state)
{
    check_stream(NULL, -1, (uint32_t[]){1, 2, 2}, 3);
}

static void stream__begin_once_per_record(void **state)
{
    check_stream("<s>", 0, (uint32_t[]){3, 1, 2, 0, 3, 2, 0}, 7);
}

static void stream__begin_that_is_the_end_stands_once_between_records(void **state)
{
    check_stream("<e>", 0, (uint32_t[]){0, 1, 2, 0, 2, 0}, 6);
}

static void ids__one_stream_per_line(void **state)
{
    const char *text = "1 2\t3\n\n  \n 4 \r\n9";
    struct sl_stream *streams;
    size_t n;
    assert_int_equal(sl_streams_from_ids("x", text, strlen(text), 10, &streams, &n, err, sizeof err), 0);
    assert_int_equal(n, 3);
    assert_int_equal(streams[0].n, 3);
    assert_int_equal(streams[0].ids[2], 3);
    assert_int_equal(streams[1].n, 1);
    assert_int_equal(streams[1].ids[0], 4);
    assert_int_equal(streams[2].ids[0], 9);
    for (size_t i = 0; i < n; i++)
        sl_stream_free(&streams[i]);
    free(streams);
}

static void ids__what_is_no_id_is_named_with_its_line(void **state)
{
    static const char *const bad[] = {"1 x", "-1", "10", "1.5", "99999999999999999999999", "1,2", "0x1"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[64];
        struct sl_stream *streams;
        size_t n;
        snprintf(text, sizeof text, "1 2\n%s\n3\n", bad[i]);
        assert_int_equal(
            sl_streams_from_ids("f.ids", text, strlen(text), 10, &streams, &n, err, sizeof err), -EINVAL);
        assert_ptr_equal(strstr(err, "f.ids:2: "), err);
        assert_non_null(strstr(err, "below 10"));
    }
}

static void ids__empty_or_missing_file(void **state)
{
    struct scratch dir = scratch_make();
    char path[300];
    struct sl_stream *streams;
    size_t n;
    scratch_write(&dir, "ids", "\n \n");
    snprintf(path, sizeof path, "%s/ids", dir.path);
    assert_int_equal(sl_streams_from_ids_file(path, 10, &streams, &n, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "holds no token ids"));
    scratch_write_bytes(&dir, "ids", "1 2\0 3", 6);
    assert_int_equal(sl_streams_from_ids_file(path, 10, &streams, &n, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "NUL"));
    snprintf(path, sizeof path, "%s/none", dir.path);
    assert_int_equal(sl_streams_from_ids_file(path, 10, &streams, &n, err, sizeof err), -ENOENT);
    scratch_remove(&dir);
}

static void windows__full_ones_without_overlap(void **state)
{
    uint32_t ids[11];
    for (uint32_t i = 0; i < 11; i++)
        ids[i] = i;
    struct sl_stream stream = {.ids = ids, .n = 11};
    assert_int_equal(sl_windows(&stream, 4), 2);
    assert_ptr_equal(sl_window(&stream, 4, 1), ids + 4);
    assert_int_equal(sl_windows(&stream, 11), 1);
    assert_int_equal(sl_windows(&stream, 12), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stream__end_after_each_record),
        cmocka_unit_test(stream__no_end_token),
        cmocka_unit_test(stream__begin_once_per_record),
        cmocka_unit_test(stream__begin_that_is_the_end_stands_once_between_records),
        cmocka_unit_test(ids__one_stream_per_line),
        cmocka_unit_test(ids__what_is_no_id_is_named_with_its_line),
        cmocka_unit_test(ids__empty_or_missing_file),
        cmocka_unit_test(windows__full_ones_without_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
