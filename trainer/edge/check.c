#include "trainer/edge/check_host.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

enum {
    PORT_MIB_DEFAULT = 256,
    WAKE_US_MAX = 100, /* adaptive polling wakes within 100 us at the median: a deeper idle state spoils it */
    OTHER_CPUS_MIN = 2, /* beside busy data lcores: the trainer, and everything else */
    LOCKED_SPARE_MIB = 64,
    CAP_IPC_LOCK_BIT = 14, /* linux/capability.h: locked memory is not limited */
};

/* ---- CPUs ---- */

/* As the edge chooses them (start.c): named ones, or busy ones the last that are allowed. */
static void choose_data_cpus(const struct sl_experiment *x, bool busy, struct sl_check *o)
{
    uint32_t lcores = x->edge.data.lcores > 0 ? x->edge.data.lcores : 1;
    o->n_data = x->edge.data.n_cpus;
    for (uint32_t i = 0; i < o->n_data; i++)
        o->data[i] = x->edge.data.cpus[i];
    if (o->n_data > 0 || !busy || o->n_cpus <= lcores)
        return;
    o->n_data = lcores;
    for (uint32_t i = 0; i < lcores; i++)
        o->data[i] = o->cpus[o->n_cpus - lcores + i];
}

static void learn_cpus(struct host *h)
{
    struct sl_check *o = h->out;
    char line[CHECK_LINE];
    FILE *f = check_file(h, "/proc/self/status");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "Cpus_allowed_list:", 18))
            o->n_cpus = sl_check_cpu_list(line + 18 + strspn(line + 18, " \t"), o->cpus, SL_CHECK_CPUS);
    if (f)
        fclose(f);
    if (h->c->x)
        choose_data_cpus(h->c->x, h->busy, o);
}

static void check_cpu_count(struct host *h)
{
    const struct sl_check *o = h->out;
    if (o->n_cpus == 0)
        check_find(h, SL_CHECK_NOTE, "cpus", "", "/proc/self/status does not say which CPUs may be used");
    else if (h->busy && o->n_cpus < (o->n_data > 1 ? o->n_data : 1) + OTHER_CPUS_MIN)
        check_find(h, SL_CHECK_WARN, "cpus", "in the experiment file: edge: {data: {poll: adaptive}}",
            "poll: busy with %u CPUs: data lcores, the trainer and the rest share them", o->n_cpus);
    else
        check_find(h, SL_CHECK_OK, "cpus", "", "%u CPUs to use", o->n_cpus);
}

static void check_governor(struct host *h)
{
    const struct sl_check *o = h->out;
    char line[CHECK_LINE], slow[CHECK_WORD] = "";
    uint32_t seen = 0, bad = 0;
    for (uint32_t i = 0; i < o->n_cpus; i++) {
        if (!check_line(h, line, "/sys/devices/system/cpu/cpu%u/cpufreq/scaling_governor", o->cpus[i]))
            continue;
        seen++;
        if (strcmp(line, "performance") != 0 && bad++ == 0)
            snprintf(slow, sizeof slow, "%.60s", line);
    }
    if (!seen)
        check_find(h, SL_CHECK_OK, "governor", "", "the kernel does not scale frequencies here");
    else if (bad)
        check_find(h, SL_CHECK_WARN, "governor",
            "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
            "%u of %u CPUs run under governor '%s': their clock follows the load with a delay", bad, seen,
            slow);
    else
        check_find(h, SL_CHECK_OK, "governor", "", "performance");
}

static void check_isolation(struct host *h)
{
    const struct sl_check *o = h->out;
    char line[CHECK_LINE] = "", list[256], cure[SL_CHECK_TEXT];
    uint32_t isolated[SL_CHECK_CPUS], n, open = 0;
    if (o->n_data == 0) {
        check_find(h, SL_CHECK_OK, "isolation", "", "not needed: the scheduler places the data lcores");
        return;
    }
    check_line(h, line, "/sys/devices/system/cpu/isolated");
    n = sl_check_cpu_list(line, isolated, SL_CHECK_CPUS);
    for (uint32_t i = 0; i < o->n_data; i++)
        open += !check_has(isolated, n, o->data[i]);
    check_list(o->data, o->n_data, list, sizeof list);
    if (!open) {
        check_find(h, SL_CHECK_OK, "isolation", "", "data lcore's CPU %s is isolated", list);
        return;
    }
    snprintf(cure, sizeof cure,
        "boot with: isolcpus=%.60s nohz_full=%.60s rcu_nocbs=%.60s; then start sluice-edge under taskset -c "
        "0-%u",
        list, list, list, o->cpus[o->n_cpus - 1]);
    check_find(
        h, SL_CHECK_WARN, "isolation", cure, "other programs are scheduled on the data lcore's CPU %s", list);
}

