#include "device-sim/life/trace.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double longest_s = 1e9; /* thirty years */

struct change {
    uint64_t ns;
    uint32_t device;
};

struct sl_life_trace {
    uint64_t *ns;    /* device after device, each in order of time */
    uint32_t *first; /* [n_devices + 1]: of each device in ns */
    uint32_t n_devices;
};

struct reader {
    const char *name;
    size_t line;
    uint32_t n_devices;
    struct change *change;
    uint32_t n, cap;
    uint64_t last_ns;
    uint32_t *seen; /* [n_devices]: changes so far */
    char *err;
    size_t err_cap;
};

static int refuse(struct reader *r, const char *text)
{
    snprintf(r->err, r->err_cap, "%s:%zu: %s", r->name, r->line, text);
    return -EINVAL;
}

static int add(struct reader *r, struct change c)
{
    if (r->n == SL_LIFE_TRACE_EVENTS_MAX)
        return refuse(r, "more than 4000000 events; cut the trace");
    if (r->n == r->cap) {
        uint32_t cap = r->cap ? 2 * r->cap : 256;
        struct change *more = realloc(r->change, cap * sizeof(*more));
        if (!more)
            return -ENOMEM;
        r->change = more;
        r->cap = cap;
    }
    r->change[r->n++] = c;
    r->seen[c.device]++;
    r->last_ns = c.ns;
    return 0;
}

/* Three fields, no more; white space around a field is passed over. */
static bool split(char *line, char *field[3])
{
    for (int i = 0; i < 3; i++) {
        field[i] = line;
        line = strchr(line, ',');
        if (!line != (i == 2))
            return false;
        if (line)
            *line++ = '\0';
        field[i] += strspn(field[i], " \t");
        size_t n = strlen(field[i]);
        while (n && strchr(" \t\r", field[i][n - 1]))
            field[i][--n] = '\0';
    }
    return true;
}

static bool is_number(const char *text, const char *digits)
{
    return *text && strspn(text, digits) == strlen(text);
}

static int take_line(struct reader *r, char *line)
{
    char *field[3], *end;
    char text[160];

    if (line[strspn(line, " \t\r")] == '\0' || line[0] == '#')
        return 0;
    if (!split(line, field))
        return refuse(r, "not `time_s,device,arrive` or `time_s,device,depart`");
    if (r->n == 0 && strcmp(field[0], "time_s") == 0)
        return 0;
    double s = strtod(field[0], &end);
    if (!is_number(field[0], "0123456789.eE+-") || *end || !(s >= 0) || s > longest_s)
        return refuse(r, "the time is not a number of seconds from 0 to 1e9");
    unsigned long device = strtoul(field[1], &end, 10);
    if (!is_number(field[1], "0123456789") || device >= r->n_devices) {
        snprintf(text, sizeof(text), "device '%.20s' is none of the class's, which are 0 to %u", field[1],
            r->n_devices - 1);
        return refuse(r, text);
    }
    struct change c = {(uint64_t)(s * 1e9), (uint32_t)device};
    if (c.ns < r->last_ns)
        return refuse(r, "the time is before that of the line above; sort the trace by time");
    bool arrive = strcmp(field[2], "arrive") == 0;
    if (!arrive && strcmp(field[2], "depart"))
        return refuse(r, "the event is neither arrive nor depart");
    if (arrive != (r->seen[c.device] % 2 == 0))
        return refuse(r, arrive ? "the device is there already" : "the device is not there");
    return add(r, c);
}

/* Counting sort: it keeps a device's changes in their order. */
static int arrange(struct reader *r, struct sl_life_trace **out)
{
    struct sl_life_trace *t = calloc(1, sizeof(*t));
    uint32_t at = 0;

    if (!t)
        return -ENOMEM;
    t->n_devices = r->n_devices;
    t->ns = malloc(r->n * sizeof(*t->ns));
    t->first = malloc((r->n_devices + 1u) * sizeof(*t->first));
    if (!t->ns || !t->first) {
        sl_life_trace_free(t);
        return -ENOMEM;
    }
    for (uint32_t d = 0; d < r->n_devices; d++) {
        t->first[d] = at;
        at += r->seen[d];
        r->seen[d] = t->first[d];
    }
    t->first[r->n_devices] = at;
    for (uint32_t i = 0; i < r->n; i++)
        t->ns[r->seen[r->change[i].device]++] = r->change[i].ns;
    *out = t;
    return 0;
}

