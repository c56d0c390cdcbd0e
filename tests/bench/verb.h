/* A verb of sluice-bench: one file each, entered in main.c's table. main parses the options, runs it, adds
 * what every result has (command line, date, machine, warnings, noise) and prints, so that a verb only
 * measures. */
#pragma once

#include "tests/bench/options.h"

#include <cjson/cJSON.h>

/* Exit statuses. A measurement that was taken is 0 whatever its figures: targets are fields of the result. */
enum {
    BENCH_OK = 0,
    BENCH_FAILED = 1, /* could not be measured; err says why */
    BENCH_USAGE = 2,
    BENCH_UNCOUNTED = 3, /* something was lost under no name */
    BENCH_SKIPPED = 77,  /* the host lacks what it needs; err names it */
    BENCH_STOPPED = 130, /* Ctrl-C */
};

struct bench_verb {
    const char *name;
    const char *summary;  /* one line */
    const char *about;    /* lines for --help; NULL: none */
    const char *examples; /* lines for --help, indented by two */
    const struct bench_option
        *options; /* ends with a nameless one; their values are the verb's own variables */
    /* Fills `result`, which is then printed even where the status is not BENCH_OK, and err where it is FAILED
     * or SKIPPED. */
    int (*run)(cJSON *result, char *err, size_t err_cap);
};

extern const struct bench_verb bench_emulator, bench_handoff, bench_ingest, bench_latency, bench_link_verb,
    bench_overload, bench_path, bench_plan, bench_products, bench_radio, bench_reject, bench_scale,
    bench_swap, bench_train, bench_wake;
