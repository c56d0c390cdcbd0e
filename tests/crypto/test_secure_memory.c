#include "dataplane/crypto/secure_memory.h"

#include <linux/mempolicy.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const size_t sizes[] = {1, 100, 4096, 4097, 100000, (2 << 20) - 1, 2 << 20, (5 << 20) + 3};
enum { SIZES = sizeof(sizes) / sizeof(sizes[0]) };

static size_t page(size_t bytes)
{
    return bytes >= 2 << 20 ? 2 << 20 : (size_t)sysconf(_SC_PAGESIZE);
}

static void map__zeroed_and_aligned(void **state)
{
    for (unsigned i = 0; i < SIZES; i++) {
        uint8_t *p = sl_secure_map(sizes[i]);

        assert_non_null(p);
        assert_int_equal((uintptr_t)p % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(p[k], 0);
        memset(p, 0xaa, sizes[i]);
        sl_secure_unmap(p, sizes[i]);
    }
}

static void map__absurd_sizes(void **state)
{
    assert_null(sl_secure_map(0));
    assert_null(sl_secure_map(SIZE_MAX));
    assert_null(sl_secure_map(SIZE_MAX / 2));
    sl_secure_unmap(NULL, 10);
}

/* Whether reading *p ends the process. */
static int dies(const volatile uint8_t *p)
{
    int status = 0;
    pid_t child = fork();

    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* neither cmocka nor a sanitizer shall make a report of it */
        (void)*p;
        _exit(0);
    }
    waitpid(child, &status, 0);
    return !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void map__guarded_on_both_sides(void **state)
{
    for (unsigned i = 0; i < SIZES; i++) {
        uint8_t *p = sl_secure_map(sizes[i]);
        size_t body = (sizes[i] + page(sizes[i]) - 1) / page(sizes[i]) * page(sizes[i]);

        assert_non_null(p);
        assert_false(dies(p));
        assert_false(dies(p + sizes[i] - 1));
        assert_true(dies(p - 1));
        assert_true(dies(p + body));
        sl_secure_unmap(p, sizes[i]);
        assert_true(dies(p));
    }
}

/* The kernel's own word for it: flag "dd" in smaps. */
static void map__left_out_of_core_dumps(void **state)
{
    uint8_t *p = sl_secure_map(8192);
    FILE *f = fopen("/proc/self/smaps", "r");
    char line[512];
    int inside = 0, flagged = 0;

    assert_non_null(p);
    assert_non_null(f);
    while (fgets(line, sizeof(line), f)) {
        unsigned long from, to;

        if (sscanf(line, "%lx-%lx ", &from, &to) == 2 && strchr(line, '-') < strchr(line, ' '))
            inside = from <= (unsigned long)p && (unsigned long)p < to;
        else if (inside && strncmp(line, "VmFlags:", 8) == 0)
            flagged = strstr(line, " dd") != NULL;
    }
    fclose(f);
    assert_true(flagged);
    sl_secure_unmap(p, 8192);
}

/* What the kernel says of the mapping at p: "default", "prefer:0", ... */
static void policy_of(const void *p, char *out, size_t cap)
{
    FILE *f = fopen("/proc/self/numa_maps", "r");
    char line[1024];
    out[0] = '\0';
    while (f && fgets(line, sizeof line, f)) {
        unsigned long at;
        char policy[64];
        if (sscanf(line, "%lx %63s", &at, policy) == 2 && at == (unsigned long)(uintptr_t)p)
            snprintf(out, cap, "%s", policy);
    }
    if (f)
        fclose(f);
}

static void map__follows_the_numa_policy_of_its_thread(void **state)
{
    unsigned long node0 = 1;
    char policy[64];
    const size_t bytes = 100000;

    if (syscall(SYS_set_mempolicy, MPOL_PREFERRED, &node0, 8 * sizeof node0) != 0 ||
        access("/proc/self/numa_maps", R_OK) != 0) {
        print_message("SKIP: set_mempolicy(2) or /proc/self/numa_maps\n");
        skip();
    }
    uint8_t *there = sl_secure_map(bytes);
    assert_int_equal(syscall(SYS_set_mempolicy, MPOL_DEFAULT, NULL, 0), 0);
    uint8_t *anywhere = sl_secure_map(bytes);
    assert_non_null(there);
    assert_non_null(anywhere);
    there[0] = anywhere[0] = 1;
    policy_of(there, policy, sizeof policy);
    assert_string_equal(policy, "prefer:0"); /* although it was touched under another */
    policy_of(anywhere, policy, sizeof policy);
    assert_string_equal(policy, "default");
    sl_secure_unmap(there, bytes);
    sl_secure_unmap(anywhere, bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map__follows_the_numa_policy_of_its_thread),
        cmocka_unit_test(map__zeroed_and_aligned),
        cmocka_unit_test(map__absurd_sizes),
        cmocka_unit_test(map__left_out_of_core_dumps),
        cmocka_unit_test(map__guarded_on_both_sides),
    };

    return cmocka_run_group_tests_name("crypto/secure_memory", tests, NULL, NULL);
}
