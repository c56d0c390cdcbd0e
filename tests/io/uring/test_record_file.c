/* Records go out and come back whole, in part, with fewer buffers than operations, and in order where they
 * meet. */
#include "dataplane/io/uring/record_file.h"

#include <errno.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { RECORD = 3 * SL_RECORD_ALIGN, BUFFERS = 3, RECORDS = 20, TURN_NS = 1000000 };

struct world {
    struct sl_loop *loop;
    struct sl_record_file *file;
    char path[64];
    unsigned done, failed, synced, writes_at_sync;
    int last_status;
    uint8_t expected[RECORDS]; /* first byte of each record */
};

static void open_world(struct world *w)
{
    char err[256];
    memset(w, 0, sizeof *w);
    snprintf(w->path, sizeof w->path, "/var/tmp/sluice-test-records-%d", getpid());
    if (sl_loop_create(4, &w->loop, err, sizeof err)) {
        printf("SKIP: %s\n", err);
        exit(77);
    }
    if (sl_record_file_open(w->loop, w->path, RECORD - 5, BUFFERS, &w->file, err, sizeof err))
        fail_msg("%s", err);
    sl_record_file_describe(w->file, err, sizeof err);
    print_message("%s\n", err);
}

static void close_world(struct world *w)
{
    sl_loop_free(w->loop);
    sl_record_file_close(w->file);
    unlink(w->path);
}

static void stop_when_idle(void *app, uint64_t now_ns)
{
    struct world *w = app;
    if (!sl_record_file_pending(w->file))
        sl_loop_stop(w->loop);
}

static void run(struct world *w)
{
    assert_int_equal(sl_loop_run(w->loop, stop_when_idle, w, TURN_NS), 0);
    assert_int_equal(sl_loop_writes(w->loop), 0);
}

static uint8_t byte_of(uintptr_t record, size_t at)
{
    return (uint8_t)(record * 31 + at / 7 + 1);
}

static void fill(void *app, void *op, uint8_t *data)
{
    for (size_t i = 0; i < RECORD; i++)
        data[i] = byte_of((uintptr_t)op, i);
}

static void written(void *app, void *op, int status)
{
    struct world *w = app;
    w->done++;
    w->failed += status != 0;
    w->last_status = status;
}

static void synced(void *app, void *op, int status)
{
    struct world *w = app;
    w->synced++;
    w->failed += status != 0;
    w->writes_at_sync = w->done;
}

static void check(void *app, void *op, const uint8_t *data, int status)
{
    struct world *w = app;
    w->done++;
    w->last_status = status;
    if (status) {
        assert_null(data);
        w->failed++;
        return;
    }
    for (size_t i = 0; i < RECORD; i++)
        assert_int_equal(data[i], byte_of((uintptr_t)op, i));
}

static void check_middle(void *app, void *op, const uint8_t *data, int status)
{
    struct world *w = app;
    assert_int_equal(status, 0);
    w->done++;
    for (size_t i = 0; i < SL_RECORD_ALIGN; i++)
        assert_int_equal(data[i], byte_of((uintptr_t)op, SL_RECORD_ALIGN + i));
}

static void record_file__gives_back_what_was_written(void **state)
{
    struct world w;
    struct sl_record_file_stats s;
    open_world(&w);
    for (uintptr_t r = 0; r < RECORDS; r++)
        assert_int_equal(sl_record_write(w.file, r, 0, RECORD, fill, written, &w, (void *)r), 0);
    assert_int_equal(sl_record_sync(w.file, synced, &w, NULL), 0);
    run(&w);
    assert_int_equal(w.done, RECORDS);
    assert_int_equal(w.synced, 1);
    assert_int_equal(w.writes_at_sync, RECORDS);
    for (uintptr_t r = RECORDS; r-- > 0;)
        assert_int_equal(sl_record_read(w.file, r, 0, RECORD, check, &w, (void *)r), 0);
    assert_int_equal(
        sl_record_read(w.file, 7, SL_RECORD_ALIGN, SL_RECORD_ALIGN, check_middle, &w, (void *)7), 0);
    run(&w);
    assert_int_equal(w.done, 2 * RECORDS + 1);
    assert_int_equal(w.failed, 0);
    sl_record_file_stats(w.file, &s);
    assert_int_equal(s.reads, RECORDS + 1);
    assert_int_equal(s.bytes_written, (uint64_t)RECORDS * RECORD);
    close_world(&w);
}

static void fill_count(void *app, void *op, uint8_t *data)
{
    memset(data, (int)(uintptr_t)op, RECORD);
}

static void check_count(void *app, void *op, const uint8_t *data, int status)
{
    struct world *w = app;
    assert_int_equal(status, 0);
    assert_int_equal(data[0], (uintptr_t)op);
    assert_int_equal(data[RECORD - 1], (uintptr_t)op);
    w->done++;
}

/* A read asked for between two writes of the same record sees the first one. */
static void record_file__keeps_the_order_on_a_record(void **state)
{
    struct world w;
    open_world(&w);
    for (uintptr_t i = 1; i <= 50; i++) {
        assert_int_equal(sl_record_write(w.file, 2, 0, RECORD, fill_count, written, &w, (void *)i), 0);
        assert_int_equal(sl_record_read(w.file, 2, 0, RECORD, check_count, &w, (void *)i), 0);
    }
    run(&w);
    assert_int_equal(w.done, 100);
    close_world(&w);
}

static void record_file__refuses_what_is_not_there(void **state)
{
    struct world w;
    open_world(&w);
    assert_int_equal(sl_record_read(w.file, 0, 1, RECORD, check, &w, NULL), -EINVAL);
    assert_int_equal(sl_record_read(w.file, 0, 0, RECORD + SL_RECORD_ALIGN, check, &w, NULL), -EINVAL);
    assert_int_equal(sl_record_read(w.file, 0, SL_RECORD_ALIGN, RECORD, check, &w, NULL), -EINVAL);
    assert_int_equal(sl_record_read(w.file, 5, 0, RECORD, check, &w, NULL), 0);
    run(&w);
    assert_int_equal(w.failed, 1);
    assert_int_equal(w.last_status, -EIO);
    close_world(&w);
}

static void record_file_open__fails_with_a_sentence(void **state)
{
    struct sl_loop *loop;
    struct sl_record_file *file;
    char err[256];
    assert_int_equal(sl_loop_create(4, &loop, err, sizeof err), 0);
    assert_int_equal(
        sl_record_file_open(loop, "/nonexistent/records", RECORD, BUFFERS, &file, err, sizeof err), -ENOENT);
    assert_non_null(strstr(err, "/nonexistent/records"));
    sl_loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record_file__gives_back_what_was_written),
        cmocka_unit_test(record_file__keeps_the_order_on_a_record),
        cmocka_unit_test(record_file__refuses_what_is_not_there),
        cmocka_unit_test(record_file_open__fails_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
