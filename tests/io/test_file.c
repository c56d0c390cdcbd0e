/* Files are replaced whole or not at all. */
#include "dataplane/io/uring/loop.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];
static struct sl_loop *loop;
static int pending, last_status;

static int setup(void **state)
{
    char err[200];

    snprintf(dir, sizeof(dir), "/tmp/sluice-file-XXXXXX");
    assert_non_null(mkdtemp(dir));
    if (sl_loop_create(4, &loop, err, sizeof(err)) != 0) {
        printf("SKIP: %s\n", err);
        exit(77);
    }
    return 0;
}

static unsigned entries(bool remove_them)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    unsigned n = 0;

    while ((e = readdir(d)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            n++;
            if (remove_them)
                unlinkat(dirfd(d), e->d_name, 0);
        }
    closedir(d);
    return n;
}

static int teardown(void **state)
{
    sl_loop_free(loop);
    entries(true);
    return rmdir(dir);
}

static const char *path(const char *name)
{
    static char p[128];

    snprintf(p, sizeof(p), "%s/%s", dir, name);
    return p;
}

static void done(void *app, void *data, int status)
{
    last_status = status;
    if (--pending == 0)
        sl_loop_stop(loop);
}

static int write_and_wait(const char *file, const void *data, size_t len)
{
    pending++;
    assert_int_equal(sl_loop_write_file(loop, file, data, len, done, NULL), 0);
    assert_int_equal(sl_loop_run(loop, NULL, NULL, 0), 0);
    assert_int_equal(sl_loop_writes(loop), 0);
    return last_status;
}

static void assert_holds(const char *file, const void *data, size_t len)
{
    uint8_t *got = malloc(len + 1);
    FILE *f = fopen(file, "rb");

    assert_non_null(f);
    assert_int_equal(fread(got, 1, len + 1, f), len);
    fclose(f);
    if (len)
        assert_memory_equal(got, data, len);
    free(got);
}

static void write_file__new_and_replaced(void **state)
{
    const size_t sizes[] = {0, 1, 4096, 100001, 20 << 20};
    uint8_t *data = malloc(20 << 20);

    for (size_t i = 0; i < 20 << 20; i++)
        data[i] = (uint8_t)(i * 7 >> 2);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(
            write_and_wait(path("checkpoint"), data + i, sizes[i] > 8 ? sizes[i] - 8 : sizes[i]), 0);
        assert_holds(path("checkpoint"), data + i, sizes[i] > 8 ? sizes[i] - 8 : sizes[i]);
    }
    assert_int_equal(entries(false), 1);
    free(data);
}

static void write_file__relative_names(void **state)
{
    char before[512];

    assert_non_null(getcwd(before, sizeof(before)));
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(write_and_wait("bare", "x", 1), 0);
    assert_holds("bare", "x", 1);
    assert_int_equal(write_and_wait("./dotted", "y", 1), 0);
    assert_holds("dotted", "y", 1);
    assert_int_equal(entries(false), 2);
    assert_int_equal(chdir(before), 0);
}

/* The disk is full: as far as a process can tell, a limit on the size of files is the same. */
static void write_file__full_disk_keeps_the_old_file(void **state)
{
    struct rlimit before, small;
    uint8_t *big = calloc(1, 1 << 20);

    assert_int_equal(write_and_wait(path("checkpoint"), "the old one", 11), 0);
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    small = before;
    small.rlim_cur = 300000;
    setrlimit(RLIMIT_FSIZE, &small);
    assert_true(write_and_wait(path("checkpoint"), big, 1 << 20) < 0);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_holds(path("checkpoint"), "the old one", 11);
    assert_int_equal(entries(false), 1); /* nothing half-written is left */
    assert_int_equal(write_and_wait(path("checkpoint"), big, 1 << 20), 0);
    free(big);
}

static void write_file__no_such_directory(void **state)
{
    assert_int_equal(write_and_wait(path("missing/checkpoint"), "x", 1), -ENOENT);
    assert_int_equal(entries(false), 0);
}

static void write_file__target_is_a_directory(void **state)
{
    char sub[128];

    snprintf(sub, sizeof(sub), "%s", path("checkpoint"));
    assert_int_equal(mkdir(sub, 0700), 0);
    assert_int_equal(write_and_wait(sub, "x", 1), -EISDIR);
    assert_int_equal(entries(false), 1);
    assert_int_equal(rmdir(sub), 0);
}

static void write_file__bad_names(void **state)
{
    assert_int_equal(sl_loop_write_file(loop, "", "x", 1, done, NULL), -EINVAL);
    assert_int_equal(sl_loop_write_file(loop, "/tmp/", "x", 1, done, NULL), -EINVAL);
}

static void write_file__one_at_a_time_for_a_name(void **state)
{
    static char names[80][64];
    int err = 0, started = 0;

    pending = 1;
    assert_int_equal(sl_loop_write_file(loop, path("a"), "first", 5, done, NULL), 0);
    assert_int_equal(sl_loop_write_file(loop, path("a"), "second", 6, done, NULL), -EBUSY);
    for (int i = 0; i < 80 && !err; i++) {
        snprintf(names[i], sizeof(names[i]), "n%d", i);
        err = sl_loop_write_file(loop, path(names[i]), names[i], strlen(names[i]), done, NULL);
        if (!err)
            started++;
    }
    assert_int_equal(err, -EBUSY);
    assert_int_equal(started, 63);
    pending += started;
    assert_int_equal(sl_loop_run(loop, NULL, NULL, 0), 0);
    assert_int_equal(entries(false), 64);
    assert_holds(path("a"), "first", 5);
    assert_holds(path("n62"), "n62", 3);
    assert_int_equal(write_and_wait(path("a"), "second", 6), 0);
    assert_holds(path("a"), "second", 6);
}

static int freed_status = 1;
static void done_in_free(void *app, void *data, int status)
{
    freed_status = status;
}

static void free__waits_for_the_write(void **state)
{
    char *data = calloc(1, 8 << 20);

    assert_int_equal(write_and_wait(path("warm"), "x", 1), 0);
    assert_int_equal(sl_loop_write_file(loop, path("last"), data, 8 << 20, done_in_free, NULL), 0);
    sl_loop_free(loop);
    loop = NULL;
    assert_int_equal(freed_status, 0);
    assert_holds(path("last"), data, 8 << 20);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(write_file__new_and_replaced, setup, teardown),
        cmocka_unit_test_setup_teardown(write_file__relative_names, setup, teardown),
        cmocka_unit_test_setup_teardown(write_file__full_disk_keeps_the_old_file, setup, teardown),
        cmocka_unit_test_setup_teardown(write_file__no_such_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(write_file__target_is_a_directory, setup, teardown),
        cmocka_unit_test_setup_teardown(write_file__bad_names, setup, teardown),
        cmocka_unit_test_setup_teardown(write_file__one_at_a_time_for_a_name, setup, teardown),
        cmocka_unit_test_setup_teardown(free__waits_for_the_write, setup, teardown),
    };

    return cmocka_run_group_tests_name("io/uring/file", tests, NULL, NULL);
}
