#include "tests/bench/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct bench_option *find(const struct bench_option *o, const char *name)
{
    while (o != NULL && o->name != NULL && strcmp(o->name, name) != 0)
        o++;
    return o != NULL && o->name != NULL ? o : NULL;
}

static int bad(const struct bench_option *o, const char *text, char *err, size_t cap)
{
    if (o->kind != BENCH_TEXT && o->most > 0)
        snprintf(
            err, cap, "--%s takes a number from %.12g to %.12g, not %s", o->name, o->least, o->most, text);
    else
        snprintf(err, cap, "--%s takes a number, not %s", o->name, text);
    return -EINVAL;
}

static int set_number(const struct bench_option *o, const char *text, char *err, size_t cap)
{
    char *end;
    errno = 0;
    if (o->kind == BENCH_NUMBER) {
        unsigned long long v = strtoull(text, &end, 10);
        if (errno != 0 || end == text || *end != '\0' || text[0] == '-' ||
            (o->most > 0 && ((double)v < o->least || (double)v > o->most)))
            return bad(o, text, err, cap);
        *(uint64_t *)o->value = v;
        return 0;
    }
    double v = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0' || !(v == v) ||
        (o->most > 0 && (v < o->least || v > o->most)))
        return bad(o, text, err, cap);
    *(double *)o->value = v;
    return 0;
}

static int set_text(const struct bench_option *o, const char *text, char *err, size_t cap)
{
    for (const char *const *c = o->choices; c != NULL; c++) {
        if (*c == NULL) {
            size_t n = (size_t)snprintf(err, cap, "--%s takes one of:", o->name);
            for (c = o->choices; *c != NULL && n < cap; c++)
                n += (size_t)snprintf(err + n, cap - n, " %s", *c);
            return -EINVAL;
        }
        if (strcmp(*c, text) == 0)
            break;
    }
    *(const char **)o->value = text;
    return 0;
}

int bench_options_parse(const struct bench_option *table, int argc, char *const *argv, char *err, size_t cap)
{
    for (int i = 0; i < argc; i++) {
        char name[64];
        const char *equals = strchr(argv[i], '='), *text = NULL;
        size_t n = equals != NULL ? (size_t)(equals - argv[i]) : strlen(argv[i]);
        if (strncmp(argv[i], "--", 2) != 0 || n < 3 || n - 2 >= sizeof(name)) {
            snprintf(err, cap, "%s: not an option", argv[i]);
            return -EINVAL;
        }
        memcpy(name, argv[i] + 2, n - 2);
        name[n - 2] = '\0';
        const struct bench_option *o = find(table, name);
        if (o == NULL) {
            snprintf(err, cap, "--%s: no such option of this verb", name);
            return -EINVAL;
        }
        if (o->kind == BENCH_FLAG) {
            *(bool *)o->value = true;
            continue;
        }
        text = equals != NULL ? equals + 1 : i + 1 < argc ? argv[++i] : NULL;
        if (text == NULL) {
            snprintf(err, cap, "--%s needs a value", name);
            return -EINVAL;
        }
        int ret = o->kind == BENCH_TEXT ? set_text(o, text, err, cap) : set_number(o, text, err, cap);
        if (ret != 0)
            return ret;
    }
    return 0;
}

static void print_default(const struct bench_option *o, FILE *f)
{
    if (o->kind == BENCH_NUMBER)
        fprintf(f, " (default %llu)", (unsigned long long)*(uint64_t *)o->value);
    else if (o->kind == BENCH_REAL)
        fprintf(f, " (default %g)", *(double *)o->value);
    else if (o->kind == BENCH_TEXT && *(const char **)o->value != NULL)
        fprintf(f, " (default %s)", *(const char **)o->value);
}

void bench_options_help(const struct bench_option *table, FILE *f)
{
    for (const struct bench_option *o = table; o != NULL && o->name != NULL; o++) {
        char left[48];
        snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value_name != NULL ? " " : "",
            o->value_name != NULL ? o->value_name : "");
        fprintf(f, "  %-20s %s", left, o->help);
        print_default(o, f);
        fputc('\n', f);
        for (const char *const *c = o->choices; c != NULL && *c != NULL; c++)
            fprintf(f, "%s%s%s", c == o->choices ? "                       one of " : ", ", *c,
                c[1] == NULL ? "\n" : "");
    }
}
