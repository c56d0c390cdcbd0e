/* sluice-plan: who trains how many layers, served by whom, with what share of it. */
#include "trainer/model/fail.h"
#include "trainer/tools/cli.h"
#include "trainer/tools/plan_figures.h"
#include "trainer/tools/plan_file.h"
#include "trainer/tools/progress.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ERR_CAP = 512, SEEDS = 30, SEEDS_MAX = 10000 };
static const double feasible = 1e-9; /* relative */

static const struct sl_command solve_command, evaluate_command, figures_command;

static double now_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool objective_of(const char *name, enum sl_plan_objective *out)
{
    *out = strcmp(name, "physical") == 0 ? SL_PLAN_PHYSICAL : SL_PLAN_PRINTED;
    return *out == SL_PLAN_PHYSICAL || strcmp(name, "printed") == 0;
}

static bool method_of(const char *name, enum sl_plan_method *out)
{
    for (int m = 0; m < SL_PLAN_METHOD_COUNT; m++)
        if (strcmp(name, sl_plan_method_name((enum sl_plan_method)m)) == 0) {
            *out = (enum sl_plan_method)m;
            return true;
        }
    return false;
}

/* One that can be planned or scored at all. */
static int read_scenario(
    const char *path, enum sl_plan_objective objective, struct sl_plan_scenario *s, char *err, size_t err_cap)
{
    int rc = sl_scenario_read(path, s, err, err_cap);
    const char *fault = rc ? NULL : sl_plan_scenario_fault(s, objective);

    if (!fault)
        return rc;
    sl_scenario_free(s);
    return sl_fail(-EINVAL, err, err_cap, "%s: %s", path, fault);
}

/* Takes o. */
static int print_json(const struct sl_command *cmd, cJSON *o)
{
    char *text = o ? cJSON_Print(o) : NULL;
    int code = SL_EXIT_OK;

    if (!text)
        code = sl_cli_fail(cmd, SL_EXIT_FAILED, "out of memory");
    else if (puts(text) == EOF || fflush(stdout) == EOF)
        code = sl_cli_fail(cmd, SL_EXIT_FAILED, "cannot write: %s", strerror(errno));
    free(text);
    cJSON_Delete(o);
    return code;
}

static void print_unplanned(
    const struct sl_plan_scenario *s, enum sl_plan_objective o, const struct sl_plan *p)
{
    for (uint32_t n = 0; n < p->n; n++)
        if (p->user[n].server == SL_PLAN_NOBODY)
            fprintf(stderr, "user %u is not planned: %s\n", n, sl_plan_why_not(s, o, n));
}

static void print_totals(const struct sl_plan_score *s)
{
    printf("objective %.6g, delay %.6g s, energy %.6g J, stability %.6g; %u planned, violation %.2g\n",
        s->objective, s->delay_s, s->energy_j, s->stability, s->planned, s->violation);
}

static int solve(const struct sl_plan_scenario *s, enum sl_plan_objective objective,
    enum sl_plan_method method, uint64_t seed, bool json)
{
    struct sl_plan plan = {s->n_users, calloc((size_t)s->n_users + 1, sizeof *plan.user)};
    struct sl_plan_report report;
    int code = SL_EXIT_OK, rc = -ENOMEM;

    sl_progress_wait("sluice-plan solve");
    double from = now_s();
    if (plan.user)
        rc = sl_plan_solve(s, objective, method, seed, &plan, &report);
    double seconds = now_s() - from;
    sl_progress_waited();

    if (rc)
        code = sl_cli_fail(&solve_command, SL_EXIT_FAILED, "%s",
            rc == -ERANGE ? "no plan costs a finite number: bring the scenario's numbers nearer to each other"
                          : strerror(-rc));
    if (code != SL_EXIT_OK) {
        free(plan.user);
        return code;
    }
    print_unplanned(s, objective, &plan);
    if (json) {
        cJSON *o = sl_plan_json(s, objective, &plan, &report.score, &report);
        if (o) {
            cJSON_AddStringToObject(o, "method", sl_plan_method_name(method));
            cJSON_AddNumberToObject(o, "seconds", seconds);
        }
        code = print_json(&solve_command, o);
    } else {
        print_totals(&report.score);
        printf("%s in %.3g s: %u iterations, %u moves, %u starts", sl_plan_method_name(method), seconds,
            report.iterations, report.moves, report.starts);
        if (report.lower_bound > 0)
            printf("; at most %.3g %% above the optimum",
                100 * (report.score.objective / report.lower_bound - 1));
        printf("\n");
    }
    if (code == SL_EXIT_OK && report.score.planned == 0)
        code =
            sl_cli_fail(&solve_command, SL_EXIT_FAILED, "nobody is planned: each user has its reason above");
    free(plan.user);
    return code;
}

