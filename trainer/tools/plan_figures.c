/* sluice-plan figures: the published comparisons over again, a row per setting, method and seed. */
#include "trainer/tools/plan_figures.h"
#include "trainer/model/fail.h"
#include "trainer/plan/published.h"
#include "trainer/plan/solve.h"
#include "trainer/tools/progress.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { USERS = 50, SERVERS = 10, CONVERGENCE_USERS = 100, WEIGHT_MAX = 10, PATH_CAP = 4096 };

struct figures {
    FILE *rows, *convergence;
    uint32_t seeds, done; /* instances: each of a family and a seed */
    struct sl_progress progress;
};

static int one(struct figures *f, const char *setting, const struct sl_plan_scenario *s,
    enum sl_plan_method method, uint32_t seed, struct sl_plan_report *report)
{
    struct sl_plan plan = {s->n_users, calloc(s->n_users, sizeof *plan.user)};
    int rc = plan.user ? sl_plan_solve(s, SL_PLAN_PRINTED, method, seed, &plan, report) : -ENOMEM;
    const struct sl_plan_score *r = &report->score;

    free(plan.user);
    if (rc)
        return rc;
    /* What is infinite is left empty. */
    fprintf(f->rows, "%s,%s,%u,", setting, sl_plan_method_name(method), seed);
    if (isfinite(r->objective))
        fprintf(f->rows, "%.9g", r->objective);
    fprintf(f->rows, ",%.9g,%.9g,", r->delay_s, r->energy_j);
    if (isfinite(r->stability))
        fprintf(f->rows, "%.9g", r->stability);
    fprintf(f->rows, "\n");
    sl_progress_show(&f->progress, f->done, 2u * f->seeds, r->objective, setting);
    if (fflush(f->rows)) /* a full disk is found at once, and not after an hour */
        return -errno;
    return sl_interrupted() ? -EINTR : 0;
}

static int several(struct figures *f, const char *setting, const struct sl_plan_scenario *s,
    const enum sl_plan_method *method, size_t n, uint32_t seed)
{
    struct sl_plan_report report;
    int rc = 0;

    for (size_t i = 0; i < n && !rc; i++)
        rc = one(f, setting, s, method[i], seed, &report);
    return rc;
}

static int weights(struct figures *f, bool open, uint32_t seed)
{
    static const enum sl_plan_method method[] = {
        SL_PLAN_PROPOSED, SL_PLAN_ALTERNATING, SL_PLAN_ALPHA_ONLY, SL_PLAN_RESOURCES_ONLY};
    static const char *const name[] = {"delay", "energy", "stability"};
    struct sl_plan_scenario *s = sl_published(seed, USERS, SERVERS, open);
    int rc = s ? 0 : -ENOMEM;

    for (int which = 0; which < 3; which++)
        for (int w = 1; w <= WEIGHT_MAX && !rc; w++) {
            char setting[64];
            snprintf(setting, sizeof setting, "%s weight %s %d", open ? "open" : "published", name[which], w);
            s->weights = (struct sl_plan_weights){which == 0 ? w : 1, which == 1 ? w : 1, which == 2 ? w : 1};
            rc = several(f, setting, s, method, sizeof method / sizeof *method, seed);
        }
    sl_published_free(s);
    return rc;
}

static int users(struct figures *f, bool open, uint32_t seed)
{
    static const enum sl_plan_method method[] = {
        SL_PLAN_PROPOSED, SL_PLAN_GREEDY, SL_PLAN_RANDOM, SL_PLAN_EDGE_ONLY, SL_PLAN_LOCAL_ONLY};
    int rc = 0;

    for (uint32_t n = 20; n <= CONVERGENCE_USERS && !rc; n += 10) {
        struct sl_plan_scenario *s = sl_published(seed, n, SERVERS, open);
        char setting[64];
        snprintf(setting, sizeof setting, "%s users %u", open ? "open" : "published", n);
        rc = s ? several(f, setting, s, method, sizeof method / sizeof *method, seed) : -ENOMEM;
        sl_published_free(s);
    }
    return rc;
}

static int convergence(struct figures *f, bool open, uint32_t seed)
{
    struct sl_plan_scenario *s = sl_published(seed, CONVERGENCE_USERS, SERVERS, open);
    struct sl_plan_report report;
    char setting[64];

    snprintf(setting, sizeof setting, "%s convergence", open ? "open" : "published");
    int rc = s ? one(f, setting, s, SL_PLAN_PROPOSED, seed, &report) : -ENOMEM;
    for (uint32_t k = 0; !rc && k < report.iterations && k < SL_PLAN_TRACE_MAX; k++)
        fprintf(f->convergence, "%s,%u,%u,%.9g\n", setting, seed, k + 1, report.trace[k]);
    if (!rc && fflush(f->convergence))
        rc = -errno;
    sl_published_free(s);
    return rc;
}

static int open_csv(
    const char *dir, const char *name, const char *header, FILE **out, char *err, size_t err_cap)
{
    char path[PATH_CAP];

    if (!*dir || snprintf(path, sizeof path, "%s/%s", dir, name) >= (int)sizeof path)
        return sl_fail(-EINVAL, err, err_cap, "--out must name a directory, and in less than %d characters",
            PATH_CAP - 32);
    *out = fopen(path, "w");
    if (!*out)
        return sl_fail(-errno, err, err_cap, "%s: %s; --out takes an existing directory that can be written",
            path, strerror(errno));
    fprintf(*out, "%s\n", header);
    return 0;
}

/* Also of a file that was never opened. */
static int close_csv(FILE *file)
{
    return file && fclose(file) ? -errno : 0;
}

int sl_plan_figures(const char *dir, uint32_t seeds, char *err, size_t err_cap)
{
    struct figures f = {.seeds = seeds};
    int rc = open_csv(dir, "figures.csv", "setting,method,seed,objective,delay_s,energy_j,stability", &f.rows,
        err, err_cap);

    if (!rc)
        rc = open_csv(
            dir, "convergence.csv", "setting,seed,iteration,objective", &f.convergence, err, err_cap);
    bool opened = rc == 0;
    sl_progress_start(&f.progress, "figures", "instances");
    for (int open = 0; open < 2; open++)
        for (uint32_t seed = 1; seed <= seeds && !rc; seed++) {
            rc = weights(&f, open, seed);
            rc = rc ? rc : users(&f, open, seed);
            rc = rc ? rc : convergence(&f, open, seed);
            f.done += rc == 0;
        }
    sl_progress_end(&f.progress);
    int closed = close_csv(f.rows);
    rc = rc ? rc : closed;
    closed = close_csv(f.convergence);
    rc = rc ? rc : closed;
    if (!rc || !opened)
        return rc;
    if (rc == -EINTR)
        return sl_fail(
            rc, err, err_cap, "interrupted: the files in %s have %u of %u instances", dir, f.done, 2 * seeds);
    return sl_fail(
        rc, err, err_cap, "%s: %s; the files there are not complete, do not use them", dir, strerror(-rc));
}
