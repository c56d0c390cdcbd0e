/* sluice-bench wake: what an adaptive data lcore costs while nothing comes, and how long a first message
 * waits for it to wake. */
#include "tests/bench/latency.h"
#include "tests/bench/sample.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <stdio.h>
#include <string.h>

enum { ROWS = 20, START_S = 40, TARGET_P50_NS = 100000, TARGET_P99_NS = 300000 };
static const double target_cpu = 0.05;

static const char *only = "all";
static const char *const choices[] = {"all", "memif", "uring_udp", NULL};
static double seconds = 5, idle_seconds = 2, rate = 100;

static const struct bench_option options[] = {
    {"backend", BENCH_TEXT, &only, "NAME", "which", 0, 0, choices},
    {"idle-seconds", BENCH_REAL, &idle_seconds, "S", "how long nothing comes", 0.1, 600, NULL},
    {"seconds", BENCH_REAL, &seconds, "S", "how long messages come now and then", 0.1, 600, NULL},
    {"rate", BENCH_REAL, &rate, "N", "messages a second; the lcore sleeps in between", 1, 1000, NULL},
    {0},
};

static void describe(cJSON *to, const struct latency_full *f)
{
    cJSON_AddNumberToObject(to, "idle_cpu", f->idle_cpu);
    bench_histogram_add(to, &f->sent);
    cJSON_AddNumberToObject(to, "messages_planned", (double)f->n_planned);
    cJSON_AddNumberToObject(to, "messages_done", (double)f->n_done);
    cJSON *t = cJSON_AddObjectToObject(to, "target");
    cJSON_AddBoolToObject(t, "idle_cpu_under_5_percent", f->idle_cpu < target_cpu);
    cJSON_AddBoolToObject(
        t, "wakes_within_100_us_p50", sl_histogram_quantile(&f->sent, 0.5) <= TARGET_P50_NS);
    cJSON_AddBoolToObject(
        t, "wakes_within_300_us_p99", sl_histogram_quantile(&f->sent, 0.99) <= TARGET_P99_NS);
}

static int measure(struct latency_full *f, enum latency_backend backend, cJSON *to, char *err, size_t err_cap)
{
    memset(f, 0, sizeof(*f));
    sl_histogram_reset(&f->planned);
    sl_histogram_reset(&f->sent);
    sl_histogram_reset(&f->lag);
    f->backend = backend;
    f->rows = ROWS;
    f->n_units = latency_units(ROWS);
    f->echo = 1;
    f->in_flight = 2;
    f->rate = rate;
    f->seconds = seconds;
    f->edge_adaptive = 1;
    f->idle_seconds = idle_seconds;
    int status = bench_twins_run(
        latency_full_side, latency_full_side, f, 2 * seconds + idle_seconds + START_S, err, err_cap);
    if (status == BENCH_OK)
        describe(to, f);
    else if (status == BENCH_SKIPPED)
        cJSON_AddStringToObject(to, "skipped", err);
    return status == BENCH_SKIPPED ? BENCH_OK : status;
}

static int run(cJSON *result, char *err, size_t err_cap)
{
    struct latency_full *f = bench_shared_map(sizeof(*f));
    int status = BENCH_OK;
    if (f == NULL) {
        snprintf(err, err_cap, "out of memory");
        return BENCH_FAILED;
    }
    cJSON_AddNumberToObject(result, "messages_per_s", rate);
    for (unsigned i = 1; choices[i] != NULL && status == BENCH_OK && !bench_stopping(); i++) {
        if (strcmp(only, "all") != 0 && strcmp(only, choices[i]) != 0)
            continue;
        bench_progress("wake: %s", choices[i]);
        status = measure(f, i == 1 ? LATENCY_MEMIF : LATENCY_URING_UDP,
            cJSON_AddObjectToObject(result, choices[i]), err, err_cap);
    }
    bench_shared_unmap(f, sizeof(*f));
    return status;
}

const struct bench_verb bench_wake = {
    .name = "wake",
    .summary = "an adaptive data lcore: what idling costs, how fast it wakes",
    .about =
        "The edge's lcore polls adaptively; its process is watched while nothing comes (idle_cpu, in CPUs).\n"
        "Then one-fragment messages come far apart. The figures are of the whole round trip from a device\n"
        "whose lcore is awake, so waking is all but a few microseconds of it.\n",
    .examples = "  sluice-bench wake --json\n  sluice-bench wake --backend memif --seconds 20\n",
    .options = options,
    .run = run,
};
