#include "device-sim/link/record.h"

#include "device-sim/link/lines.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_ROWS = 1024, COLUMNS_MAX = 256 };
/* A decimal number and nothing else; NAN: it is none. */
static double number_of(const char *text)
{
    char *end;

    if (*text == 0 || strspn(text, "0123456789.eE+-") != strlen(text))
        return NAN;
    double v = strtod(text, &end);
    return *end == 0 && isfinite(v) ? v : NAN;
}

static int grow(void **array, size_t size, size_t *cap, size_t n)
{
    if (n < *cap)
        return 0;
    size_t more = *cap ? 2 * *cap : FIRST_ROWS;
    void *p = realloc(*array, more * size);
    if (!p)
        return -ENOMEM;
    *array = p;
    *cap = more;
    return 0;
}

/* ---- traces ---- */

void sl_trace_free(struct sl_trace *t)
{
    free(t->at_ms);
    *t = (struct sl_trace){0};
}

static int trace_line(struct sl_lines *l, const char *line, struct sl_trace *t, size_t *cap)
{
    if (*line == 0 || strspn(line, "0123456789") != strlen(line) || strlen(line) > 9)
        return sl_lines_fail(l, line[0] == '-'
                                    ? "a time below 0; give milliseconds from the start"
                                    : "not a whole number of milliseconds (one a line, at most 999999999)");
    uint32_t at = (uint32_t)strtoul(line, NULL, 10);
    if (t->n && at < t->at_ms[t->n - 1])
        return sl_lines_fail(l, "earlier than the line before; sort the trace (sort -n)");
    if (grow((void **)&t->at_ms, sizeof *t->at_ms, cap, t->n))
        return -ENOMEM;
    t->at_ms[t->n++] = at;
    return 0;
}

int sl_trace_parse(
    const char *text, size_t len, const char *name, struct sl_trace *out, char *err, size_t err_cap)
{
    struct sl_lines l = {name, text, text + len, 0, err, err_cap};
    struct sl_trace t = {0};
    char line[SL_LINES_LINE_MAX];
    size_t cap = 0;
    int more, rc = 0;

    while (!rc && (more = sl_lines_next(&l, line)) != 0)
        rc = more < 0 ? more : trace_line(&l, line, &t, &cap);
    if (!rc && t.n == 0) {
        l.number = 1;
        rc = sl_lines_fail(&l, "the trace is empty; give a time in milliseconds on each line");
    } else if (!rc && t.at_ms[t.n - 1] == 0) {
        rc = sl_lines_fail(&l, "the trace ends at 0 ms; its last time is its length, and must be above 0");
    }
    if (rc == -ENOMEM)
        snprintf(err, err_cap, "%s: out of memory", name);
    if (rc) {
        sl_trace_free(&t);
        return rc;
    }
    *out = t;
    return 0;
}

/* ---- light load ---- */

void sl_light_free(struct sl_light *r)
{
    free(r->at_ms);
    free(r->delay_ms);
    free(r->first);
    free(r->offset_ms);
    *r = (struct sl_light){0};
}

struct trains {
    struct sl_light r;
    size_t at_cap, delay_cap, first_cap, offset_cap;
};

/* The next number of a line, a whole one of milliseconds; NULL: there is none, or it is no number. */
static const char *next_ms(const char *at, uint32_t *ms)
{
    at += strspn(at, " \t");
    size_t n = strspn(at, "0123456789");
    if (n == 0 || n > 9 || (at[n] && !strchr(" \t", at[n])))
        return NULL;
    *ms = (uint32_t)strtoul(at, NULL, 10);
    return at + n;
}

static int train_line(struct sl_lines *l, const char *line, struct trains *t)
{
    struct sl_light *r = &t->r;
    uint32_t at_ms, delay_ms, offset_ms, last_ms = 0, n = r->n ? r->first[r->n] : 0;
    const char *rest = next_ms(line, &at_ms);

    rest = rest ? next_ms(rest, &delay_ms) : NULL;
    if (!rest)
        return sl_lines_fail(
            l, "a line is: time, delay, and each packet's time after the first one's, whole ms");
    if (r->n && at_ms < r->at_ms[r->n - 1])
        return sl_lines_fail(l, "earlier than the line before; sort the trains by time (sort -n)");
    if (grow((void **)&r->at_ms, sizeof *r->at_ms, &t->at_cap, r->n) ||
        grow((void **)&r->delay_ms, sizeof *r->delay_ms, &t->delay_cap, r->n) ||
        grow((void **)&r->first, sizeof *r->first, &t->first_cap, r->n + 1))
        return -ENOMEM;
    for (rest += strspn(rest, " \t"); *rest; rest += strspn(rest, " \t")) {
        rest = next_ms(rest, &offset_ms);
        if (!rest)
            return sl_lines_fail(l, "a packet's time that is not a whole number of milliseconds");
        if (offset_ms < last_ms)
            return sl_lines_fail(l, "a packet earlier than the one before it in its train");
        if (n == SL_RECORD_LINES_MAX)
            return sl_lines_fail(l, "more than 10,000,000 packets; cut the record, it repeats anyway");
        if (grow((void **)&r->offset_ms, sizeof *r->offset_ms, &t->offset_cap, n))
            return -ENOMEM;
        r->offset_ms[n++] = last_ms = offset_ms;
    }
    r->at_ms[r->n] = at_ms;
    r->delay_ms[r->n] = delay_ms;
    r->first[0] = 0;
    r->first[++r->n] = n;
    return 0;
}