static void check_siblings(struct host *h)
{
    const struct sl_check *o = h->out;
    char line[CHECK_LINE], cure[SL_CHECK_TEXT];
    uint32_t together[SL_CHECK_CPUS];
    for (uint32_t i = 0; i < o->n_data; i++) {
        if (!check_line(h, line, "/sys/devices/system/cpu/cpu%u/topology/thread_siblings_list", o->data[i]))
            continue;
        uint32_t n = sl_check_cpu_list(line, together, SL_CHECK_CPUS);
        for (uint32_t k = 0; k < n; k++) {
            if (together[k] == o->data[i])
                continue;
            snprintf(
                cure, sizeof cure, "echo 0 | sudo tee /sys/devices/system/cpu/cpu%u/online", together[k]);
            check_find(h, SL_CHECK_WARN, "siblings", cure,
                "the data lcore's CPU %u shares its core with CPU %u: each slows the other", o->data[i],
                together[k]);
        }
    }
}

static void check_idle_states(struct host *h)
{
    const struct sl_check *o = h->out;
    char line[CHECK_LINE], name[CHECK_WORD] = "", cure[SL_CHECK_TEXT];
    unsigned long deepest = 0;
    if (o->n_cpus == 0 || h->busy)
        return; /* a CPU that polls is never idle */
    for (unsigned s = 0;
         check_line(h, line, "/sys/devices/system/cpu/cpu%u/cpuidle/state%u/latency", o->cpus[0], s); s++) {
        unsigned long us = strtoul(line, NULL, 10);
        if (check_line(h, line, "/sys/devices/system/cpu/cpu%u/cpuidle/state%u/disable", o->cpus[0], s) &&
            strtoul(line, NULL, 10) != 0)
            continue;
        if (us <= deepest)
            continue;
        deepest = us;
        if (check_line(h, line, "/sys/devices/system/cpu/cpu%u/cpuidle/state%u/name", o->cpus[0], s))
            snprintf(name, sizeof name, "%.60s", line);
    }
    if (deepest <= WAKE_US_MAX) {
        check_find(
            h, SL_CHECK_OK, "idle_states", "", "the deepest idle state takes %lu us to leave", deepest);
        return;
    }
    snprintf(cure, sizeof cure, "sudo cpupower idle-set -D %d", WAKE_US_MAX);
    check_find(h, SL_CHECK_WARN, "idle_states", cure,
        "idle state %s takes %lu us to leave: a sleeping lcore wakes late", name, deepest);
}

/* "  24:   0   17   PCI-MSI 1-edge  eth0": whether the number's interrupts have come to one of the data CPUs.
 */
static bool interrupt_on_data(const struct sl_check *o, const uint32_t *column, uint32_t n_columns,
    char *line, unsigned *number, char name[CHECK_WORD])
{
    char *at = line, *end;
    bool here = false;
    *number = (unsigned)strtoul(at, &end, 10);
    if (end == at || *end != ':')
        return false;
    at = end + 1;
    for (uint32_t i = 0; i < n_columns; i++) {
        unsigned long n = strtoul(at, &end, 10);
        if (end == at)
            return false;
        at = end;
        here |= n > 0 && check_has(o->data, o->n_data, column[i]);
    }
    at[strcspn(at, "\n")] = '\0';
    const char *last = strrchr(at, ' ');
    snprintf(name, CHECK_WORD, "%.60s", last ? last + 1 : at);
    return here;
}

static uint32_t interrupt_columns(char *line, uint32_t *column)
{
    uint32_t n = 0;
    for (char *at = strstr(line, "CPU"); at && n < SL_CHECK_CPUS; at = strstr(at + 3, "CPU"))
        column[n++] = (uint32_t)strtoul(at + 3, NULL, 10);
    return n;
}

