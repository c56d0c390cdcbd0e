/* The host check on hosts made up as trees of files. */
#include "trainer/edge/check.h"

#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char root[64];
static struct sl_check out;
static struct sl_experiment x;

/* ---- a host: quiet, four CPUs, an IOMMU, a card with vfio-pci on node 0 ---- */

static void make_parents(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0700);
        *slash = '/';
    }
}

static void put(const char *name, const char *text)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s", root, name);
    make_parents(path);
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void put_link(const char *name, const char *target)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s", root, name);
    make_parents(path);
    unlink(path);
    assert_int_equal(symlink(target, path), 0);
}

static void gone(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s", root, name);
    assert_int_equal(unlink(path), 0);
}

#define CPU "/sys/devices/system/cpu"
#define CARD "/sys/bus/pci/devices/0000:03:00.0"
#define PAGES "/sys/kernel/mm/hugepages/hugepages-2048kB"

static const char limits[] =
    "Limit                     Soft Limit           Hard Limit           Units     \n"
    "Max stack size            8388608              unlimited            bytes     \n"
    "Max locked memory         unlimited            unlimited            bytes     \n";
static const char interrupts[] =
    "           CPU0       CPU1       CPU2       CPU3       \n"
    "   1:          9          0          0          0  IO-APIC   1-edge      i8042\n"
    "  24:          0         12          0          0  PCI-MSI 512000-edge      eth0-rx-0\n"
    " NMI:          1          1          1          1   Non-maskable interrupts\n";

