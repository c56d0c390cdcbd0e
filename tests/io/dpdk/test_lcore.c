/* Two data lcores in two processes, sealed messages between them over memif. */
#include "tests/io/dpdk/processes.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { GIVE_UP_S = 60, MESSAGES = 200 };
static struct process edge, device;

static uint64_t get(const uint64_t *at)
{
    return __atomic_load_n(at, __ATOMIC_RELAXED);
}

static int run_until(uint64_t messages)
{
    double until = now_s() + GIVE_UP_S;
    while (get(&edge.report->rx) < messages || get(&device.report->rx) < messages) {
        if (!process_runs(&edge) || !process_runs(&device))
            return -1;
        if (now_s() > until)
            fail_msg("%d and %d messages in %d s", (int)get(&edge.report->rx), (int)get(&device.report->rx),
                GIVE_UP_S);
        sleep_ms(5);
    }
    return 0;
}

/* "How many" is the device's acknowledged messages and the edge's complete ones. */
static void loop__messages_arrive(void **state)
{
    process_start(&device, "device", NULL);
    process_start(&edge, "edge", NULL);
    assert_int_equal(run_until(MESSAGES), 0);
    assert_int_equal(get(&edge.report->bad), 0);
    assert_int_equal(process_end(&device, SIGINT), 0);
    assert_int_equal(process_end(&edge, SIGINT), 0);
}

/* No syscall but the sleep, hence no lock that waits, on either data lcore, while messages are opened,
 * acknowledged and sealed. */
static void loop__no_syscall(void **state)
{
    process_start(&device, "device", "sealed");
    process_start(&edge, "edge", "sealed");
    int ran = run_until(MESSAGES);
    int of_edge = process_end(&edge, ran == 0 ? SIGINT : SIGKILL),
        of_device = process_end(&device, ran == 0 ? SIGINT : SIGKILL);
    if (WIFEXITED(of_edge) && WEXITSTATUS(of_edge) == 77) {
        print_message("SKIP: the kernel does not let a thread set a seccomp filter\n");
        skip();
    }
    if (WIFSIGNALED(of_edge) && WTERMSIG(of_edge) == SIGSYS)
        fail_msg("the edge's data lcore made a syscall");
    if (WIFSIGNALED(of_device) && WTERMSIG(of_device) == SIGSYS)
        fail_msg("the device's data lcore made a syscall");
    assert_int_equal(ran, 0);
    assert_int_equal(of_edge, 0);
    assert_int_equal(of_device, 0);
}

/* After a failed case, lest its processes write into the next one's reports. */
static int kill_rest(void **state)
{
    struct process *all[] = {&edge, &device};
    for (unsigned i = 0; i < 2; i++) {
        if (all[i]->pid != 0)
            process_end(all[i], SIGKILL);
    }
    return 0;
}

static int begin(void **state)
{
    return processes_begin(getenv("SLUICE_PEER")) == NULL;
}

static int end(void **state)
{
    processes_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(loop__messages_arrive, kill_rest),
        cmocka_unit_test_teardown(loop__no_syscall, kill_rest),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