int sl_light_parse(
    const char *text, size_t len, const char *name, struct sl_light *out, char *err, size_t err_cap)
{
    struct sl_lines l = {name, text, text + len, 0, err, err_cap};
    struct trains t = {0};
    char line[SL_LINES_LINE_MAX];
    int more, rc = 0;

    while (!rc && (more = sl_lines_next(&l, line)) != 0)
        rc = more < 0 ? more : train_line(&l, line, &t);
    if (!rc && t.r.n < 2) {
        l.number = l.number ? l.number : 1;
        rc = sl_lines_fail(&l, "fewer than two trains; the last one's time is the record's length");
    } else if (!rc && t.r.at_ms[t.r.n - 1] == 0) {
        rc = sl_lines_fail(&l, "the record ends at 0 ms; its last time is its length, and must be above 0");
    }
    if (rc == -ENOMEM)
        snprintf(err, err_cap, "%s: out of memory", name);
    if (rc) {
        sl_light_free(&t.r);
        return rc;
    }
    *out = t.r;
    return 0;
}

/* ---- series ---- */

void sl_series_free(struct sl_series *s)
{
    free(s->at_ns);
    free(s->rate_bps);
    *s = (struct sl_series){0};
}

struct columns {
    int time, rate;           /* -1: not found */
    double time_ns, rate_bps; /* a unit's worth; time_ns 0: rows are seconds */
};

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);

    return n >= k && strcmp(text + n - k, end) == 0;
}

/* Cuts a line at its commas, in place. */
static int cells(char *line, char *cell[static COLUMNS_MAX])
{
    int n = 0;

    for (char *c = line; c && n < COLUMNS_MAX; n++) {
        cell[n] = c;
        c = strchr(c, ',');
        if (c)
            *c++ = 0;
        cell[n] += strspn(cell[n], " \t\"");
        size_t len = strlen(cell[n]);
        while (len && strchr(" \t\"", cell[n][len - 1]))
            cell[n][--len] = 0;
    }
    return n;
}

static double unit_of(const char *column)
{
    return ends_with(column, "_mbps")                                     ? 1e6
           : ends_with(column, "_kbps") || ends_with(column, "L_bitrate") ? 1e3
           : ends_with(column, "_bps")                                    ? 1
                                                                          : 0;
}

static int read_header(struct sl_lines *l, char *line, const char *column, struct columns *c)
{
    char *cell[COLUMNS_MAX];
    int n = cells(line, cell);

    *c = (struct columns){-1, -1, 0, unit_of(column)};
    for (int i = 0; i < n; i++) {
        if (strcmp(cell[i], column) == 0)
            c->rate = i;
        if (strcmp(cell[i], "time_s") == 0 || strcmp(cell[i], "time_ms") == 0 ||
            strcmp(cell[i], "Timestamp") == 0) {
            c->time = i;
            c->time_ns = strcmp(cell[i], "time_s") == 0 ? 1e9 : strcmp(cell[i], "time_ms") == 0 ? 1e6 : 0;
        }
    }
    if (c->time < 0)
        return sl_lines_fail(l, "no column time_s, time_ms or Timestamp in the header");
    if (c->rate < 0) {
        snprintf(l->err, l->err_cap, "%s:1: no column %s in the header", l->name, column);
        return -EINVAL;
    }
    if (c->rate_bps <= 0) {
        snprintf(l->err, l->err_cap,
            "%s:1: the unit of %s is not in its name; let it end with _bps, _kbps or _mbps", l->name, column);
        return -EINVAL;
    }
    return 0;
}

struct rows {
    struct sl_series s;
    size_t at_cap, rate_cap;
};

