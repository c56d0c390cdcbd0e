#include "dataplane/io/dpdk/eal.h"

#include <errno.h>
#include <pthread.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ARGS_MAX = 64, ARG_BYTES = 4096, DEFAULT_MEMORY_MIB = 256 };

/* One process, one EAL: its state is global by nature. */
static struct {
    bool started;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ready, stop, keep;
    int status, error;
    FILE *log;
    int argc;
    char *argv[ARGS_MAX + 1];
    char text[ARG_BYTES];
    size_t used;
} eal = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

bool sl_eal_is_pci(const char *device)
{
    unsigned domain, bus, dev, function;
    int end = 0;
    return (sscanf(device, "%4x:%2x:%2x.%1u%n", &domain, &bus, &dev, &function, &end) == 4 ||
               sscanf(device, "%2x:%2x.%1u%n", &bus, &dev, &function, &end) == 3) &&
           (device[end] == '\0' || device[end] == ',');
}

static int add(const char *arg)
{
    size_t n = strlen(arg) + 1;
    if (eal.argc == ARGS_MAX || eal.used + n > sizeof(eal.text))
        return -E2BIG;
    char *at = eal.text + eal.used;
    memcpy(at, arg, n);
    eal.used += n;
    eal.argv[eal.argc++] = at;
    eal.argv[eal.argc] = NULL;
    return 0;
}

static int add_pair(const char *option, const char *value)
{
    int err = add(option);
    return err != 0 ? err : add(value);
}

/* "0@3", or "0@(0,1,...)" over the CPUs that the process may use: one lcore, and no worker threads beside it.
 */
static int add_lcore(int cpu)
{
    char set[1024];
    cpu_set_t mask;
    if (cpu >= 0) {
        snprintf(set, sizeof(set), "0@%d", cpu);
        return add_pair("--lcores", set);
    }
    if (sched_getaffinity(0, sizeof(mask), &mask) != 0)
        return -errno;
    size_t n = (size_t)snprintf(set, sizeof(set), "0@(");
    for (int c = 0; c < CPU_SETSIZE && n < sizeof(set) - 8; c++) {
        if (CPU_ISSET(c, &mask))
            n += (size_t)snprintf(set + n, sizeof(set) - n, "%s%d", set[n - 1] == '(' ? "" : ",", c);
    }
    snprintf(set + n, sizeof(set) - n, ")");
    return add_pair("--lcores", set);
}

static int build_args(const struct sl_eal_config *c)
{
    char memory[16];
    snprintf(memory, sizeof(memory), "%u", c->memory_mib != 0 ? c->memory_mib : DEFAULT_MEMORY_MIB);
    int err = 0;
    eal.argc = 0;
    eal.used = 0;
    err |= add("sluice");
    err |= add_lcore(c->cpu);
    err |= add_pair("--file-prefix", c->file_prefix);
    /* --in-memory and --no-huge exclude each other; neither leaves files behind. */
    err |= c->huge_pages ? add("--in-memory") : add("--no-huge") | add("--no-shconf");
    err |= add_pair("-m", memory);
    err |= add("--single-file-segments"); /* memif's zero-copy passes one file of all the memory */
    err |= c->pci_device != NULL ? add_pair("-a", c->pci_device) : add("--no-pci");
    for (const char *const *x = c->extra; x != NULL && *x != NULL; x++)
        err |= add(*x);
    return err != 0 ? -E2BIG : 0;
}

static void print_args(char *out, size_t cap)
{
    size_t n = 0;
    if (cap > 0)
        out[0] = '\0';
    for (int i = 1; i < eal.argc && n < cap; i++)
        n += (size_t)snprintf(out + n, cap - n, "%s%s", i > 1 ? " " : "", eal.argv[i]);
}

static long free_huge_pages(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[128];
    long n = 0;
    while (f != NULL && fgets(line, sizeof(line), f) != NULL) {
        if (sscanf(line, "HugePages_Free: %ld", &n) == 1)
            break;
    }
    if (f != NULL)
        fclose(f);
    return n;
}

