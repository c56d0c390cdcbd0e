/* The ways in which a memif port does not come up: each says so in one line. */
#include "tests/io/dpdk/processes.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const char *dir;

static int exit_code(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void wait_for_socket(void)
{
    char path[128];
    snprintf(path, sizeof(path), "%s/memif.sock", dir);
    for (unsigned i = 0; i < 30000 && access(path, F_OK) != 0; i++)
        sleep_ms(2);
}

static void wait_for_traffic(struct process *a, struct process *b)
{
    for (unsigned i = 0; i < 30000; i++) {
        if (__atomic_load_n(&a->report->rx, __ATOMIC_RELAXED) > 0 &&
            __atomic_load_n(&b->report->rx, __ATOMIC_RELAXED) > 0)
            return;
        sleep_ms(2);
    }
    fail_msg("no traffic");
}

static void open__peer_absent(void **state)
{
    static const char *const roles[] = {"client", "server"};
    for (unsigned i = 0; i < 2; i++) {
        struct process p;
        char said[2048];
        process_start(&p, roles[i], "200");
        assert_int_equal(exit_code(process_end(&p, 0)), 3);
        process_stderr(&p, said, sizeof(said));
        assert_non_null(strstr(said, "waiting for the other end of memif at "));
        assert_non_null(strstr(said, "gave up after "));
    }
}

static void open__client_first(void **state)
{
    struct process server, client;
    process_start(&client, "client", NULL);
    sleep_ms(300);
    process_start(&server, "server", NULL);
    wait_for_traffic(&server, &client);
    assert_int_equal(process_end(&client, SIGINT), 0);
    assert_int_equal(process_end(&server, SIGINT), 0);
}

static void open__stale_socket(void **state)
{
    struct process server, client;
    char path[128];
    struct stat st;
    process_start(&server, "server", NULL);
    wait_for_socket();
    process_end(&server, SIGKILL);
    snprintf(path, sizeof(path), "%s/memif.sock", dir);
    assert_int_equal(stat(path, &st), 0); /* left behind */
    process_start(&server, "server", NULL);
    process_start(&client, "client", NULL);
    wait_for_traffic(&server, &client);
    assert_int_equal(process_end(&client, SIGINT), 0);
    assert_int_equal(process_end(&server, SIGINT), 0);
    assert_int_not_equal(stat(path, &st), 0); /* an orderly end takes it away */
}

static void open__socket_taken(void **state)
{
    struct process server, second, client;
    char said[2048];
    process_start(&server, "server", NULL);
    wait_for_socket();
    process_start(&second, "server", NULL);
    assert_int_equal(exit_code(process_end(&second, 0)), 1);
    process_stderr(&second, said, sizeof(said));
    assert_non_null(strstr(said, "is taken by a running program"));
    /* The first was not disturbed. */
    struct process first = server;
    process_start(&client, "client", NULL);
    for (unsigned i = 0; i < 30000 && __atomic_load_n(&client.report->rx, __ATOMIC_RELAXED) == 0; i++)
        sleep_ms(2);
    assert_true(client.report->rx > 0);
    assert_int_equal(process_end(&client, SIGINT), 0);
    assert_int_equal(process_end(&first, SIGINT), 0);
}

static void open__not_a_socket(void **state)
{
    struct process server;
    char path[128], said[2048];
    snprintf(path, sizeof(path), "%s/memif.sock", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    process_start(&server, "server", NULL);
    assert_int_equal(exit_code(process_end(&server, 0)), 1);
    process_stderr(&server, said, sizeof(said));
    assert_non_null(strstr(said, "is not a socket"));
    assert_int_equal(access(path, F_OK), 0); /* not ours to remove */
    unlink(path);
}

static int begin(void **state)
{
    dir = processes_begin(getenv("SLUICE_PEER"));
    return dir == NULL;
}

static int end(void **state)
{
    processes_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(open__peer_absent),
        cmocka_unit_test(open__client_first),
        cmocka_unit_test(open__stale_socket),
        cmocka_unit_test(open__socket_taken),
        cmocka_unit_test(open__not_a_socket),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
