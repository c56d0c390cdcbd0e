/* sluice-bench: the one measuring tool. sluice-bench VERB [options] [--json]; see --help. */
#include "tests/bench/machine.h"
#include "tests/bench/report.h"
#include "tests/bench/verb.h"
#include "tests/bench/watch.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static const struct bench_verb *const verbs[] = {
    &bench_ingest,
    &bench_handoff,
    &bench_overload,
    &bench_path,
    &bench_link_verb,
    &bench_emulator,
    &bench_radio,
    &bench_latency,
    &bench_scale,
    &bench_swap,
    &bench_reject,
    &bench_wake,
    &bench_train,
    &bench_products,
    &bench_plan,
};
enum { N_VERBS = sizeof(verbs) / sizeof(verbs[0]) };

static void usage(FILE *f)
{
    fputs("sluice-bench: measures the data plane and the trainer on this host.\n\nusage: sluice-bench VERB "
          "[options] [--json]\n"
          "       sluice-bench VERB --help\n\nverbs:\n",
        f);
    for (size_t i = 0; i < N_VERBS; i++)
        fprintf(f, "  %-10s %s\n", verbs[i]->name, verbs[i]->summary);
    fputs("\nEvery result carries its command line, the machine's facts, and warnings about what spoils it.\n"
          "exit status: 0 measured, 1 failure, 2 usage, 3 something was lost uncounted, 77 the host lacks "
          "what it\n"
          "takes, 130 after Ctrl-C\n",
        f);
}

static void help(const struct bench_verb *v)
{
    printf("sluice-bench %s: %s\n\n", v->name, v->summary);
    if (v->about != NULL)
        printf("%s\n", v->about);
    bench_options_help(v->options, stdout);
    printf("  %-20s %s\n", "--json", "print the result as JSON");
    printf("\nexamples:\n%s", v->examples);
}

/* Takes --json out of the arguments; returns how many are left. */
static int take_json(int argc, char **argv, bool *json)
{
    int n = 0;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            *json = true;
        else
            argv[n++] = argv[i];
    }
    return n;
}

static void command_line(int argc, char **argv, char *out, size_t cap)
{
    size_t n = 0;
    const char *name = strrchr(argv[0], '/');
    for (int i = 0; i < argc && n < cap; i++)
        n += (size_t)snprintf(
            out + n, cap - n, "%s%s", i > 0 ? " " : "", i > 0 || name == NULL ? argv[i] : name + 1);
}

static cJSON *begin(const char *verb, const char *command)
{
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    cJSON *result = cJSON_CreateObject();
    cJSON_AddStringToObject(result, "verb", verb);
    cJSON_AddStringToObject(result, "command", command);
    cJSON_AddStringToObject(result, "date", date);
    cJSON *warnings = cJSON_AddArrayToObject(result, "warnings");
    cJSON_AddItemToObject(result, "machine", bench_machine_json());
    bench_machine_warn(warnings);
    return result;
}

static int run(const struct bench_verb *v, const char *command, bool json)
{
    char err[512] = "";
    struct bench_noise before;
    bench_watch_signals();
    cJSON *result = begin(v->name, command);
    bench_noise_look(&before);
    int status = v->run(result, err, sizeof(err));
    bench_progress_end();
    if (status == BENCH_OK && bench_stopping())
        status = BENCH_STOPPED;
    cJSON_AddItemToObject(result, "noise", bench_noise_json(&before));
    cJSON_AddNumberToObject(result, "status", status);
    if (status == BENCH_FAILED || status == BENCH_SKIPPED) {
        fprintf(stderr, "sluice-bench %s: %s%s\n", v->name, status == BENCH_SKIPPED ? "SKIP: " : "", err);
        cJSON_AddStringToObject(result, "error", err);
    } else if (status == BENCH_UNCOUNTED) {
        fprintf(stderr, "sluice-bench %s: something was lost uncounted: %s\n", v->name, err);
    } else if (status == BENCH_STOPPED) {
        fprintf(stderr, "sluice-bench %s: stopped; the result is partial\n", v->name);
    }
    bench_report(result, json);
    cJSON_Delete(result);
    return status;
}

int main(int argc, char **argv)
{
    char command[1024], err[512];
    bool json = false;
    command_line(argc, argv, command, sizeof(command));
    if (argc < 2) {
        usage(stderr);
        return BENCH_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        usage(stdout);
        return BENCH_OK;
    }
    for (size_t i = 0; i < N_VERBS; i++) {
        const struct bench_verb *v = verbs[i];
        if (strcmp(argv[1], v->name) != 0)
            continue;
        for (int k = 2; k < argc; k++) {
            if (strcmp(argv[k], "--help") == 0 || strcmp(argv[k], "-h") == 0) {
                help(v);
                return BENCH_OK;
            }
        }
        int n = take_json(argc - 2, argv + 2, &json);
        if (bench_options_parse(v->options, n, argv + 2, err, sizeof(err)) != 0) {
            fprintf(stderr, "sluice-bench %s: %s; see sluice-bench %s --help\n", v->name, err, v->name);
            return BENCH_USAGE;
        }
        return run(v, command, json);
    }
    fprintf(stderr, "sluice-bench: %s is no verb; see sluice-bench --help\n", argv[1]);
    return BENCH_USAGE;
}