static void *eal_main(void *arg)
{
    /* rte_eal_init may reorder its argv and keeps pointers into it: eal.text lives as long as the process. */
    char *argv[ARGS_MAX + 1];
    memcpy(argv, eal.argv, sizeof(argv));
    int status = rte_eal_init(eal.argc, argv) < 0 ? -1 : 0;
    pthread_mutex_lock(&eal.lock);
    eal.status = status;
    eal.error = rte_errno;
    eal.ready = true;
    pthread_cond_broadcast(&eal.changed);
    while (status == 0 && !eal.stop)
        pthread_cond_wait(&eal.changed, &eal.lock);
    bool cleanup = status == 0 && !eal.keep;
    pthread_mutex_unlock(&eal.lock);
    if (cleanup)
        rte_eal_cleanup();
    return NULL;
}

static int check(const struct sl_eal_config *c, char *err, size_t err_cap)
{
    if (access(c->run_dir, W_OK | X_OK) != 0) {
        int e = errno;
        snprintf(err, err_cap, "cannot write to the run directory %s: %s; name another with run.dir",
            c->run_dir, strerror(e));
        return -e;
    }
    if (c->huge_pages && free_huge_pages() == 0) {
        snprintf(err, err_cap,
            "no free huge pages: reserve some with 'echo 256 | sudo tee /proc/sys/vm/nr_hugepages', or turn "
            "them off");
        return -ENOMEM;
    }
    return 0;
}

static int start_thread(void)
{
    sigset_t all, before;
    sigfillset(&all);
    /* memif's sendmsg to an end that has just died raises SIGPIPE; and no signal handler should run on EAL's
     * threads. They inherit this mask. */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int ret = pthread_create(&eal.thread, NULL, eal_main, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -ret;
}

int sl_eal_start(const struct sl_eal_config *c, char *args, size_t args_cap, char *err, size_t err_cap)
{
    if (eal.started) {
        snprintf(err, err_cap, "DPDK's environment can be started once in a process");
        return -EALREADY;
    }
    int ret = check(c, err, err_cap);
    if (ret != 0)
        return ret;
    ret = build_args(c);
    if (ret != 0) {
        snprintf(err, err_cap, "too many EAL arguments: shorten eal_extra");
        return ret;
    }
    print_args(args, args_cap);
    const char *xdg = getenv("XDG_RUNTIME_DIR");
    if (xdg == NULL || access(xdg, W_OK | X_OK) != 0)
        setenv("XDG_RUNTIME_DIR", c->run_dir, 1);
    char path[4096];
    snprintf(path, sizeof(path), "%s/dpdk-%s.log", c->run_dir, c->file_prefix);
    eal.log = fopen(path, "we");
    if (eal.log != NULL) {
        setvbuf(eal.log, NULL, _IOLBF, 0);
        rte_openlog_stream(eal.log);
    }
    eal.started = true;
    ret = start_thread();
    if (ret != 0) {
        snprintf(err, err_cap, "cannot start a thread for DPDK: %s", strerror(-ret));
        return ret;
    }
    pthread_mutex_lock(&eal.lock);
    while (!eal.ready)
        pthread_cond_wait(&eal.changed, &eal.lock);
    pthread_mutex_unlock(&eal.lock);
    if (eal.status != 0) {
        pthread_join(eal.thread, NULL);
        snprintf(err, err_cap, "DPDK cannot start (%s): see %s; its arguments were: %s",
            rte_strerror(eal.error), path, args_cap > 0 ? args : "");
        return eal.error > 0 ? -eal.error : -EIO;
    }
    return 0;
}

void sl_eal_keep_until_exit(void)
{
    pthread_mutex_lock(&eal.lock);
    eal.keep = true;
    pthread_mutex_unlock(&eal.lock);
}

void sl_eal_stop(void)
{
    if (!eal.started || eal.status != 0 || eal.stop)
        return;
    pthread_mutex_lock(&eal.lock);
    eal.stop = true;
    pthread_cond_broadcast(&eal.changed);
    pthread_mutex_unlock(&eal.lock);
    pthread_join(eal.thread, NULL);
}
