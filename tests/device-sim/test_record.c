/* Records of links: what is read, and what each kind of bad line is told. */
#include "device-sim/link/record.h"

#include "tests/wire/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char err[256];

static int trace(const char *text, struct sl_trace *t)
{
    return sl_trace_parse(text, strlen(text), "t.up", t, err, sizeof err);
}

static int series(const char *text, const char *column, struct sl_series *s)
{
    return sl_series_parse(text, strlen(text), "r.csv", column, s, err, sizeof err);
}

static void trace__one_time_a_line(void **state)
{
    struct sl_trace t;

    assert_int_equal(trace("0\n3\r\n3\n10", &t), 0);
    assert_int_equal(t.n, 4);
    assert_int_equal(t.at_ms[0], 0);
    assert_int_equal(t.at_ms[2], 3);
    assert_int_equal(t.at_ms[3], 10);
    sl_trace_free(&t);
}

static void trace__bad_lines_are_named(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", "t.up:1: the trace is empty"},
        {"5\n4\n", "t.up:2: earlier than the line before"},
        {"5\n\n6\n", "t.up:2: not a whole number"},
        {"5\n-6\n", "t.up:2: a time below 0"},
        {"5\n6.5\n", "t.up:2: not a whole number"},
        {"5\n6 \n", "t.up:2: not a whole number"},
        {"0\n0\n", "t.up:2: the trace ends at 0 ms"},
        {"1234567890\n", "t.up:1: not a whole number"},
    };
    struct sl_trace t;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(trace(cases[i].text, &t), -EINVAL);
        assert_memory_equal(err, cases[i].expected, strlen(cases[i].expected));
    }
    assert_int_equal(sl_trace_parse("1\n2\0\n", 5, "t.up", &t, err, sizeof err), -EINVAL);
    assert_string_equal(err, "t.up:2: a NUL character; this is no text");
    char *line = malloc(5000);
    memset(line, '1', 5000);
    assert_int_equal(sl_trace_parse(line, 5000, "t.up", &t, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, "t.up:1: the line is longer"));
    free(line);
    assert_int_equal(sl_trace_load("/no/such/trace", &t, err, sizeof err), -ENOENT);
}

/* A file without end, as one of 10^9 lines is for us: refused at the bound, with no more memory than that. */
static void trace__too_many_lines(void **state)
{
    char file[] = "/tmp/sluice-trace-XXXXXX";
    int fd = mkstemp(file);
    struct sl_trace t;
    FILE *f = fdopen(fd, "w");

    assert_non_null(f);
    for (uint32_t i = 0; i <= SL_RECORD_LINES_MAX; i++)
        fputs("7\n", f);
    fclose(f);
    assert_int_equal(sl_trace_load(file, &t, err, sizeof err), -EINVAL);
    assert_non_null(strstr(err, ":10000001: more than 10,000,000 lines"));
    unlink(file);
}

static void light__a_train_a_line(void **state)
{
    struct sl_light r;
    const char *text = "0 30 0 0 5\r\n1000\t50\n2000 40  0 \n";

    assert_int_equal(sl_light_parse(text, strlen(text), "t.light", &r, err, sizeof err), 0);
    assert_int_equal(r.n, 3);
    assert_true(r.at_ms[1] == 1000 && r.delay_ms[1] == 50 && r.delay_ms[2] == 40);
    assert_true(
        r.first[0] == 0 && r.first[1] == 3 && r.first[2] == 3 && r.first[3] == 4 && r.offset_ms[2] == 5);
    sl_light_free(&r);
}

