#include "tests/device-sim/replay/recordings.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 5 };
static char path[] = "/tmp/sluice-test-recording-XXXXXX";

static uint8_t *read_back(size_t *len)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *len = (size_t)ftell(f);
    rewind(f);
    uint8_t *bytes = malloc(*len);
    assert_int_equal(fread(bytes, 1, *len, f), *len);
    fclose(f);
    return bytes;
}

static void write_file(
    enum sl_codec codec, uint32_t n, uint32_t max_mib, uint32_t rows, uint64_t *kept, uint64_t *left)
{
    struct sl_replay_model m = recording_model(codec);
    struct sl_recorder *r;
    char err[200];

    assert_int_equal(sl_recorder_open(path, &m, max_mib, &r, err, sizeof(err)), 0);
    for (uint32_t i = 0; i < n; i++) {
        struct sl_recording_entry e = recording_entry(codec, rows, 2, i);
        sl_recorder_add(r, &e);
        free((void *)(uintptr_t)e.units);
    }
    assert_int_equal(sl_recorder_close(r, kept, left, err, sizeof(err)), 0);
}

static void recording__every_codec__comes_back_as_it_was(void **state)
{
    for (enum sl_codec codec = 0; codec < SL_CODEC_COUNT; codec++) {
        uint64_t kept, left;
        write_file(codec, N, 0, 7 + codec, &kept, &left);
        assert_int_equal(kept, N);
        assert_int_equal(left, 0);
        size_t len, at = SL_RECORDING_HEADER;
        uint8_t *bytes = read_back(&len);
        struct sl_recording rec;
        struct sl_recording_entry got;
        const char *wrong;
        assert_int_equal(sl_recording_header(bytes, len, &rec, &wrong), 0);
        struct sl_replay_model m = recording_model(codec);
        assert_memory_equal(&rec.model.hash, m.hash, sizeof(m.hash));
        assert_int_equal(rec.model.codec, codec);
        assert_int_equal(rec.n, N);
        for (uint32_t i = 0; i < N; i++) {
            struct sl_recording_entry e = recording_entry(codec, 7 + codec, 2, i);
            assert_int_equal(sl_recording_next(&rec, bytes, len, &at, &got, &wrong), 1);
            assert_int_equal(got.rows, e.rows);
            assert_int_equal(got.phone, i);
            assert_int_equal(got.step, i + 1);
            assert_int_equal(got.cut, 2);
            assert_string_equal(got.device_class, "flagship");
            assert_memory_equal(
                got.units, e.units, (size_t)(e.tensor_units + e.target_units) * SL_UNIT_BYTES);
            free((void *)(uintptr_t)e.units);
        }
        assert_int_equal(sl_recording_next(&rec, bytes, len, &at, &got, &wrong), 0);
        free(bytes);
    }
}

/* A file is whole or refused: whatever byte is another, and wherever it ends. */
static void recording__damaged_anywhere__refused(void **state)
{
    uint64_t kept, left;
    write_file(SL_CODEC_BF16, 2, 0, 3, &kept, &left);
    size_t len;
    uint8_t *bytes = read_back(&len);

    for (size_t flip = 0; flip < len; flip++) {
        struct sl_recording rec;
        struct sl_recording_entry e;
        const char *wrong = NULL;
        size_t at = SL_RECORDING_HEADER;
        bytes[flip] ^= 0x10;
        int rc = sl_recording_header(bytes, len, &rec, &wrong);
        while (rc >= 0 && (rc = sl_recording_next(&rec, bytes, len, &at, &e, &wrong)) > 0)
            ;
        assert_int_equal(rc, -EINVAL);
        assert_non_null(wrong);
        bytes[flip] ^= 0x10;
    }
    for (size_t end = 0; end < len; end++) {
        struct sl_recording rec;
        struct sl_recording_entry e;
        const char *wrong = NULL;
        size_t at = SL_RECORDING_HEADER;
        uint64_t n = 0;
        int rc = sl_recording_header(bytes, end, &rec, &wrong);
        while (rc >= 0 && (rc = sl_recording_next(&rec, bytes, end, &at, &e, &wrong)) > 0)
            n++;
        assert_true(rc < 0 || n < rec.n);
    }
    free(bytes);
}

static void recorder__bound_reached__rest_left_out_and_counted(void **state)
{
    uint64_t kept, left;
    uint32_t rows = 2000; /* 96 kB a message in bf16 */

    write_file(SL_CODEC_BF16, 15, 1, rows, &kept, &left);
    assert_true(kept > 5 && kept < 15);
    assert_int_equal(kept + left, 15);
    size_t len;
    free(read_back(&len));
    assert_true(len <= 1 << 20);
}

static void recorder__closed_without_a_message__says_so(void **state)
{
    struct sl_replay_model m = recording_model(SL_CODEC_F32);
    struct sl_recorder *r;
    char err[200];
    uint8_t head[SL_RECORDING_HEADER];
    struct sl_recording rec;
    const char *wrong;
    uint64_t kept, left;

    assert_int_equal(sl_recorder_open(path, &m, 0, &r, err, sizeof(err)), 0);
    assert_int_equal(sl_recorder_close(r, &kept, &left, err, sizeof(err)), 0);
    size_t len;
    uint8_t *bytes = read_back(&len);
    memcpy(head, bytes, sizeof(head));
    free(bytes);
    assert_int_equal(sl_recording_header(head, sizeof(head), &rec, &wrong), 0);
    assert_int_equal(rec.n, 0);
}

static void recorder__no_such_folder__said_in_a_line(void **state)
{
    struct sl_replay_model m = recording_model(SL_CODEC_F32);
    struct sl_recorder *r;
    char err[200];

    assert_int_equal(sl_recorder_open("/nowhere/at/all", &m, 0, &r, err, sizeof(err)), -ENOENT);
    assert_non_null(strstr(err, "/nowhere/at/all: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(recording__every_codec__comes_back_as_it_was),
        cmocka_unit_test(recording__damaged_anywhere__refused),
        cmocka_unit_test(recorder__bound_reached__rest_left_out_and_counted),
        cmocka_unit_test(recorder__closed_without_a_message__says_so),
        cmocka_unit_test(recorder__no_such_folder__said_in_a_line)};
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return rc;
}
