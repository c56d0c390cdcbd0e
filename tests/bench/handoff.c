/* sluice-bench handoff: what passing a slot between data lcore and trainer costs. */
#include "tests/bench/exchange.h"
#include "tests/bench/machine.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { SLOTS = 16, TARGET_NS = 200, LINE_TURNS = 20000 };

static double seconds = 3, interval_us = 1;
static uint64_t count;

static const struct bench_option options[] = {
    {"seconds", BENCH_REAL, &seconds, "S", "how long", 0.01, 3600, NULL},
    {"count", BENCH_NUMBER, &count, "N", "end after so many hand-offs; 0: by time", 0, 0, NULL},
    {"interval-us", BENCH_REAL, &interval_us, "US", "between the starts of two", 0, 1e6, NULL},
    {0},
};

static cJSON *direction(cJSON *to, const char *name, const struct sl_histogram *h)
{
    cJSON *j = cJSON_AddObjectToObject(to, name);
    bench_histogram_add(j, h);
    return j;
}

static void describe(cJSON *result, const struct bench_exchange *x, double line_ns)
{
    uint64_t down = sl_histogram_quantile(&x->to_trainer, 0.5), up = sl_histogram_quantile(&x->to_lcore, 0.5);
    uint64_t one_way = down > up ? down : up;
    bool shared = x->cpu[1] < 0 || x->cpu[0] == x->cpu[1];
    cJSON_AddNumberToObject(result, "handoffs", (double)x->done);
    cJSON_AddNumberToObject(result, "p50_ns", (double)one_way); /* of the slower direction */
    uint64_t p99_down = sl_histogram_quantile(&x->to_trainer, 0.99),
             p99_up = sl_histogram_quantile(&x->to_lcore, 0.99);
    cJSON_AddNumberToObject(result, "p99_ns", (double)(p99_down > p99_up ? p99_down : p99_up));
    direction(result, "to_trainer", &x->to_trainer);
    direction(result, "to_lcore", &x->to_lcore);
    direction(result, "to_trainer_and_slot_read", &x->to_trainer_read);
    direction(result, "to_lcore_and_slot_read", &x->to_lcore_read);
    direction(result, "round_trip", &x->round_trip);
    cJSON_AddNumberToObject(result, "cache_line_one_way_ns", line_ns);
    cJSON_AddNumberToObject(result, "over_cache_line", line_ns > 0 ? (double)one_way / line_ns : 0);
    cJSON_AddNumberToObject(result, "wrong_handles", (double)x->wrong);
    cJSON *threads = cJSON_AddObjectToObject(result, "threads");
    cJSON_AddNumberToObject(threads, "lcore_cpu", x->cpu[0]);
    cJSON_AddNumberToObject(threads, "trainer_cpu", x->cpu[1]);
    cJSON_AddNumberToObject(threads, "lcore_involuntary_switches", (double)x->switches[0]);
    cJSON_AddNumberToObject(threads, "trainer_involuntary_switches", (double)x->switches[1]);
    const struct bench_machine *m = bench_machine();
    cJSON_AddBoolToObject(result, "overcommitted", shared || m->load_1 + 2 > m->cpus_online + 0.5);
    cJSON *target = cJSON_AddObjectToObject(result, "target");
    cJSON_AddNumberToObject(target, "p50_ns", TARGET_NS);
    cJSON_AddBoolToObject(target, "met", x->done > 0 && one_way <= TARGET_NS);
}

static int run(cJSON *result, char *err, size_t cap)
{
    static struct bench_exchange x;
    pthread_t lcore, trainer;
    int ret = bench_exchange_init(&x, SLOTS);
    if (ret != 0) {
        snprintf(err, cap, "slots: %s", strerror(-ret));
        return BENCH_FAILED;
    }
    x.n = count;
    x.ns_per_cycle = 1e9 / (double)bench_tsc_hz();
    x.interval_cycles = (uint64_t)(interval_us * 1e3 / x.ns_per_cycle);
    x.cpu[0] = bench_cpu(0);
    x.cpu[1] = bench_cpu(1) >= 0 ? bench_cpu(1) : x.cpu[0];
    double line_ns = bench_exchange_line_ns(x.cpu[0], x.cpu[1], LINE_TURNS);
    if (pthread_create(&lcore, NULL, bench_exchange_lcore, &x) != 0) {
        snprintf(err, cap, "cannot start a thread");
        return BENCH_FAILED;
    }
    bool both = pthread_create(&trainer, NULL, bench_exchange_trainer, &x) == 0;
    uint64_t until = bench_now_ns() + (uint64_t)(seconds * 1e9);
    while (both && bench_now_ns() < until && __atomic_load_n(&x.stop, __ATOMIC_ACQUIRE) == 0 &&
           bench_sleep(0.01))
        bench_progress(
            "handoff: %llu so far", (unsigned long long)__atomic_load_n(&x.done, __ATOMIC_RELAXED));
    __atomic_store_n(&x.stop, 1, __ATOMIC_RELEASE);
    pthread_join(lcore, NULL);
    if (both)
        pthread_join(trainer, NULL);
    describe(result, &x, line_ns);
    uint64_t wrong = x.wrong;
    bench_exchange_free(&x);
    snprintf(err, cap, wrong != 0 ? "%llu handles came back wrong" : "the trainer's thread did not start",
        (unsigned long long)wrong);
    return wrong != 0 ? BENCH_UNCOUNTED : both ? BENCH_OK : BENCH_FAILED;
}

const struct bench_verb bench_handoff = {
    .name = "handoff",
    .summary = "slot hand-off from data lcore to trainer and back, one at a time",
    .about =
        "Two threads on two CPUs, the real rings and slots. Each way counts from the time stamp beside the\n"
        "push until the other thread has the handle; and, apart, until it has read the slot. Beside it what\n"
        "one cache line takes between these two CPUs: the least that any hand-off can cost.\n",
    .examples = "  sluice-bench handoff\n"
                "  sluice-bench handoff --seconds 10 --json\n"
                "  taskset -c 2,3 sluice-bench handoff      # on these two CPUs\n",
    .options = options,
    .run = run,
};
