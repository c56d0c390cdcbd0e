/* sluice-bench plan: how long the planner thinks, and how near it comes. */
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"
#include "trainer/plan/published.h"
#include "trainer/plan/solve.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SEEDS_MAX = 100 };

static uint64_t n_users = 50, n_servers = 10, n_seeds = 5;
static const char *setting = "published", *objective = "printed";
static const char *const settings[] = {"published", "open", NULL}, *const objectives[] = {
                                                                       "printed", "physical", NULL};

static const struct bench_option options[] = {
    {"users", BENCH_NUMBER, &n_users, "N", "", 1, 100000, NULL},
    {"servers", BENCH_NUMBER, &n_servers, "N", "", 1, 10000, NULL},
    {"seeds", BENCH_NUMBER, &n_seeds, "N", "scenarios", 1, SEEDS_MAX, NULL},
    {"setting", BENCH_TEXT, &setting, "NAME", "", 0, 0, settings},
    {"objective", BENCH_TEXT, &objective, "NAME", "", 0, 0, objectives},
    {0},
};

struct times {
    double ms, over_bound, over_proposed, violation;
};

/* Of this thread alone: others on the host do not count. */
static double own_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *v, size_t n)
{
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static int measure(
    uint64_t seed, enum sl_plan_method method, double proposed, struct times *out, double *value)
{
    enum sl_plan_objective what = strcmp(objective, "physical") == 0 ? SL_PLAN_PHYSICAL : SL_PLAN_PRINTED;
    struct sl_plan_scenario *s =
        sl_published(seed, (uint32_t)n_users, (uint32_t)n_servers, strcmp(setting, "open") == 0);
    struct sl_plan plan = {(uint32_t)n_users, calloc(n_users, sizeof *plan.user)};
    struct sl_plan_report report;
    int rc = s && plan.user ? 0 : -ENOMEM;

    double from = own_ms();
    if (!rc)
        rc = sl_plan_solve(s, what, method, seed, &plan, &report);
    out->ms = own_ms() - from;
    if (!rc) {
        *value = report.score.objective;
        out->over_bound = *value / report.lower_bound - 1;
        out->over_proposed = *value / proposed;
        out->violation = report.score.violation;
    }
    free(plan.user);
    sl_published_free(s);
    return rc;
}

static int run(cJSON *result, char *err, size_t cap)
{
    double ms[SL_PLAN_METHOD_COUNT][SEEDS_MAX], over[SEEDS_MAX], worse[SL_PLAN_METHOD_COUNT][SEEDS_MAX],
        violation = 0, proposed_ms;
    size_t done = 0;

    for (; done < n_seeds && !bench_stopping(); done++) {
        double proposed = NAN;
        for (int m = 0; m < SL_PLAN_METHOD_COUNT; m++) {
            struct times t;
            double value;
            int rc = measure(done + 1, (enum sl_plan_method)m, proposed, &t, &value);
            if (rc) {
                snprintf(err, cap, "the planner: %s", strerror(-rc));
                return BENCH_FAILED;
            }
            if (m == SL_PLAN_PROPOSED) {
                proposed = value;
                over[done] = t.over_bound;
            }
            ms[m][done] = t.ms;
            worse[m][done] = t.over_proposed;
            violation = fmax(violation, t.violation);
        }
        bench_progress("plan: %zu of %llu scenarios", done + 1, (unsigned long long)n_seeds);
    }
    if (!done)
        return BENCH_STOPPED;
    proposed_ms = median(ms[SL_PLAN_PROPOSED], done);
    cJSON_AddNumberToObject(result, "scenarios", (double)done);
    cJSON_AddNumberToObject(result, "ms", proposed_ms);
    cJSON_AddNumberToObject(result, "ms_most", ms[SL_PLAN_PROPOSED][done - 1]);
    cJSON_AddNumberToObject(result, "gap", median(over, done));
    cJSON_AddNumberToObject(result, "violation", violation);
    for (int m = SL_PLAN_PROPOSED + 1; m < SL_PLAN_METHOD_COUNT; m++) {
        char key[64];
        snprintf(key, sizeof key, "%s_time", sl_plan_method_name((enum sl_plan_method)m));
        cJSON_AddNumberToObject(result, key, median(ms[m], done) / proposed_ms);
        snprintf(key, sizeof key, "%s_objective", sl_plan_method_name((enum sl_plan_method)m));
        cJSON_AddNumberToObject(result, key, median(worse[m], done));
    }
    return BENCH_OK;
}

const struct bench_verb bench_plan = {
    .name = "plan",
    .summary = "how long the planner thinks, and how near it comes",
    .about = "Processor time of one thread, median over scenarios; gap: objective over the bound from below, "
             "less 1. "
             "NAME_time and\n"
             "NAME_objective: of a comparison, as a ratio to the proposed method's in the same scenario.\n",
    .examples = "  sluice-bench plan\n"
                "  sluice-bench plan --users 1000 --servers 50 --seeds 1 --json\n"
                "  sluice-bench plan --users 8 --servers 1 --objective physical\n",
    .options = options,
    .run = run,
};