static int run_solve(int argc, char **argv)
{
    const char *path = NULL, *objective_name = "printed", *method_name = "proposed";
    uint64_t seed = 1;
    bool json = false;
    struct sl_opt opts[] = {
        {.name = "scenario",
            .kind = SL_OPT_WORD,
            .value = &path,
            .arg = "FILE",
            .help = "users, servers, channels, weights (JSON)",
            .required = true},
        {.name = "objective",
            .kind = SL_OPT_WORD,
            .value = &objective_name,
            .arg = "NAME",
            .help = "printed (default) or physical"},
        {.name = "method",
            .kind = SL_OPT_WORD,
            .value = &method_name,
            .arg = "NAME",
            .help = "proposed (default), alternating, alpha_only, resources_only, greedy, random, edge_only, "
                    "local_only"},
        {.name = "seed",
            .kind = SL_OPT_SEED,
            .value = &seed,
            .arg = "N",
            .help = "of the random starts (default 1)"},
        {.name = "json", .kind = SL_OPT_FLAG, .value = &json, .help = "the whole plan, as JSON"},
        {0},
    };
    struct sl_opt *tables[] = {opts};
    char err[ERR_CAP];
    struct sl_plan_scenario s;
    enum sl_plan_objective objective;
    enum sl_plan_method method;
    int code = sl_cli_parse(&solve_command, tables, 1, argc, argv);

    if (code >= 0)
        return code;
    if (!objective_of(objective_name, &objective))
        return sl_cli_fail(&solve_command, SL_EXIT_USAGE, "--objective is printed or physical");
    if (!method_of(method_name, &method))
        return sl_cli_fail(
            &solve_command, SL_EXIT_USAGE, "--method: there is no \"%s\" (see --help)", method_name);
    if (read_scenario(path, objective, &s, err, sizeof err))
        return sl_cli_fail(&solve_command, SL_EXIT_FAILED, "%s", err);
    code = solve(&s, objective, method, seed, json);
    sl_scenario_free(&s);
    return code;
}

static int evaluate(
    const struct sl_plan_scenario *s, const char *path, enum sl_plan_objective objective, bool json)
{
    char err[ERR_CAP];
    struct sl_plan plan;
    struct sl_plan_score score;
    int code = SL_EXIT_OK;

    if (sl_plan_read(path, s, &plan, err, sizeof err))
        return sl_cli_fail(&evaluate_command, SL_EXIT_FAILED, "%s", err);
    sl_plan_score(s, objective, &plan, NULL, &score);
    print_unplanned(s, objective, &plan);
    if (json)
        code = print_json(&evaluate_command, sl_plan_json(s, objective, &plan, &score, NULL));
    else
        print_totals(&score);
    if (code == SL_EXIT_OK && !(score.violation <= feasible))
        code = sl_cli_fail(&evaluate_command, SL_EXIT_FAILED,
            "not feasible: a constraint is exceeded by %.3g of itself", score.violation);
    free(plan.user);
    return code;
}