static void check_interrupts(struct host *h)
{
    const struct sl_check *o = h->out;
    char line[CHECK_LINE], mask[CHECK_LINE], name[CHECK_WORD], who[160] = "", cure[SL_CHECK_TEXT], keep[128];
    uint32_t column[SL_CHECK_CPUS], allowed[SL_CHECK_CPUS], others[SL_CHECK_CPUS], n = 0, n_others = 0;
    unsigned number, first = 0;
    if (o->n_data == 0)
        return;
    FILE *f = check_file(h, "/proc/interrupts");
    uint32_t n_columns = f && fgets(line, sizeof line, f) ? interrupt_columns(line, column) : 0;
    while (n_columns && fgets(line, sizeof line, f)) {
        if (!interrupt_on_data(o, column, n_columns, line, &number, name))
            continue;
        /* Counts are since boot: one that may no longer come here does not matter. */
        if (check_line(h, mask, "/proc/irq/%u/smp_affinity_list", number)) {
            uint32_t k = sl_check_cpu_list(mask, allowed, SL_CHECK_CPUS), still = 0;
            for (uint32_t i = 0; i < o->n_data; i++)
                still += check_has(allowed, k, o->data[i]);
            if (!still)
                continue;
        }
        size_t used = strlen(who);
        if (n++ == 0)
            first = number;
        if (used + 24 < sizeof who)
            snprintf(who + used, sizeof who - used, "%s%u (%.12s)", used ? ", " : "", number, name);
    }
    if (f)
        fclose(f);
    if (n == 0) {
        check_find(h, SL_CHECK_OK, "interrupts", "", "no device interrupts the data lcore's CPU");
        return;
    }
    for (uint32_t i = 0; i < o->n_cpus; i++)
        if (!check_has(o->data, o->n_data, o->cpus[i]))
            others[n_others++] = o->cpus[i];
    check_list(others, n_others, keep, sizeof keep);
    snprintf(cure, sizeof cure,
        "echo %s | sudo tee /proc/irq/%u/smp_affinity_list (each of them; stop irqbalance first)", keep,
        first);
    check_find(
        h, SL_CHECK_WARN, "interrupts", cure, "%u interrupts come to the data lcore's CPU: %s", n, who);
}

static void check_clock(struct host *h)
{
    char line[CHECK_LINE];
    if (!check_line(h, line, "/sys/devices/system/clocksource/clocksource0/current_clocksource"))
        check_find(h, SL_CHECK_NOTE, "clocksource", "", "the kernel does not say which clock it uses");
    /* These are read in user space; any other costs a system call a look. */
    else if (!strcmp(line, "tsc") || !strcmp(line, "kvm-clock") ||
             !strcmp(line, "hyperv_clocksource_tsc_page") || !strcmp(line, "arch_sys_counter"))
        check_find(h, SL_CHECK_OK, "clocksource", "", "%.60s", line);
    else
        check_find(h, SL_CHECK_WARN, "clocksource",
            "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource (or boot "
            "with: tsc=reliable)",
            "%.60s: every look at the clock is a system call", line);
}

static void check_cpu_flags(struct host *h)
{
    char line[CHECK_LINE];
    bool vaes = false, avx512 = false, virtual = false, known = false;
    FILE *f = check_file(h, "/proc/cpuinfo");
    while (f && !known && fgets(line, sizeof line, f)) {
        known = !strncmp(line, "flags", 5);
        if (known) {
            vaes = strstr(line, " vaes") != NULL;
            avx512 = strstr(line, " avx512f") != NULL;
            virtual = strstr(line, " hypervisor") != NULL;
        }
    }
    if (f)
        fclose(f);
    if (virtual)
        check_find(h, SL_CHECK_NOTE, "virtual", "",
            "a virtual machine: its host may take the CPU away at any time; look at 'st' in top");
    if (known)
        check_find(h, SL_CHECK_NOTE, "instructions", "", "%s, %s",
            avx512 ? "AVX-512" : "no AVX-512: matrices at half speed",
            vaes ? "VAES" : "no VAES: encryption at a third of the speed");
    if (h->c->blas_kernel && *h->c->blas_kernel)
        check_find(h, SL_CHECK_WARN, "blas", "unset OPENBLAS_CORETYPE",
            "OPENBLAS_CORETYPE=%.40s chooses the matrix kernels; it can halve the speed", h->c->blas_kernel);
}

/* ---- memory ---- */

static void check_huge_pages(struct host *h)
{
    const struct sl_experiment *x = h->c->x;
    unsigned long mib = 0, need = x ? x->edge.data.memory_mib : PORT_MIB_DEFAULT;
    unsigned long n = check_pages(h, "/sys/kernel/mm/hugepages", "free_hugepages", &mib);
    bool asked = x && x->edge.data.huge_pages;
    char cure[SL_CHECK_TEXT];
    snprintf(cure, sizeof cure, "sudo scripts/nic hugepages %lu", need / 2);
    if (asked && mib < need)
        check_find(h, SL_CHECK_BAD, "huge_pages", cure,
            "%lu MiB of free huge pages; edge.data.memory_mib wants %lu", mib, need);
    else if (h->pci && !asked)
        check_find(h, SL_CHECK_WARN, "huge_pages", "in the experiment file: edge: {data: {huge_pages: true}}",
            "a NIC of our own without huge pages: more translation misses, in the CPU and in the IOMMU");
    else if (asked)
        check_find(h, SL_CHECK_OK, "huge_pages", "", "%lu free, %lu MiB", n, mib);
    else if (n)
        check_find(h, SL_CHECK_NOTE, "huge_pages", "in the experiment file: edge: {data: {huge_pages: true}}",
            "%lu MiB of huge pages are free and not asked for", mib);
    else
        check_find(h, SL_CHECK_NOTE, "huge_pages", cure,
            "none: DPDK's memory is of small pages, which memif bears well");
}

