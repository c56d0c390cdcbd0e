#include "trainer/tools/cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_CAP = 2048 };

static const char *program = "sluice-train";

void sl_cli_program(const char *name)
{
    program = name;
}

int sl_cli_fail(const struct sl_command *cmd, int code, const char *format, ...)
{
    char line[LINE_CAP];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    /* Messages quote keys of files and words of the user: those break no line and drive no terminal. */
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
    fprintf(stderr, "%s %s: %s\n", program, cmd->name, line);
    return code;
}

static int usage(const struct sl_command *cmd, const char *what, const char *name)
{
    return sl_cli_fail(cmd, SL_EXIT_USAGE, "%s%s (see %s %s --help)", what, name, program, cmd->name);
}

static void print_help(const struct sl_command *cmd, struct sl_opt *const *tables, size_t n_tables)
{
    printf("usage: %s %s [options]\n\n%s\n\n", program, cmd->name, cmd->summary);
    for (size_t t = 0; t < n_tables; t++) {
        for (const struct sl_opt *o = tables[t]; o->name; o++) {
            char left[64];
            snprintf(left, sizeof left, "--%s%s%s%s", o->name, o->arg ? " " : "", o->arg ? o->arg : "",
                o->kind == SL_OPT_LIST ? "..." : "");
            printf("  %-26s %s%s\n", left, o->help, o->required ? " (required)" : "");
        }
    }
    printf("  %-26s %s\n\nExit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted (what was done is "
           "written).\n\n"
           "Examples:\n%s",
        "--help", "this text", cmd->examples);
}

static struct sl_opt *find_option(struct sl_opt *const *tables, size_t n_tables, const char *name, size_t len)
{
    for (size_t t = 0; t < n_tables; t++) {
        for (struct sl_opt *o = tables[t]; o->name; o++) {
            if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
                return o;
        }
    }
    return NULL;
}

static int store_number(const struct sl_command *cmd, const struct sl_opt *o, const char *word)
{
    char *end;
    errno = 0;
    bool whole = o->kind != SL_OPT_NUMBER;
    double value = 0;
    uint64_t integer = 0;
    if (whole) {
        integer = strtoull(word, &end, 10);
        value = (double)integer;
    } else {
        value = strtod(word, &end);
    }
    bool bad = end == word || *end || errno || !isfinite(value) || (whole && (*word < '0' || *word > '9'));
    if (bad)
        return sl_cli_fail(
            cmd, SL_EXIT_USAGE, "--%s takes a %snumber, not \"%s\"", o->name, whole ? "whole " : "", word);
    if (o->kind != SL_OPT_SEED && (value < o->min || value > o->max))
        return sl_cli_fail(cmd, SL_EXIT_USAGE, "--%s must lie between %.10g and %.10g, not %s", o->name,
            o->min, o->max, word);
    if (o->kind == SL_OPT_SEED)
        *(uint64_t *)o->value = integer;
    else if (o->kind == SL_OPT_COUNT)
        *(uint32_t *)o->value = (uint32_t)integer;
    else
        *(double *)o->value = value;
    return -1;
}

static int store(const struct sl_command *cmd, struct sl_opt *o, const char *word)
{
    if (o->given && o->kind != SL_OPT_LIST)
        return usage(cmd, "option given twice: --", o->name);
    o->given = true;
    if (o->kind == SL_OPT_WORD) {
        *(const char **)o->value = word;
        return -1;
    }
    if (o->kind != SL_OPT_LIST)
        return store_number(cmd, o, word);
    struct sl_list *list = o->value;
    const char **bigger = realloc(list->item, (list->n + 1) * sizeof *bigger);
    if (!bigger)
        return sl_cli_fail(cmd, SL_EXIT_FAILED, "out of memory");
    list->item = bigger;
    list->item[list->n++] = word;
    return -1;
}

static bool is_option(const char *word)
{
    return strncmp(word, "--", 2) == 0 && word[2];
}

int sl_cli_parse(
    const struct sl_command *cmd, struct sl_opt *const *tables, size_t n_tables, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(cmd, tables, n_tables);
            return SL_EXIT_OK;
        }
        if (!is_option(argv[i]))
            return usage(cmd, "unexpected word: ", argv[i]);
        const char *name = argv[i] + 2, *equals = strchr(name, '=');
        struct sl_opt *o =
            find_option(tables, n_tables, name, equals ? (size_t)(equals - name) : strlen(name));
        if (!o)
            return usage(cmd, "unknown option ", argv[i]);
        int rc = -1;
        if (o->kind == SL_OPT_FLAG) {
            if (equals)
                return usage(cmd, "option takes no value: --", o->name);
            *(bool *)o->value = o->given = true;
        } else if (equals) {
            rc = store(cmd, o, equals + 1);
        } else {
            if (i + 1 >= argc || is_option(argv[i + 1]))
                return usage(cmd, "option needs a value: --", o->name);
            rc = store(cmd, o, argv[++i]);
            while (rc < 0 && o->kind == SL_OPT_LIST && i + 1 < argc && !is_option(argv[i + 1]))
                rc = store(cmd, o, argv[++i]);
        }
        if (rc >= 0)
            return rc;
    }
    for (size_t t = 0; t < n_tables; t++) {
        for (const struct sl_opt *o = tables[t]; o->name; o++) {
            if (o->required && !o->given)
                return usage(cmd, "missing option --", o->name);
        }
    }
    return -1;
}

bool sl_cli_given(const struct sl_opt *table, const char *name)
{
    for (const struct sl_opt *o = table; o->name; o++) {
        if (strcmp(o->name, name) == 0)
            return o->given;
    }
    return false;
}

void sl_cli_free(struct sl_opt *const *tables, size_t n_tables)
{
    for (size_t t = 0; t < n_tables; t++) {
        for (struct sl_opt *o = tables[t]; o->name; o++) {
            if (o->kind == SL_OPT_LIST) {
                struct sl_list *list = o->value;
                free(list->item);
                *list = (struct sl_list){0};
            }
        }
    }
}
