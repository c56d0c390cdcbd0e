#include "dataplane/io/lcore/numa.h"

#include "tests/wire/test.h"

#include <linux/mempolicy.h>
#include <sched.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

static int node_by_syscall(void)
{
    unsigned cpu, node;
    return syscall(SYS_getcpu, &cpu, &node, NULL) == 0 ? (int)node : -1;
}

static void node_of_cpu__is_what_the_kernel_says_of_the_cpu(void **state)
{
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    if (access("/sys/devices/system/node", R_OK) != 0)
        skip();
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
        assert_int_equal(sl_numa_node_of_cpu(cpu), node_by_syscall());
    }
    sched_setaffinity(0, sizeof(all), &all);
    assert_int_equal(sl_numa_node_of_cpu(-1), -1);
    assert_int_equal(sl_numa_node_of_cpu(1 << 20), -1);
}

static int policy(void)
{
    int mode = -1;
    syscall(SYS_get_mempolicy, &mode, NULL, 0, NULL, 0);
    return mode;
}

static void prefer__is_for_the_thread_until_taken_back(void **state)
{
    int node = node_by_syscall();
    if (node < 0 || sl_numa_prefer(node) != 0)
        skip();
    assert_int_equal(policy(), MPOL_PREFERRED);
    assert_int_equal(sl_numa_prefer(-1), 0);
    assert_int_equal(policy(), MPOL_DEFAULT);
    assert_true(sl_numa_prefer(1 << 20) < 0);
    assert_true(sl_numa_prefer(1000) < 0); /* there is no such node */
    assert_int_equal(policy(), MPOL_DEFAULT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(node_of_cpu__is_what_the_kernel_says_of_the_cpu),
        cmocka_unit_test(prefer__is_for_the_thread_until_taken_back),
    };
    return cmocka_run_group_tests_name("io/lcore/numa", tests, NULL, NULL);
}
