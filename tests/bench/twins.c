#include "tests/bench/twins.h"

#include "tests/bench/machine.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ERR_BYTES = 512, LOOK_MS = 2, OUTLIVE_MS = 2000 };

struct bench_twins_page {
    uint32_t met;       /* atomic: arrivals at meetings, both sides together */
    uint32_t cancelled; /* atomic: one has ended */
    uint32_t meetings[2];
    pid_t pid[2];
    char err[2][ERR_BYTES];
};

void *bench_shared_map(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void bench_shared_unmap(void *p, size_t bytes)
{
    if (p != NULL)
        munmap(p, bytes);
}

static void sleep_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)ms * 1000000}, NULL);
}

int bench_twin_cancelled(const struct bench_twin *s)
{
    return bench_stopping() || __atomic_load_n(&s->page->cancelled, __ATOMIC_ACQUIRE) != 0;
}

int bench_twin_meet(struct bench_twin *s)
{
    uint32_t all = 2 * ++s->page->meetings[s->index];
    __atomic_add_fetch(&s->page->met, 1, __ATOMIC_ACQ_REL);
    while (__atomic_load_n(&s->page->met, __ATOMIC_ACQUIRE) < all) {
        if (bench_twin_cancelled(s))
            return -ECANCELED;
        sleep_ms(1);
    }
    return 0;
}

void bench_twin_outlive(const struct bench_twin *s)
{
    for (unsigned ms = 0; ms < OUTLIVE_MS && !bench_twin_cancelled(s); ms++)
        sleep_ms(1);
}

int bench_twin_other_pid(const struct bench_twin *s)
{
    return (int)s->page->pid[1 - s->index];
}

static void remove_dir(const char *path)
{
    DIR *d = opendir(path);
    struct dirent *e;
    char file[512];
    while (d != NULL && (e = readdir(d)) != NULL) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(file, sizeof(file), "%s/%s", path, e->d_name);
        if (e->d_type == DT_DIR)
            remove_dir(file);
        else
            unlink(file);
    }
    if (d != NULL)
        closedir(d);
    rmdir(path);
}

static pid_t begin(
    struct bench_twins_page *page, unsigned index, bench_twin_fn fn, const char *dir, void *shared)
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    page->pid[index] = getpid(); /* before the other side can ask */
    int cpu = bench_cpu(index);
    struct bench_twin side = {.index = index,
        .cpu = cpu >= 0 ? cpu : bench_cpu(0),
        .dir = dir,
        .shared = shared,
        .err = page->err[index],
        .err_cap = ERR_BYTES,
        .page = page};
    _exit(fn(&side));
}

/* Waits for both. The first that fails, or the end of the time, cancels the other. */
static int wait_for_both(struct bench_twins_page *page, double limit_s, char *err, size_t err_cap)
{
    uint64_t until = bench_now_ns() + (uint64_t)(limit_s * 1e9);
    int result = BENCH_OK, left = 2;
    bool killed = false;
    while (left > 0) {
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid == page->pid[0] || pid == page->pid[1]) {
            unsigned i = pid == page->pid[1];
            int code = WIFEXITED(status) ? WEXITSTATUS(status) : BENCH_FAILED;
            left--;
            __atomic_store_n(&page->cancelled, 1, __ATOMIC_RELEASE);
            if (code == BENCH_OK || result != BENCH_OK)
                continue;
            result = code;
            if (WIFSIGNALED(status) && !killed)
                snprintf(err, err_cap, "side %u ended by signal %d", i, WTERMSIG(status));
            else if (!killed)
                snprintf(err, err_cap, "%s", page->err[i]);
            until = bench_now_ns() + 3000000000u;
            continue;
        }
        if (bench_stopping())
            __atomic_store_n(&page->cancelled, 1, __ATOMIC_RELEASE);
        if (bench_now_ns() > until && !killed) {
            killed = true;
            if (result == BENCH_OK)
                snprintf(err, err_cap, "the two processes did not end within %.0f s", limit_s);
            kill(page->pid[0], SIGKILL);
            kill(page->pid[1], SIGKILL);
        }
        sleep_ms(LOOK_MS);
    }
    if (bench_stopping())
        return BENCH_STOPPED;
    return killed && result == BENCH_OK ? BENCH_FAILED : result;
}

int bench_twins_run(bench_twin_fn a, bench_twin_fn b, void *shared, double limit_s, char *err, size_t err_cap)
{
    char dir[] = "/tmp/sluice-bench-XXXXXX";
    struct bench_twins_page *page = bench_shared_map(sizeof(*page));
    if (page == NULL || mkdtemp(dir) == NULL) {
        snprintf(err, err_cap, "cannot make room for two processes: %s", strerror(errno));
        bench_shared_unmap(page, sizeof(*page));
        return BENCH_FAILED;
    }
    fflush(stdout);
    fflush(stderr);
    int result = BENCH_FAILED;
    page->pid[0] = begin(page, 0, a, dir, shared);
    page->pid[1] = page->pid[0] < 0 ? -1 : begin(page, 1, b, dir, shared);
    if (page->pid[1] >= 0) {
        result = wait_for_both(page, limit_s, err, err_cap);
    } else {
        snprintf(err, err_cap, "cannot start a process: %s", strerror(errno));
        if (page->pid[0] > 0) {
            kill(page->pid[0], SIGKILL);
            waitpid(page->pid[0], NULL, 0);
        }
    }
    remove_dir(dir);
    bench_shared_unmap(page, sizeof(*page));
    return result;
}