static int read_row(struct sl_lines *l, char *line, const struct columns *c, struct rows *r)
{
    char *cell[COLUMNS_MAX];
    int n = cells(line, cell);

    if (n <= c->time || n <= c->rate)
        return sl_lines_fail(l, "fewer columns than the header has");
    const char *text = cell[c->rate];
    double rate = *text == 0 || strcmp(text, "-") == 0 ? 0 : number_of(text);
    double at = c->time_ns > 0 ? number_of(cell[c->time]) * c->time_ns : (double)r->s.n * 1e9;
    if (isnan(rate) || isnan(at))
        return sl_lines_fail(l, "not a number");
    if (rate < 0)
        return sl_lines_fail(l, "a rate below 0");
    if (at < 0 || at > 1e18 || rate * c->rate_bps > 1e12)
        return sl_lines_fail(l, "a time or rate beyond what can be meant (30 years, 1 Tbit/s)");
    if (grow((void **)&r->s.at_ns, sizeof *r->s.at_ns, &r->at_cap, r->s.n + 1) ||
        grow((void **)&r->s.rate_bps, sizeof *r->s.rate_bps, &r->rate_cap, r->s.n + 1))
        return -ENOMEM;
    uint64_t ns = (uint64_t)llround(at);
    if (r->s.n && ns <= r->s.at_ns[r->s.n - 1])
        return sl_lines_fail(l, "no later than the row before; sort the rows by time");
    r->s.at_ns[r->s.n] = ns;
    r->s.rate_bps[r->s.n++] = rate * c->rate_bps;
    return 0;
}

/* Times from 0, and an end. */
static int finish(struct sl_lines *l, struct sl_series *s)
{
    double bits = 0;

    l->number = l->number ? l->number : 1;
    if (s->n == 0)
        return sl_lines_fail(l, "no row after the header; the series is empty");
    for (size_t i = s->n; i-- > 0;) {
        s->at_ns[i] -= s->at_ns[0];
    }
    s->at_ns[s->n] = s->at_ns[s->n - 1] + (s->n > 1 ? s->at_ns[s->n - 1] - s->at_ns[s->n - 2] : 1000000000);
    for (size_t i = 0; i < s->n; i++)
        bits += s->rate_bps[i] * (double)(s->at_ns[i + 1] - s->at_ns[i]) * 1e-9;
    if (bits < SL_SERVICE_RATE_MIN_BPS * (double)s->at_ns[s->n] * 1e-9)
        return sl_lines_fail(l, "on average less than 1 kbit/s up to here: a packet would take minutes");
    s->rate_bps[s->n++] = 0;
    return 0;
}

int sl_series_parse(const char *text, size_t len, const char *name, const char *column, struct sl_series *out,
    char *err, size_t err_cap)
{
    struct sl_lines l = {name, text, text + len, 0, err, err_cap};
    struct columns c;
    struct rows r = {0};
    char line[SL_LINES_LINE_MAX];
    int more = sl_lines_next(&l, line), rc = more < 0 ? more : 0;

    if (!rc && !more) {
        l.number = 1;
        rc = sl_lines_fail(&l, "the series is empty; give a header and a row for each time");
    }
    if (!rc)
        rc = read_header(&l, line, column, &c);
    while (!rc && (more = sl_lines_next(&l, line)) != 0)
        rc = more < 0 ? more : *line ? read_row(&l, line, &c, &r) : 0;
    if (!rc)
        rc = finish(&l, &r.s);
    if (rc == -ENOMEM)
        snprintf(err, err_cap, "%s: out of memory", name);
    if (rc) {
        sl_series_free(&r.s);
        return rc;
    }
    *out = r.s;
    return 0;
}

/* ---- files ---- */

int sl_trace_load(const char *file, struct sl_trace *t, char *err, size_t err_cap)
{
    char *text;
    size_t len;
    int rc = sl_lines_of_file(file, &text, &len, err, err_cap);

    if (rc)
        return rc;
    rc = sl_trace_parse(text, len, file, t, err, err_cap);
    free(text);
    return rc;
}

int sl_light_load(const char *file, struct sl_light *r, char *err, size_t err_cap)
{
    char *text;
    size_t len;
    int rc = sl_lines_of_file(file, &text, &len, err, err_cap);

    if (rc)
        return rc;
    rc = sl_light_parse(text, len, file, r, err, err_cap);
    free(text);
    return rc;
}

int sl_series_load(const char *file, const char *column, struct sl_series *s, char *err, size_t err_cap)
{
    char *text;
    size_t len;
    int rc = sl_lines_of_file(file, &text, &len, err, err_cap);

    if (rc)
        return rc;
    rc = sl_series_parse(text, len, file, column, s, err, err_cap);
    free(text);
    return rc;
}
