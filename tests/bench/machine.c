#include "tests/bench/machine.h"

#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { CALIBRATE_NS = 20000000 };
static const double busy_load = 0.5; /* runnable others beyond which a 2-core figure moves visibly */

uint64_t bench_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t bench_cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- reading ---- */

/* First line of a file, without its end; "" where there is none. */
static void read_line(const char *path, char *out, size_t cap)
{
    out[0] = '\0';
    FILE *f = fopen(path, "re");
    if (f == NULL)
        return;
    if (fgets(out, (int)cap, f) == NULL)
        out[0] = '\0';
    out[strcspn(out, "\n")] = '\0';
    fclose(f);
}

/* What stands behind "key" and a colon in a file of such lines. */
static void read_field(const char *path, const char *key, char *out, size_t cap)
{
    char line[4096];
    out[0] = '\0';
    FILE *f = fopen(path, "re");
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (strncmp(line, key, strlen(key)) != 0)
            continue;
        char *at = strchr(line, ':');
        if (at == NULL)
            continue;
        at += 1 + strspn(at + 1, " \t");
        at[strcspn(at, "\n")] = '\0';
        snprintf(out, cap, "%s", at);
        break;
    }
    if (f != NULL)
        fclose(f);
}

static long read_number(const char *path, const char *key)
{
    char text[64];
    read_field(path, key, text, sizeof(text));
    return strtol(text, NULL, 10);
}

static void read_cpu(struct bench_machine *m)
{
    unsigned a, b, c, d;
    cpu_set_t set;
    read_field("/proc/cpuinfo", "model name", m->cpu_model, sizeof(m->cpu_model));
    m->cpus_online = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    m->cpus_usable = sched_getaffinity(0, sizeof(set), &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
    m->avx512 = __builtin_cpu_supports("avx512f") != 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        m->vaes = c >> 9 & 1;
    if (__get_cpuid(1, &a, &b, &c, &d))
        m->virtual_machine = c >> 31 & 1;
    if (__get_cpuid(0x80000007, &a, &b, &c, &d))
        m->tsc_invariant = d >> 8 & 1;
    read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", m->governor, sizeof(m->governor));
    read_line("/sys/devices/system/cpu/isolated", m->isolated, sizeof(m->isolated));
}

uint64_t bench_tsc_hz(void)
{
    static uint64_t hz;
    if (hz != 0)
        return hz;
    uint64_t t0 = bench_now_ns(), c0 = sl_cycles(), t1;
    while ((t1 = bench_now_ns()) - t0 < CALIBRATE_NS)
        continue;
    hz = (uint64_t)((double)(sl_cycles() - c0) * 1e9 / (double)(t1 - t0));
    return hz;
}

const struct bench_machine *bench_machine(void)
{
    static struct bench_machine m;
    static bool known;
    if (known)
        return &m;
    struct utsname u;
    double load[3] = {0};
    read_cpu(&m);
    if (uname(&u) == 0)
        snprintf(m.kernel, sizeof(m.kernel), "%.32s %.64s", u.sysname, u.release);
    char thp[64];
    read_line("/sys/kernel/mm/transparent_hugepage/enabled", thp, sizeof(thp));
    const char *chosen = strchr(thp, '[');
    if (chosen != NULL)
        snprintf(m.transparent_huge_pages, sizeof(m.transparent_huge_pages), "%.*s",
            (int)strcspn(chosen + 1, "]"), chosen + 1);
    m.huge_pages_total = read_number("/proc/meminfo", "HugePages_Total");
    m.huge_pages_free = read_number("/proc/meminfo", "HugePages_Free");
    m.huge_page_kib = read_number("/proc/meminfo", "Hugepagesize");
    if (getloadavg(load, 3) == 3) {
        m.load_1 = load[0];
        m.load_5 = load[1];
        m.load_15 = load[2];
    }
    const char *coretype = getenv("OPENBLAS_CORETYPE");
    snprintf(m.openblas_coretype, sizeof(m.openblas_coretype), "%s", coretype != NULL ? coretype : "");
#ifdef __SANITIZE_ADDRESS__
    m.sanitized = true;
#endif
    m.tsc_hz = bench_tsc_hz();
    known = true;
    return &m;
}

cJSON *bench_machine_json(void)
{
    const struct bench_machine *m = bench_machine();
    cJSON *j = cJSON_CreateObject(), *huge = cJSON_CreateObject();
    const double load[3] = {m->load_1, m->load_5, m->load_15};
    cJSON_AddStringToObject(j, "cpu", m->cpu_model);
    cJSON_AddNumberToObject(j, "cpus_online", m->cpus_online);
    cJSON_AddNumberToObject(j, "cpus_usable", m->cpus_usable);
    cJSON_AddNumberToObject(j, "tsc_hz", (double)m->tsc_hz);
    cJSON_AddBoolToObject(j, "tsc_invariant", m->tsc_invariant);
    cJSON_AddStringToObject(j, "governor", m->governor[0] != '\0' ? m->governor : "not shown");
    cJSON_AddStringToObject(j, "isolated_cpus", m->isolated);
    cJSON_AddBoolToObject(j, "virtual_machine", m->virtual_machine);
    cJSON_AddBoolToObject(j, "avx512", m->avx512);
    cJSON_AddBoolToObject(j, "vaes", m->vaes);
    cJSON_AddNumberToObject(huge, "total", (double)m->huge_pages_total);
    cJSON_AddNumberToObject(huge, "free", (double)m->huge_pages_free);
    cJSON_AddNumberToObject(huge, "kib", (double)m->huge_page_kib);
    cJSON_AddStringToObject(huge, "transparent", m->transparent_huge_pages);
    cJSON_AddItemToObject(j, "huge_pages", huge);
    cJSON_AddStringToObject(j, "kernel", m->kernel);
    cJSON_AddItemToObject(j, "load_average", cJSON_CreateDoubleArray(load, 3));
    cJSON_AddStringToObject(j, "openblas_coretype", m->openblas_coretype);
    cJSON_AddBoolToObject(j, "sanitized_build", m->sanitized);
    return j;
}

/* ---- what spoils a measurement ---- */

static void warn(cJSON *warnings, const char *text)
{
    cJSON_AddItemToArray(warnings, cJSON_CreateString(text));
}

void bench_machine_warn(cJSON *w)
{
    const struct bench_machine *m = bench_machine();
    char text[256];
    if (m->sanitized)
        warn(w, "sanitized build: no figure of it says anything; build without b_sanitize");
    if (m->cpus_usable < 2)
        warn(w,
            "one CPU for sender and receiver: every hand-off waits for the scheduler; use a host with two or "
            "more (or lift taskset)");
    if (m->load_1 > busy_load) {
        snprintf(text, sizeof(text),
            "the host is busy (load %.2f on %u CPUs): end what runs, or quote ratios only", m->load_1,
            m->cpus_online);
        warn(w, text);
    }
    if (m->governor[0] == '\0')
        warn(w, m->virtual_machine
                    ? "a virtual machine: its clock may change unseen, its CPUs may be shared; quote ratios"
                    : "the clock's governor is not shown by this kernel: the frequency may change unseen");
    else if (strcmp(m->governor, "performance") != 0) {
        snprintf(text, sizeof(text),
            "frequency scaling (governor %s): echo performance | sudo tee "
            "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
            m->governor);
        warn(w, text);
    }
    if (!m->tsc_invariant)
        warn(w, "the time stamp counter does not say that it runs at a constant rate: cycles may not be "
                "comparable");
    if (m->huge_pages_free == 0)
        warn(w,
            "no huge pages: TLB misses are in every figure; echo 256 | sudo tee /proc/sys/vm/nr_hugepages");
    if (m->isolated[0] == '\0')
        warn(w, "no isolated CPUs: the kernel's work and other programs interrupt the measured threads; boot "
                "with "
                "isolcpus=");
    if (m->openblas_coretype[0] != '\0')
        warn(w, "OPENBLAS_CORETYPE is set: it can halve the speed of matrix products; unset it");
}

uint64_t bench_resident_bytes(void)
{
    unsigned long long all = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f != NULL) {
        if (fscanf(f, "%llu %llu", &all, &resident) != 2)
            resident = 0;
        fclose(f);
    }
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- CPUs ---- */

int bench_cpu(unsigned n)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return -1;
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &set) && n-- == 0)
            return c;
    return -1;
}

