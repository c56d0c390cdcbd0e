#include "trainer/tensor/parallel.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Pauses before a thread sleeps: 20 to 50 µs, more than lies between most ranges of a step. Threads that spin
 * for longer take the CPU from whoever shares it with them, the step's own other threads included. */
enum { SPINS = 1000 };

/* A word on which threads wait: they spin for a while, then sleep. Whoever changes it wakes the sleepers. No
 * wake-up is lost: a sleeper counts itself before the kernel compares the word, the changer changes it before
 * it looks at the count, and both are sequentially consistent. */
struct word {
    _Atomic uint32_t value, sleepers;
};

static struct {
    pthread_mutex_t turn;                          /* whose ranges the helpers work on; guards what follows */
    uint32_t helpers;                              /* that exist */
    struct word call __attribute__((aligned(64))); /* number of the present call */
    struct word left __attribute__((aligned(64))); /* helpers that have not ended it */
    uint32_t threads, total, grain;                /* of the call: the helpers read it after `call` */
    sl_range_fn *f;
    void *ctx;
} pool = {.turn = PTHREAD_MUTEX_INITIALIZER};

static _Atomic uint32_t n_threads = 1;
static _Thread_local bool inside; /* of a range */

void sl_parallel_set_threads(uint32_t n)
{
    atomic_store_explicit(&n_threads, n ? n : 1, memory_order_relaxed);
}

uint32_t sl_parallel_threads(void)
{
    return atomic_load_explicit(&n_threads, memory_order_relaxed);
}

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Until the word is another than `old`; returns what it is. */
static uint32_t wait_for_change(struct word *w, uint32_t old)
{
    uint32_t now;
    for (unsigned i = 0; i < SPINS; i++) {
        if ((now = atomic_load_explicit(&w->value, memory_order_acquire)) != old)
            return now;
        pause_briefly();
    }
    atomic_fetch_add(&w->sleepers, 1);
    while ((now = atomic_load(&w->value)) == old)
        syscall(SYS_futex, &w->value, FUTEX_WAIT_PRIVATE, old, NULL, NULL, 0);
    atomic_fetch_sub(&w->sleepers, 1);
    return now;
}

static void wake(struct word *w)
{
    if (atomic_load(&w->sleepers))
        syscall(SYS_futex, &w->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

/* Range t of `threads`. */
static void range(uint32_t t, uint32_t threads, uint32_t total, uint32_t grain, sl_range_fn *f, void *ctx)
{
    uint64_t units = (total + (uint64_t)grain - 1) / grain;
    uint64_t first = units * t / threads * grain, end = units * (t + 1) / threads * grain;
    if (end > total)
        end = total;
    if (first < end)
        f(ctx, t, (uint32_t)first, (uint32_t)(end - first));
}

/* Every so many-th range from `t` on: there may be fewer helpers than were asked for. */
static void work(uint32_t t, uint32_t team)
{
    for (; t < pool.threads; t += team)
        range(t, pool.threads, pool.total, pool.grain, pool.f, pool.ctx);
}

static void end_call(void)
{
    if (atomic_fetch_sub(&pool.left.value, 1) == 1)
        wake(&pool.left);
}

static void wait_for_helpers(void)
{
    for (uint32_t left = atomic_load(&pool.left.value); left;)
        left = wait_for_change(&pool.left, left);
}

static void *helper(void *arg)
{
    uint32_t index = (uint32_t)(uintptr_t)arg, call = atomic_load(&pool.call.value);
    inside = true;
    end_call(); /* from the next one on */
    for (;;) {
        call = wait_for_change(&pool.call, call);
        work(index, pool.helpers + 1);
        end_call();
    }
    return NULL;
}

/* Signals are for the program's own threads. A helper that cannot be had is done without. */
static void hire(uint32_t wanted)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool.helpers < wanted) {
        pthread_t thread;
        atomic_store(&pool.left.value, 1);
        if (pthread_create(&thread, NULL, helper, (void *)(uintptr_t)(pool.helpers + 1)))
            break;
        pthread_setname_np(thread, "kernels");
        pthread_detach(thread);
        wait_for_helpers();
        pool.helpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static void together(uint32_t threads, uint32_t total, uint32_t grain, sl_range_fn *f, void *ctx)
{
    if (pool.helpers + 1 < threads)
        hire(threads - 1);
    pool.threads = threads;
    pool.total = total;
    pool.grain = grain;
    pool.f = f;
    pool.ctx = ctx;
    atomic_store(&pool.left.value, pool.helpers);
    atomic_fetch_add(&pool.call.value, 1);
    wake(&pool.call);
    work(0, pool.helpers + 1);
    wait_for_helpers();
}

void sl_parallel(uint32_t total, uint32_t grain, sl_range_fn *f, void *ctx)
{
    uint32_t threads = sl_parallel_threads();
    if (!total)
        return;
    if (threads == 1 || total <= grain || inside) {
        f(ctx, 0, 0, total);
        return;
    }
    inside = true;
    if (pthread_mutex_trylock(&pool.turn) == 0) {
        together(threads, total, grain, f, ctx);
        pthread_mutex_unlock(&pool.turn);
    } else { /* the helpers are another caller's: the same ranges, one after another */
        for (uint32_t t = 0; t < threads; t++)
            range(t, threads, total, grain, f, ctx);
    }
    inside = false;
}