static int begin(struct reader *r, const char *name, uint32_t n_devices, char *err, size_t err_cap)
{
    *r = (struct reader){.name = name, .line = 1, .n_devices = n_devices, .err = err, .err_cap = err_cap};
    r->seen = calloc(n_devices, sizeof(*r->seen));
    return r->seen ? 0 : -ENOMEM;
}

static int end(struct reader *r, int rc, struct sl_life_trace **out)
{
    if (!rc && r->n == 0) {
        r->line = 1;
        rc = refuse(r, "no event; give lines `time_s,device,arrive` and `time_s,device,depart`");
    }
    if (!rc)
        rc = arrange(r, out);
    if (rc == -ENOMEM)
        snprintf(r->err, r->err_cap, "%s: out of memory", r->name);
    free(r->change);
    free(r->seen);
    return rc;
}

static int take_text(struct reader *r, const char *text, size_t len)
{
    char line[SL_LIFE_TRACE_LINE_MAX];

    if (len && text[len - 1] == '\n')
        len--;
    if (len >= sizeof(line) || memchr(text, '\0', len))
        return refuse(r, "not a line of a trace: it is too long, or not text");
    memcpy(line, text, len);
    line[len] = '\0';
    int rc = take_line(r, line);
    r->line += rc == 0;
    return rc;
}

int sl_life_trace_parse(const char *name, const char *bytes, size_t len, uint32_t n_devices,
    struct sl_life_trace **out, char *err, size_t err_cap)
{
    struct reader r;
    int rc = begin(&r, name, n_devices, err, err_cap);

    for (size_t at = 0; at < len && !rc;) {
        const char *eol = memchr(bytes + at, '\n', len - at);
        size_t n = eol ? (size_t)(eol - bytes) + 1 - at : len - at;
        rc = take_text(&r, bytes + at, n);
        at += n;
    }
    return end(&r, rc, out);
}

/* Line by line: a file of any length is refused at the first line too many. */
int sl_life_trace_read(
    const char *path, uint32_t n_devices, struct sl_life_trace **out, char *err, size_t err_cap)
{
    FILE *f = fopen(path, "re");
    char line[SL_LIFE_TRACE_LINE_MAX + 2];
    struct reader r;

    if (!f) {
        int code = errno;
        snprintf(err, err_cap, "%s: %s", path, strerror(code));
        return code == ENOENT ? -ENOENT : -EIO;
    }
    int rc = begin(&r, path, n_devices, err, err_cap);
    while (!rc && fgets(line, sizeof(line), f)) {
        size_t n = strlen(line);
        if (r.line > 2u * SL_LIFE_TRACE_EVENTS_MAX)
            rc = refuse(&r, "more than 8000000 lines; cut the trace");
        else /* a NUL byte hides the line's end */
            rc = n == 0 ? refuse(&r, "not a line of a trace: it is not text") : take_text(&r, line, n);
    }
    if (!rc && ferror(f)) {
        snprintf(err, err_cap, "%s: cannot be read", path);
        rc = -EIO;
    }
    fclose(f);
    return end(&r, rc, out);
}

void sl_life_trace_free(struct sl_life_trace *t)
{
    if (!t)
        return;
    free(t->ns);
    free(t->first);
    free(t);
}

uint64_t sl_life_trace_change(const struct sl_life_trace *t, uint32_t device, uint64_t k)
{
    uint32_t n = device < t->n_devices ? t->first[device + 1] - t->first[device] : 0;

    return k < n ? t->ns[t->first[device] + k] : UINT64_MAX;
}