static void check_transparent(struct host *h)
{
    char line[CHECK_LINE];
    if (check_line(h, line, "/sys/kernel/mm/transparent_hugepage/enabled")) {
        if (strstr(line, "[always]"))
            check_find(h, SL_CHECK_WARN, "thp",
                "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled",
                "transparent huge pages for everyone: the kernel moves memory about and stalls threads");
        else
            check_find(h, SL_CHECK_OK, "thp", "", "%.60s", line);
    }
    if (check_line(h, line, "/proc/sys/kernel/numa_balancing") && line[0] == '1')
        check_find(h, SL_CHECK_WARN, "numa_balancing", "echo 0 | sudo tee /proc/sys/kernel/numa_balancing",
            "the kernel unmaps pages to see who uses them: page faults in the data path");
}

static void check_swap(struct host *h)
{
    char line[CHECK_LINE];
    bool any = false;
    FILE *f = check_file(h, "/proc/swaps");
    if (f && fgets(line, sizeof line, f)) /* the headings */
        any = fgets(line, sizeof line, f) != NULL;
    if (f)
        fclose(f);
    if (any)
        check_find(h, SL_CHECK_WARN, "swap", "sudo swapoff -a",
            "there is swap: the trainer's memory may be written out to it");
    else
        check_find(h, SL_CHECK_OK, "swap", "", "none");
}

/* Bytes that may be locked, from /proc/self/limits; ULLONG_MAX: no limit. */
static bool locked_limit(const struct host *h, unsigned long long *bytes)
{
    static const char key[] = "Max locked memory";
    char line[CHECK_LINE];
    bool seen = false;
    FILE *f = check_file(h, "/proc/self/limits");
    while (f && !seen && fgets(line, sizeof line, f)) {
        seen = !strncmp(line, key, sizeof key - 1);
        const char *value = line + sizeof key - 1 + strspn(line + sizeof key - 1, " ");
        if (seen)
            *bytes = !strncmp(value, "unlimited", 9) ? ULLONG_MAX : strtoull(value, NULL, 10);
    }
    if (f)
        fclose(f);
    return seen;
}

/* What a NIC reads and writes by itself is locked: all of DPDK's memory for vfio, the packets for AF_XDP. */
static void check_memlock(struct host *h)
{
    unsigned long long bytes = 0, need;
    if (!h->pci && strncmp(h->backend, "af_xdp:", 7) != 0) {
        check_find(h, SL_CHECK_OK, "memlock", "", "not needed by %.40s", h->backend);
        return;
    }
    need = h->c->x->edge.data.memory_mib + LOCKED_SPARE_MIB;
    if (!locked_limit(h, &bytes))
        check_find(
            h, SL_CHECK_NOTE, "memlock", "", "/proc/self/limits does not say how much memory may be locked");
    else if (bytes >> 20 >= need || check_capability(h, CAP_IPC_LOCK_BIT))
        check_find(h, SL_CHECK_OK, "memlock", "", "%llu MiB may be locked", need);
    else
        check_find(h, SL_CHECK_BAD, "memlock",
            "ulimit -l unlimited (for good: 'USER - memlock unlimited' in /etc/security/limits.conf)",
            "%llu MiB may be locked; the port wants %llu", bytes >> 20, need);
}

static bool looks_like_pci(const char *backend)
{
    unsigned domain, bus, dev, function;
    return sscanf(backend, "%4x:%2x:%2x.%1u", &domain, &bus, &dev, &function) == 4;
}

void sl_check_host(const struct sl_check_config *c, struct sl_check *out)
{
    const struct sl_experiment *x = c->x;
    struct host h = {.c = c, .out = out, .backend = x ? x->edge.data.backend : "memif"};
    memset(out, 0, sizeof *out);
    h.busy = x && !strcmp(x->edge.data.poll, "busy");
    h.pci = looks_like_pci(h.backend);
    learn_cpus(&h);
    check_cpu_count(&h);
    check_governor(&h);
    check_isolation(&h);
    check_siblings(&h);
    check_idle_states(&h);
    check_interrupts(&h);
    check_clock(&h);
    check_cpu_flags(&h);
    check_huge_pages(&h);
    check_transparent(&h);
    check_swap(&h);
    check_memlock(&h);
    if (x)
        check_port(&h);
}
