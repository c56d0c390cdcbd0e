/* Command-line options by table: "--name VALUE", checked against bounds or choices. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum bench_option_kind { BENCH_FLAG, BENCH_NUMBER, BENCH_REAL, BENCH_TEXT };

struct bench_option {
    const char *name; /* without dashes; NULL ends a table */
    enum bench_option_kind kind;
    void *value;                /* bool, uint64_t, double or const char *; holds the default */
    const char *value_name;     /* "N"; NULL for a flag */
    const char *help;           /* one line */
    double least, most;         /* NUMBER and REAL; most 0: no bounds */
    const char *const *choices; /* TEXT, NULL-terminated; NULL: any */
};

/* 0, or -EINVAL and one line in err. */
int bench_options_parse(const struct bench_option *, int argc, char *const *argv, char *err, size_t err_cap);
void bench_options_help(const struct bench_option *, FILE *);
