/* The event log: its bytes, its bound, and what it says of what it left out. */
#include "device-sim/fleet/events.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char path[] = "/tmp/sluice-events-XXXXXX";

static struct sl_events *open_log(uint64_t start_ns, uint64_t max_lines)
{
    struct sl_events *e;
    char err[256];

    assert_int_equal(sl_events_open(path, start_ns, max_lines, &e, err, sizeof(err)), 0);
    return e;
}

static void assert_log(const char *want)
{
    char text[4096];
    FILE *f = fopen(path, "r");
    size_t n;

    assert_non_null(f);
    n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    assert_string_equal(text, want);
}

static void write__numbers_and_texts_are_one_line_each(void **state)
{
    static const char *const keys[] = {"step", "eval"};
    struct sl_events *e = open_log(1000, 100);

    sl_events_write(e, 1500, 3, "send", keys, 7, UINT64_MAX);
    sl_events_texts(e, 2000, SL_EVENTS_EDGE, "state", "from", "idle", "to", "a \"b\"\\\n");
    assert_int_equal(sl_events_close(e, 3000, 0), 0);
    assert_log("{\"t\":500,\"phone\":3,\"event\":\"send\",\"step\":7,\"eval\":18446744073709551615}\n"
               "{\"t\":1000,\"event\":\"state\",\"from\":\"idle\",\"to\":\"a ?b???\"}\n"
               "{\"t\":2000,\"event\":\"end\",\"events\":2,\"left_out\":0}\n");
}

static void write__beyond_the_bound_it_counts_only(void **state)
{
    static const char *const keys[] = {"step"};
    struct sl_events *e = open_log(0, 1);

    for (uint64_t i = 0; i < 5; i++)
        sl_events_write(e, i, 0, "send", keys, i);
    assert_int_equal(sl_events_close(e, 9, 10), 0);
    assert_log("{\"t\":0,\"phone\":0,\"event\":\"send\",\"step\":0}\n"
               "{\"t\":9,\"event\":\"end\",\"events\":1,\"left_out\":14}\n");
}

static void sight__says_what_became_of_a_packet(void **state)
{
    struct sl_events *e = open_log(100, 100);
    struct sl_emulator_seen s = {
        .at_ns = 300, .phone = 1, .bytes = 72, .up = true, .what = SL_EMULATOR_TAKEN};

    sl_events_sight(e, &s, 100);
    s.what = SL_EMULATOR_DROPPED;
    s.verdict = SL_LINK_LOST;
    sl_events_sight(e, &s, 100);
    s = (struct sl_emulator_seen){.at_ns = 400, .what = SL_EMULATOR_WOKEN, .ready_ns = 1100};
    sl_events_sight(e, &s, 100);
    assert_int_equal(sl_events_close(e, 500, 0), 0);
    assert_log("{\"t\":200,\"phone\":1,\"event\":\"packet_sent\",\"direction\":\"up\",\"bytes\":72}\n"
               "{\"t\":200,\"phone\":1,\"event\":\"packet_dropped\",\"direction\":\"up\",\"bytes\":72,"
               "\"why\":\"lost\"}\n"
               "{\"t\":300,\"phone\":0,\"event\":\"radio_woken\",\"direction\":\"down\",\"ready\":1000}\n"
               "{\"t\":400,\"event\":\"end\",\"events\":3,\"left_out\":0}\n");
}

static void open__a_directory_that_is_not_there_is_said(void **state)
{
    struct sl_events *e;
    char err[256];

    assert_true(sl_events_open("/nonexistent/events.jsonl", 0, 1, &e, err, sizeof(err)) < 0);
    assert_non_null(strstr(err, "/nonexistent/events.jsonl"));
    sl_events_texts(NULL, 0, 0, "nothing", "a", "b", NULL, NULL);
    assert_int_equal(sl_events_close(NULL, 0, 0), 0);
}

static int make_file(void **state)
{
    int fd = mkstemp(path);

    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    return unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(write__numbers_and_texts_are_one_line_each),
        cmocka_unit_test(write__beyond_the_bound_it_counts_only),
        cmocka_unit_test(sight__says_what_became_of_a_packet),
        cmocka_unit_test(open__a_directory_that_is_not_there_is_said),
    };

    return cmocka_run_group_tests(tests, make_file, remove_file);
}
