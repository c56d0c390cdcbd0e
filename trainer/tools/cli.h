/* Command lines: one table of options per subcommand gives its parser and its --help. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_EXIT_OK = 0, SL_EXIT_FAILED = 1, SL_EXIT_USAGE = 2, SL_EXIT_INTERRUPTED = 130 /* 128 + SIGINT */ };

/* The words of an option that takes one or more. */
struct sl_list {
    const char **item;
    size_t n;
};

enum sl_opt_kind {
    SL_OPT_FLAG,   /* bool */
    SL_OPT_WORD,   /* const char * */
    SL_OPT_LIST,   /* struct sl_list: every word up to the next option, and the option may be repeated */
    SL_OPT_COUNT,  /* uint32_t in [min, max] */
    SL_OPT_SEED,   /* uint64_t */
    SL_OPT_NUMBER, /* double in [min, max] */
};

struct sl_opt {
    const char *name; /* without "--" */
    enum sl_opt_kind kind;
    void *value;
    const char *arg, *help; /* arg: what it takes, in capitals */
    bool required;
    double min, max;
    bool given; /* out */
};

struct sl_command {
    const char *name, *summary, *examples;
    int (*run)(int argc, char **argv); /* argv[0] is the subcommand's name; returns an exit code */
};

/* The program that messages and help speak of ("sluice-train" where it was not said); kept, not copied.
 * Before anything else, in the only thread. */
void sl_cli_program(const char *name);

/* Parses argv[1..]. `opts` is a list of n_tables tables, each ended by a name of NULL. -1: parsed; otherwise
 * the exit code to leave with: --help was printed, or one line about what is wrong. */
int sl_cli_parse(
    const struct sl_command *, struct sl_opt *const *tables, size_t n_tables, int argc, char **argv);
/* Whether the option was on the command line. */
bool sl_cli_given(const struct sl_opt *table, const char *name);
/* Frees the lists. */
void sl_cli_free(struct sl_opt *const *tables, size_t n_tables);

/* One line on stderr, "PROGRAM COMMAND: ..."; returns the exit code given. */
int sl_cli_fail(const struct sl_command *, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