static int make_host(void **state)
{
    (void)state;
    strcpy(root, "/tmp/sluice-check-XXXXXX");
    assert_non_null(mkdtemp(root));
    put("/proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\nCpus_allowed_list:\t0-3\n");
    put("/proc/self/limits", limits);
    put("/proc/cpuinfo", "processor : 0\nflags\t\t: fpu avx512f vaes\n");
    put("/proc/swaps", "Filename\t\t\t\tType\t\tSize\n");
    put("/proc/interrupts", interrupts);
    put("/proc/irq/24/smp_affinity_list", "0-2\n");
    for (char c = '0'; c < '4'; c++) {
        char name[] = CPU "/cpu?/cpufreq/scaling_governor";
        *strchr(name, '?') = c;
        put(name, "performance\n");
    }
    put(CPU "/cpu3/topology/thread_siblings_list", "3\n");
    put(CPU "/cpu0/cpuidle/state0/latency", "0\n");
    put(CPU "/cpu0/cpuidle/state0/name", "POLL\n");
    put(CPU "/cpu0/cpuidle/state1/latency", "2\n");
    put(CPU "/cpu0/cpuidle/state1/name", "C1\n");
    put(CPU "/isolated", "3\n");
    put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
    put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    put("/proc/sys/kernel/numa_balancing", "0\n");
    put(PAGES "/free_hugepages", "256\n");
    put("/sys/devices/system/node/node0/cpulist", "0-3\n");
    put("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "256\n");
    put(CARD "/class", "0x020000\n");
    put(CARD "/numa_node", "0\n");
    put_link(CARD "/driver", "../../../bus/pci/drivers/vfio-pci");
    put_link(CARD "/iommu_group", "../../../kernel/iommu_groups/14");
    memset(&x, 0, sizeof x);
    strcpy(x.edge.data.backend, "0000:03:00.0");
    strcpy(x.edge.data.poll, "busy");
    x.edge.data.memory_mib = 256;
    x.edge.data.huge_pages = true;
    return 0;
}

static int remove_one(const char *path, const struct stat *s, int flag, struct FTW *ftw)
{
    (void)s, (void)flag, (void)ftw;
    return remove(path);
}

static int remove_host(void **state)
{
    (void)state;
    return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void slow_interface(const char *name, struct sl_check_interface *i)
{
    assert_string_equal(name, "eth7");
    *i = (struct sl_check_interface){
        .known = true, .gro = true, .rx_ring = 128, .rx_ring_max = 4096, .tx_ring = 256, .tx_ring_max = 256};
}

static void check(void)
{
    struct sl_check_config c = {.root = root, .x = &x, .interface = slow_interface};
    sl_check_host(&c, &out);
}

/* The one finding of that name and level; its text and cure hold these words. */
static void expect(enum sl_check_level level, const char *name, const char *text, const char *cure)
{
    for (uint32_t i = 0; i < out.n; i++) {
        const struct sl_check_finding *f = &out.finding[i];
        if (f->level == level && !strcmp(f->name, name) && strstr(f->text, text) && strstr(f->cure, cure))
            return;
    }
    for (uint32_t i = 0; i < out.n; i++)
        print_message("%s %s: %s -> %s\n", sl_check_level_name(out.finding[i].level), out.finding[i].name,
            out.finding[i].text, out.finding[i].cure);
    fail_msg("no %s '%s' with '%s' and '%s'", sl_check_level_name(level), name, text, cure);
}

static void only(enum sl_check_level level, const char *name, const char *text, const char *cure)
{
    check();
    expect(level, name, text, cure);
    assert_int_equal(out.count[SL_CHECK_WARN] + out.count[SL_CHECK_BAD], 1);
}

/* ---- the cases ---- */

static void host__with_nothing_to_mend(void **state)
{
    (void)state;
    check();
    assert_int_equal(out.count[SL_CHECK_WARN], 0);
    assert_int_equal(out.count[SL_CHECK_BAD], 0);
    assert_int_equal(out.n_cpus, 4);
    assert_int_equal(out.n_data, 1);
    assert_int_equal(out.data[0], 3);
    expect(SL_CHECK_OK, "port", "vfio-pci", "");
    expect(SL_CHECK_OK, "iommu", "group 14", "");
    expect(SL_CHECK_OK, "numa", "node 0", "");
    expect(SL_CHECK_OK, "interrupts", "", "");
}

static void host__with_nothing_to_read(void **state)
{
    (void)state;
    struct sl_check_config c = {.root = "/nonexistent-host"};
    sl_check_host(&c, &out);
    assert_int_equal(out.count[SL_CHECK_BAD], 0);
    expect(SL_CHECK_NOTE, "cpus", "", "");
    expect(SL_CHECK_NOTE, "clocksource", "", "");
}

static void cpu_list__forms(void **state)
{
    (void)state;
    uint32_t cpu[8];
    assert_int_equal(sl_check_cpu_list("0-2,5\n", cpu, 8), 4);
    assert_int_equal(cpu[3], 5);
    assert_int_equal(sl_check_cpu_list("", cpu, 8), 0);
    assert_int_equal(sl_check_cpu_list("7", cpu, 8), 1);
    assert_int_equal(sl_check_cpu_list("0-4294967295", cpu, 8), 8);
    assert_int_equal(sl_check_cpu_list("3-1", cpu, 8), 0);
    assert_int_equal(sl_check_cpu_list("1;2", cpu, 8), 1);
}

static void governor__saves_power(void **state)
{
    (void)state;
    put(CPU "/cpu2/cpufreq/scaling_governor", "powersave\n");
    only(SL_CHECK_WARN, "governor", "1 of 4 CPUs run under governor 'powersave'", "tee");
}

static void isolation__data_cpu_is_shared(void **state)
{
    (void)state;
    put(CPU "/isolated", "\n");
    only(SL_CHECK_WARN, "isolation", "CPU 3", "isolcpus=3");
    strcpy(x.edge.data.poll, "adaptive");
    check();
    assert_int_equal(out.count[SL_CHECK_WARN], 0);
    assert_int_equal(out.n_data, 0);
    x.edge.data.lcores = x.edge.data.n_cpus = 2; /* pinned, though they sleep */
    x.edge.data.cpus[0] = 2;
    x.edge.data.cpus[1] = 3;
    only(SL_CHECK_WARN, "isolation", "CPU 2,3", "isolcpus=2,3");
}

static void data_cpus__last_of_the_allowed(void **state)
{
    (void)state;
    x.edge.data.lcores = 2;
    put(CPU "/isolated", "2-3\n");
    check();
    assert_int_equal(out.n_data, 2);
    assert_int_equal(out.data[0], 2);
    assert_int_equal(out.data[1], 3);
    assert_int_equal(out.count[SL_CHECK_WARN], 0);
}

static void cpus__too_few_to_poll(void **state)
{
    (void)state;
    put("/proc/self/status", "CapEff:\t0\nCpus_allowed_list:\t2,3\n");
    only(SL_CHECK_WARN, "cpus", "2 CPUs", "adaptive");
}

static void siblings__share_the_core(void **state)
{
    (void)state;
    put(CPU "/cpu3/topology/thread_siblings_list", "1,3\n");
    only(SL_CHECK_WARN, "siblings", "CPU 3 shares its core with CPU 1", "cpu1/online");
}

static void idle_states__deep_where_lcores_sleep(void **state)
{
    (void)state;
    put(CPU "/cpu0/cpuidle/state2/latency", "890\n");
    put(CPU "/cpu0/cpuidle/state2/name", "C10\n");
    check();
    assert_int_equal(out.count[SL_CHECK_WARN], 0); /* busy: never idle */
    strcpy(x.edge.data.poll, "adaptive");
    only(SL_CHECK_WARN, "idle_states", "C10 takes 890 us", "cpupower");
    put(CPU "/cpu0/cpuidle/state2/disable", "1\n");
    check();
    assert_int_equal(out.count[SL_CHECK_WARN], 0);
}

static void interrupts__on_the_data_cpu(void **state)
{
    (void)state;
    put("/proc/interrupts",
        "           CPU0       CPU1       CPU2       CPU3       \n"
        "  24:          0         12          0          7  PCI-MSI 512000-edge      eth0-rx-0\n");
    check(); /* came here once, but may not any more */
    assert_int_equal(out.count[SL_CHECK_WARN], 0);
    put("/proc/irq/24/smp_affinity_list", "0-3\n");
    only(SL_CHECK_WARN, "interrupts", "24 (eth0-rx-0)",
        "echo 0,1,2 | sudo tee /proc/irq/24/smp_affinity_list");
}

static void clocksource__needs_a_system_call(void **state)
{
    (void)state;
    put("/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    only(SL_CHECK_WARN, "clocksource", "hpet", "tsc");
}

static void blas__chosen_by_the_environment(void **state)
{
    (void)state;
    struct sl_check_config c = {.root = root, .x = &x, .blas_kernel = "Haswell"};
    sl_check_host(&c, &out);
    expect(SL_CHECK_WARN, "blas", "Haswell", "unset OPENBLAS_CORETYPE");
}

static void huge_pages__too_few(void **state)
{
    (void)state;
    put(PAGES "/free_hugepages", "127\n");
    only(SL_CHECK_BAD, "huge_pages", "254 MiB", "nic hugepages 128");
}

static void huge_pages__not_asked_for(void **state)
{
    (void)state;
    x.edge.data.huge_pages = false;
    only(SL_CHECK_WARN, "huge_pages", "without huge pages", "huge_pages: true");
    strcpy(x.edge.data.backend, "memif");
    check();
    expect(SL_CHECK_NOTE, "huge_pages", "512 MiB", "");
}

static void huge_pages__none_on_the_ports_node(void **state)
{
    (void)state;
    put("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "0\n");
    only(SL_CHECK_WARN, "huge_pages", "node 0", "--node 0");
}

static void thp__for_everyone(void **state)
{
    (void)state;
    put("/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
    only(SL_CHECK_WARN, "thp", "", "madvise");
}

static void numa_balancing__is_on(void **state)
{
    (void)state;
    put("/proc/sys/kernel/numa_balancing", "1\n");
    only(SL_CHECK_WARN, "numa_balancing", "", "echo 0");
}

static void swap__is_on(void **state)
{
    (void)state;
    put("/proc/swaps", "Filename\t\t\t\tType\t\tSize\n/dev/sda2 partition 100\n");
    only(SL_CHECK_WARN, "swap", "", "swapoff");
}

static void memlock__too_low(void **state)
{
    (void)state;
    put("/proc/self/limits",
        "Max locked memory         8388608              8388608              bytes     \n");
    only(SL_CHECK_BAD, "memlock", "8 MiB may be locked; the port wants 320", "ulimit -l unlimited");
    put("/proc/self/status", "CapEff:\t0000000000004000\nCpus_allowed_list:\t0-3\n"); /* CAP_IPC_LOCK */
    check();
    assert_int_equal(out.count[SL_CHECK_BAD], 0);
}

static void port__still_with_the_kernel(void **state)
{
    (void)state;
    put_link(CARD "/driver", "../../../bus/pci/drivers/e1000e");
    only(SL_CHECK_BAD, "port", "is with e1000e", "scripts/nic bind 0000:03:00.0");
    put_link(CARD "/driver", "../../../bus/pci/drivers/mlx5_core");
    check();
    assert_int_equal(out.count[SL_CHECK_BAD], 0);
}

static void port__is_not_there(void **state)
{
    (void)state;
    strcpy(x.edge.data.backend, "0000:09:00.0");
    only(SL_CHECK_BAD, "port", "no device 0000:09:00.0", "nic show");
}

static void iommu__is_off(void **state)
{
    (void)state;
    gone(CARD "/iommu_group");
    only(SL_CHECK_BAD, "iommu", "no IOMMU", "intel_iommu=on");
}

static void numa__port_is_far(void **state)
{
    (void)state;
    put(CARD "/numa_node", "1\n");
    put("/sys/devices/system/node/node1/cpulist", "4-7\n");
    put("/sys/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "256\n");
    only(SL_CHECK_WARN, "numa", "node 1, 1 of 1 CPUs", "taskset -c 4-7");
}

static void pcie__fewer_lanes(void **state)
{
    (void)state;
    put(CARD "/current_link_speed", "8.0 GT/s PCIe\n");
    put(CARD "/max_link_speed", "8.0 GT/s PCIe\n");
    put(CARD "/current_link_width", "4\n");
    put(CARD "/max_link_width", "8\n");
    only(SL_CHECK_WARN, "pcie", "x4 of 8.0 GT/s PCIe x8", "slot");
}

static void interface__merges_and_overruns(void **state)
{
    (void)state;
    strcpy(x.edge.data.backend, "af_packet:eth7");
    check();
    expect(SL_CHECK_BAD, "port", "no interface eth7", "");
    put("/sys/class/net/eth7/operstate", "down\n");
    check();
    expect(SL_CHECK_BAD, "port", "eth7 is down", "ip link set eth7 up");
    put("/sys/class/net/eth7/operstate", "up\n");
    check();
    assert_int_equal(out.count[SL_CHECK_BAD], 0);
    expect(SL_CHECK_WARN, "offloads", "GRO", "ethtool -K eth7 gro off");
    expect(SL_CHECK_WARN, "rings", "128 and 256", "ethtool -G eth7 rx 512 tx 256");
}

static void sockets__hold_too_little(void **state)
{
    (void)state;
    strcpy(x.edge.data.backend, SL_BACKEND_URING);
    put("/proc/sys/net/core/rmem_max", "212992\n");
    only(SL_CHECK_WARN, "sockets", "208 KiB", "rmem_max=4194304");
    put("/proc/self/status", "CapEff:\t0000000000001000\nCpus_allowed_list:\t0-3\n"); /* CAP_NET_ADMIN */
    check();
    assert_int_equal(out.count[SL_CHECK_WARN], 0);
}

/* The verb's exit status is what scripts look at. */
static void main__status_says_how_bad(void **state)
{
    (void)state;
    char *warned[] = {"check", "--json", "--root", root, NULL};
    char *wrong[] = {"check", "--root", NULL}, *more[] = {"check", "me", NULL};
    char *missing[] = {"check", "--experiment", "/nonexistent.yaml", NULL};
    assert_int_equal(sl_check_main(4, warned), 0);
    put("/proc/swaps", "Filename\n/dev/sda2 partition 100\n");
    optind = 0;
    assert_int_equal(sl_check_main(4, warned), 3);
    optind = 0;
    assert_int_equal(sl_check_main(2, wrong), 2);
    optind = 0;
    assert_int_equal(sl_check_main(2, more), 2);
    optind = 0;
    assert_int_equal(sl_check_main(3, missing), 1);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_host, remove_host)
int main(void)
{
    unsetenv("OPENBLAS_CORETYPE");
    const struct CMUnitTest tests[] = {
        CASE(host__with_nothing_to_mend),
        CASE(host__with_nothing_to_read),
        cmocka_unit_test(cpu_list__forms),
        CASE(governor__saves_power),
        CASE(isolation__data_cpu_is_shared),
        CASE(data_cpus__last_of_the_allowed),
        CASE(cpus__too_few_to_poll),
        CASE(siblings__share_the_core),
        CASE(idle_states__deep_where_lcores_sleep),
        CASE(interrupts__on_the_data_cpu),
        CASE(clocksource__needs_a_system_call),
        CASE(blas__chosen_by_the_environment),
        CASE(huge_pages__too_few),
        CASE(huge_pages__not_asked_for),
        CASE(huge_pages__none_on_the_ports_node),
        CASE(thp__for_everyone),
        CASE(numa_balancing__is_on),
        CASE(swap__is_on),
        CASE(memlock__too_low),
        CASE(port__still_with_the_kernel),
        CASE(port__is_not_there),
        CASE(iommu__is_off),
        CASE(numa__port_is_far),
        CASE(pcie__fewer_lanes),
        CASE(interface__merges_and_overruns),
        CASE(sockets__hold_too_little),
        CASE(main__status_says_how_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