static void light__bad_lines_are_named(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", "t.light:1: fewer than two trains"},
        {"0 30 0\n", "t.light:1: fewer than two trains"},
        {"0 30 0\n0 30\n", "t.light:2: the record ends at 0 ms"},
        {"0 30 0\n\n", "t.light:2: a line is: time, delay"},
        {"0\n5 30\n", "t.light:1: a line is: time, delay"},
        {"0 -30\n5 30\n", "t.light:1: a line is: time, delay"},
        {"5 30 0\n4 30\n", "t.light:2: earlier than the line before"},
        {"0 30 0 2.5\n5 30\n", "t.light:1: a packet's time that is not a whole number"},
        {"0 30 0 5 4\n5 30\n", "t.light:1: a packet earlier than the one before"},
        {"0 30 1234567890\n5 30\n", "t.light:1: a packet's time that is not a whole number"},
    };
    struct sl_light r;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(
            sl_light_parse(cases[i].text, strlen(cases[i].text), "t.light", &r, err, sizeof err), -EINVAL);
        assert_memory_equal(err, cases[i].expected, strlen(cases[i].expected));
    }
    assert_int_equal(sl_light_load("/no/such/trains", &r, err, sizeof err), -ENOENT);
}

static void series__by_its_columns_and_units(void **state)
{
    struct sl_series s;

    assert_int_equal(series("time_s,up_mbps,down_kbps\n10,1.5,8000\n10.5,0,1\n12,3,0\n", "up_mbps", &s), 0);
    assert_int_equal(s.n, 4);
    assert_true(
        s.at_ns[0] == 0 && s.at_ns[1] == 500000000 && s.at_ns[2] == 2000000000 && s.at_ns[3] == 3500000000);
    assert_true(s.rate_bps[0] == 1.5e6 && s.rate_bps[1] == 0 && s.rate_bps[2] == 3e6);
    sl_series_free(&s);
    assert_int_equal(series("time_ms,down_kbps\n0,8000\n", "down_kbps", &s), 0);
    assert_true(s.n == 2 && s.at_ns[1] == 1000000000 && s.rate_bps[0] == 8e6);
    sl_series_free(&s);
    /* The UCC data set: a row a second, kbit/s, "-" where nothing was seen. */
    assert_int_equal(series("Timestamp,Speed,DL_bitrate,UL_bitrate\n2020.02.13_13.03.24,0,100,7\n"
                            "2020.02.13_13.03.25,0,-,9\n2020.02.13_13.03.26,1,300,8\n",
                         "DL_bitrate", &s),
        0);
    assert_true(s.n == 4 && s.at_ns[3] == 3000000000 && s.rate_bps[0] == 1e5 && s.rate_bps[1] == 0 &&
                s.rate_bps[2] == 3e5);
    sl_series_free(&s);
}

static void series__bad_rows_are_named(void **state)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"", "r.csv:1: the series is empty"},
        {"time_s,up_mbps\n", "r.csv:1: no row after the header"},
        {"time,up_mbps\n1,2\n", "r.csv:1: no column time_s"},
        {"time_s,down_mbps\n1,2\n", "r.csv:1: no column up_mbps"},
        {"time_s,up_mbps\n1,-2\n", "r.csv:2: a rate below 0"},
        {"time_s,up_mbps\n1,2\n1,3\n", "r.csv:3: no later than"},
        {"time_s,up_mbps\n1,2x\n", "r.csv:2: not a number"},
        {"time_s,up_mbps\n1,nan\n", "r.csv:2: not a number"},
        {"time_s,up_mbps\n1,1e9\n", "r.csv:2: a time or rate beyond"},
        {"time_s,up_mbps\n1\n", "r.csv:2: fewer columns"},
        {"time_s,up_mbps\n1,0\n2,0\n", "r.csv:3: on average less than 1 kbit/s"},
    };
    struct sl_series s;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(series(cases[i].text, "up_mbps", &s), -EINVAL);
        assert_memory_equal(err, cases[i].expected, strlen(cases[i].expected));
    }
    assert_int_equal(series("time_s,speed\n1,2\n", "speed", &s), -EINVAL);
    assert_non_null(strstr(err, "the unit of speed is not in its name"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trace__one_time_a_line),
        cmocka_unit_test(trace__bad_lines_are_named),
        cmocka_unit_test(trace__too_many_lines),
        cmocka_unit_test(light__a_train_a_line),
        cmocka_unit_test(light__bad_lines_are_named),
        cmocka_unit_test(series__by_its_columns_and_units),
        cmocka_unit_test(series__bad_rows_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