static int run_evaluate(int argc, char **argv)
{
    const char *scenario = NULL, *path = NULL, *objective_name = "printed";
    bool json = false;
    struct sl_opt opts[] = {
        {.name = "scenario",
            .kind = SL_OPT_WORD,
            .value = &scenario,
            .arg = "FILE",
            .help = "users, servers, channels, weights (JSON)",
            .required = true},
        {.name = "plan",
            .kind = SL_OPT_WORD,
            .value = &path,
            .arg = "FILE",
            .help = "a plan, as solve --json prints it",
            .required = true},
        {.name = "objective",
            .kind = SL_OPT_WORD,
            .value = &objective_name,
            .arg = "NAME",
            .help = "printed (default) or physical"},
        {.name = "json", .kind = SL_OPT_FLAG, .value = &json, .help = "each user's costs, too, as JSON"},
        {0},
    };
    struct sl_opt *tables[] = {opts};
    char err[ERR_CAP];
    struct sl_plan_scenario s;
    enum sl_plan_objective objective;
    int code = sl_cli_parse(&evaluate_command, tables, 1, argc, argv);

    if (code >= 0)
        return code;
    if (!objective_of(objective_name, &objective))
        return sl_cli_fail(&evaluate_command, SL_EXIT_USAGE, "--objective is printed or physical");
    if (read_scenario(scenario, objective, &s, err, sizeof err))
        return sl_cli_fail(&evaluate_command, SL_EXIT_FAILED, "%s", err);
    code = evaluate(&s, path, objective, json);
    sl_scenario_free(&s);
    return code;
}

static int run_figures(int argc, char **argv)
{
    const char *dir = NULL;
    uint32_t seeds = SEEDS;
    struct sl_opt opts[] = {
        {.name = "out",
            .kind = SL_OPT_WORD,
            .value = &dir,
            .arg = "DIR",
            .help = "an existing directory, for figures.csv and convergence.csv",
            .required = true},
        {.name = "seeds",
            .kind = SL_OPT_COUNT,
            .value = &seeds,
            .arg = "N",
            .help = "instances of each setting (default 30)",
            .min = 1,
            .max = SEEDS_MAX},
        {0},
    };
    struct sl_opt *tables[] = {opts};
    char err[ERR_CAP];
    int code = sl_cli_parse(&figures_command, tables, 1, argc, argv);

    if (code >= 0)
        return code;
    sl_interrupt_catch();
    int rc = sl_plan_figures(dir, seeds, err, sizeof err);
    if (!rc)
        return SL_EXIT_OK;
    return sl_cli_fail(&figures_command, rc == -EINTR ? SL_EXIT_INTERRUPTED : SL_EXIT_FAILED, "%s", err);
}

static const struct sl_command solve_command = {
    .name = "solve",
    .summary =
        "Plan a scenario: cut, server, power, bandwidth and clocks of every user.\nUsers that cannot be "
        "planned are named on stderr, and the rest is planned.\nExit code 1: the files cannot be used, "
        "or nobody can be planned.",
    .examples = "  sluice-plan solve --scenario cell.json\n"
                "  sluice-plan solve --scenario cell.json --method greedy --json > plan.json\n",
    .run = run_solve,
};
static const struct sl_command evaluate_command = {
    .name = "evaluate",
    .summary = "Score any plan for a scenario, and say how far it breaks a constraint.\nExit code 1: it is "
               "not feasible.",
    .examples = "  sluice-plan evaluate --scenario cell.json --plan plan.json --json\n",
    .run = run_evaluate,
};

static const struct sl_command figures_command = {
    .name = "figures",
    .summary = "Run the published comparisons over many instances, as CSV.",
    .examples = "  sluice-plan figures --out plots --seeds 5\n",
    .run = run_figures,
};

static const struct sl_command *const commands[] = {&solve_command, &evaluate_command, &figures_command};
enum { N_COMMANDS = sizeof commands / sizeof *commands };

static void print_usage(FILE *out)
{
    fprintf(out, "usage: sluice-plan COMMAND [options]\n\nCommands (each has --help, with examples):\n");
    for (size_t i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-10s %.*s\n", commands[i]->name, (int)strcspn(commands[i]->summary, "\n"),
            commands[i]->summary);
}

int main(int argc, char **argv)
{
    sl_cli_program("sluice-plan");
    if (argc < 2) {
        print_usage(stderr);
        return SL_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_usage(stdout);
        return SL_EXIT_OK;
    }
    for (size_t i = 0; i < N_COMMANDS; i++)
        if (strcmp(argv[1], commands[i]->name) == 0)
            return commands[i]->run(argc - 1, argv + 1);
    fprintf(stderr, "sluice-plan: unknown command \"%s\" (see sluice-plan --help)\n", argv[1]);
    return SL_EXIT_USAGE;
}
