#include "tests/bench/pair.h"

#include "tests/bench/machine.h"
#include "tests/bench/watch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const uint64_t answer_within_ns = 30000000000u, end_within_ns = 5000000000u;

static void pause_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
}

int bench_pair_start(struct bench_pair *p, int (*sender)(struct bench_shared *, void *), void *arg)
{
    p->child = 0;
    p->shared = mmap(NULL, sizeof(*p->shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (p->shared == MAP_FAILED)
        return -errno;
    fflush(NULL);
    p->child = fork();
    if (p->child < 0)
        return -errno;
    if (p->child > 0)
        return 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the terminal sends it to both: the receiver says when to end */
    signal(SIGTERM, SIG_IGN);
    int status = sender(p->shared, arg);
    fflush(NULL);
    _exit(status);
}

bool bench_pair_alive(struct bench_pair *p)
{
    siginfo_t info = {0};
    return p->child > 0 && waitid(P_PID, (id_t)p->child, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
}

static int await(struct bench_pair *p, enum bench_phase a, enum bench_phase b)
{
    uint64_t until = bench_now_ns() + answer_within_ns;
    for (;;) {
        uint32_t at = __atomic_load_n(&p->shared->at, __ATOMIC_ACQUIRE);
        if (at == (uint32_t)a || at == (uint32_t)b)
            return 0;
        if (!bench_pair_alive(p))
            return -ECHILD;
        if (bench_stopping())
            return -EINTR;
        if (bench_now_ns() > until)
            return -ETIMEDOUT;
        pause_a_little();
    }
}

int bench_pair_ask(struct bench_pair *p, enum bench_phase phase)
{
    __atomic_store_n(&p->shared->phase, (uint32_t)phase, __ATOMIC_RELEASE);
    enum bench_phase want = phase == BENCH_DRAIN ? BENCH_IDLE : phase;
    return await(p, want, want);
}

int bench_pair_wait_ready(struct bench_pair *p)
{
    return await(p, BENCH_IDLE, BENCH_IDLE);
}

void bench_pair_end(struct bench_pair *p)
{
    if (p->shared == NULL || p->shared == MAP_FAILED)
        return;
    __atomic_store_n(&p->shared->phase, (uint32_t)BENCH_QUIT, __ATOMIC_RELEASE);
    uint64_t until = bench_now_ns() + end_within_ns;
    while (bench_pair_alive(p) && bench_now_ns() < until)
        pause_a_little();
    if (p->child > 0) {
        kill(p->child, SIGKILL);
        waitpid(p->child, NULL, 0);
    }
    munmap(p->shared, sizeof(*p->shared));
    p->shared = NULL;
}