int bench_pin(int cpu)
{
    cpu_set_t set;
    if (cpu < 0 || cpu >= CPU_SETSIZE)
        return -EINVAL;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return sched_setaffinity(0, sizeof(set), &set) == 0 ? 0 : -errno;
}

/* ---- noise ---- */

static uint64_t ticks_of(const struct rusage *r)
{
    double s = (double)(r->ru_utime.tv_sec + r->ru_stime.tv_sec) +
               1e-6 * (double)(r->ru_utime.tv_usec + r->ru_stime.tv_usec);
    return (uint64_t)(s * (double)sysconf(_SC_CLK_TCK));
}

void bench_noise_look(struct bench_noise *n)
{
    struct rusage self, children;
    unsigned long long user = 0, nice = 0, sys = 0, idle, wait, irq = 0, soft = 0, steal = 0;
    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    FILE *f = fopen("/proc/stat", "re");
    if (f != NULL) {
        if (fscanf(f, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &sys, &idle, &wait, &irq,
                &soft, &steal) != 8)
            user = nice = sys = irq = soft = steal = 0;
        fclose(f);
    }
    *n = (struct bench_noise){.switches = (uint64_t)self.ru_nivcsw + (uint64_t)children.ru_nivcsw,
        .busy_ticks = user + nice + sys + irq + soft,
        .own_ticks = ticks_of(&self) + ticks_of(&children),
        .steal_ticks = steal,
        .at_ns = bench_now_ns()};
}

cJSON *bench_noise_json(const struct bench_noise *from)
{
    struct bench_noise to;
    bench_noise_look(&to);
    double s = 1e-9 * (double)(to.at_ns - from->at_ns), hz = (double)sysconf(_SC_CLK_TCK);
    double busy = (double)(to.busy_ticks - from->busy_ticks), own = (double)(to.own_ticks - from->own_ticks);
    double others = busy > own ? busy - own : 0;
    cJSON *j = cJSON_CreateObject();
    cJSON_AddNumberToObject(j, "seconds", s);
    cJSON_AddNumberToObject(j, "involuntary_switches", (double)(to.switches - from->switches));
    cJSON_AddNumberToObject(j, "busy_others", s > 0 ? others / hz / s : 0);
    cJSON_AddNumberToObject(j, "steal_s", (double)(to.steal_ticks - from->steal_ticks) / hz);
    return j;
}
