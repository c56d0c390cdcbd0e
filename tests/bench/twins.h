/* Two processes of one measurement, each on a CPU of its own, with memory between them: both ends of a memif
 * link, or of a kernel socket, cannot share a process. They are forked from the bench, which has started
 * neither EAL nor threads by then. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct bench_twin {
    unsigned index;  /* 0 or 1 */
    int cpu;         /* its own; both the same where there is only one */
    const char *dir; /* private to the pair, 0700; gone with it */
    void *shared;
    char *err; /* one line where it fails */
    size_t err_cap;
    struct bench_twins_page *page;
};

/* A side returns BENCH_OK, BENCH_FAILED or BENCH_SKIPPED; it ends without clean-up of what the kernel takes
 * back. */
typedef int (*bench_twin_fn)(struct bench_twin *);

/* Memory that both sides and the caller see, zeroed. NULL: none. */
void *bench_shared_map(size_t bytes);
void bench_shared_unmap(void *, size_t bytes);

/* Runs both; returns BENCH_OK, or the status and the words of the one that failed first. Sides that run for
 * longer than limit_s are ended: BENCH_FAILED. BENCH_STOPPED after Ctrl-C. */
int bench_twins_run(
    bench_twin_fn a, bench_twin_fn b, void *shared, double limit_s, char *err, size_t err_cap);

/* On a side: waits for the other. -ECANCELED: it has ended. */
int bench_twin_meet(struct bench_twin *);
/* Whether to stop early: Ctrl-C, or the other side has ended. */
int bench_twin_cancelled(const struct bench_twin *);
/* Waits until the other side has ended, at most two seconds. */
void bench_twin_outlive(const struct bench_twin *);
int bench_twin_other_pid(const struct bench_twin *);
