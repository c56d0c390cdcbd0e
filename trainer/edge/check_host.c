#include "trainer/edge/check_host.h"

#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const level_names[SL_CHECK_LEVELS] = {"ok", "note", "warning", "bad"};

const char *sl_check_level_name(enum sl_check_level l)
{
    return (unsigned)l < SL_CHECK_LEVELS ? level_names[l] : "unknown";
}

/* ---- reading ---- */

bool check_line(const struct host *h, char line[CHECK_LINE], const char *format, ...)
{
    char path[PATH_MAX];
    va_list args;
    int n = snprintf(path, sizeof path, "%s", h->c->root);
    if (n < 0 || (size_t)n >= sizeof path)
        return false;
    va_start(args, format);
    vsnprintf(path + n, sizeof path - (size_t)n, format, args);
    va_end(args);
    line[0] = '\0';
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    bool got = fgets(line, CHECK_LINE, f) != NULL;
    fclose(f);
    line[strcspn(line, "\n")] = '\0';
    return got;
}

FILE *check_file(const struct host *h, const char *name)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s%s", h->c->root, name);
    return n > 0 && (size_t)n < sizeof path ? fopen(path, "re") : NULL;
}

static DIR *open_dir(const struct host *h, const char *name)
{
    char path[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s%s", h->c->root, name);
    return n > 0 && (size_t)n < sizeof path ? opendir(path) : NULL;
}

bool check_link(const struct host *h, const char *name, char out[CHECK_WORD])
{
    char path[PATH_MAX], target[PATH_MAX];
    int n = snprintf(path, sizeof path, "%s%s", h->c->root, name);
    ssize_t got = n > 0 && (size_t)n < sizeof path ? readlink(path, target, sizeof target - 1) : -1;
    if (got <= 0)
        return false;
    target[got] = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(out, CHECK_WORD, "%.*s", CHECK_WORD - 1, slash ? slash + 1 : target);
    return true;
}

uint32_t sl_check_cpu_list(const char *text, uint32_t *out, uint32_t cap)
{
    uint32_t n = 0;
    while (isdigit((unsigned char)*text)) {
        char *end;
        unsigned long first = strtoul(text, &end, 10), last = first;
        if (*end == '-' && isdigit((unsigned char)end[1]))
            last = strtoul(end + 1, &end, 10);
        for (unsigned long cpu = first; cpu <= last && cpu < SL_CHECK_CPUS && n < cap; cpu++)
            out[n++] = (uint32_t)cpu;
        if (*end != ',')
            break;
        text = end + 1;
    }
    return n;
}

bool check_has(const uint32_t *set, uint32_t n, uint32_t cpu)
{
    for (uint32_t i = 0; i < n; i++)
        if (set[i] == cpu)
            return true;
    return false;
}

void check_list(const uint32_t *set, uint32_t n, char *out, size_t cap)
{
    size_t at = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < n && at + 12 < cap; i++)
        at += (size_t)snprintf(out + at, cap - at, "%s%u", i ? "," : "", set[i]);
}

unsigned long check_pages(const struct host *h, const char *where, const char *what, unsigned long *mib)
{
    char dir[PATH_MAX], line[CHECK_LINE];
    unsigned long n = 0;
    snprintf(dir, sizeof dir, "%s", where);
    DIR *d = open_dir(h, dir);
    for (struct dirent *e; d && (e = readdir(d)) != NULL;) {
        unsigned long kib;
        if (sscanf(e->d_name, "hugepages-%lukB", &kib) != 1 ||
            !check_line(h, line, "%s/%s/%s", where, e->d_name, what))
            continue;
        unsigned long here = strtoul(line, NULL, 10);
        n += here;
        *mib += here * (kib / 1024);
    }
    if (d)
        closedir(d);
    return n;
}

bool check_capability(const struct host *h, unsigned bit)
{
    char line[CHECK_LINE];
    unsigned long long effective = 0;
    FILE *f = check_file(h, "/proc/self/status");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "CapEff:", 7))
            effective = strtoull(line + 7, NULL, 16);
    if (f)
        fclose(f);
    return effective >> bit & 1;
}

/* ---- findings ---- */

void check_find(
    struct host *h, enum sl_check_level level, const char *name, const char *cure, const char *format, ...)
{
    struct sl_check *c = h->out;
    if (c->n == SL_CHECK_FINDINGS)
        return;
    struct sl_check_finding *f = &c->finding[c->n++];
    va_list args;
    f->level = level;
    snprintf(f->name, sizeof f->name, "%s", name);
    snprintf(f->cure, sizeof f->cure, "%s", cure);
    va_start(args, format);
    vsnprintf(f->text, sizeof f->text, format, args);
    va_end(args);
    c->count[level]++;
}
