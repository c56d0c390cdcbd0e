#include "device-sim/link/lines.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FIRST_BYTES = 65536 };
/* What is read of a file: a record that is taken has 64 characters a line at most, in the mean. */
#define FILE_BYTES_MAX ((size_t)SL_LINES_MAX * 64)

int sl_lines_fail(const struct sl_lines *l, const char *what)
{
    snprintf(l->err, l->err_cap, "%s:%llu: %s", l->name, (unsigned long long)l->number, what);
    return -EINVAL;
}

int sl_lines_next(struct sl_lines *l, char line[static SL_LINES_LINE_MAX])
{
    if (l->at == l->end)
        return 0;
    l->number++;
    if (l->number > SL_LINES_MAX)
        return sl_lines_fail(l, "more than 10,000,000 lines; cut the record, it repeats anyway");
    const char *stop = memchr(l->at, '\n', (size_t)(l->end - l->at));
    size_t n = (size_t)((stop ? stop : l->end) - l->at);
    if (n >= SL_LINES_LINE_MAX)
        return sl_lines_fail(l, "the line is longer than 4095 characters; this is no record");
    memcpy(line, l->at, n);
    l->at = stop ? stop + 1 : l->end;
    if (n && line[n - 1] == '\r')
        n--;
    line[n] = 0;
    return strlen(line) == n ? 1 : sl_lines_fail(l, "a NUL character; this is no text");
}

int sl_lines_of_file(const char *file, char **text, size_t *len, char *err, size_t err_cap)
{
    FILE *f = fopen(file, "r");
    size_t cap = 0, n;
    int rc = 0;

    *text = NULL;
    *len = 0;
    if (!f) {
        rc = -errno;
        snprintf(err, err_cap, "%s: %s", file, strerror(errno));
        return rc;
    }
    do {
        if (*len == cap) {
            char *more = realloc(*text, cap = cap ? 2 * cap : FIRST_BYTES);
            if (!more) {
                rc = -ENOMEM;
                snprintf(err, err_cap, "%s: out of memory", file);
                break;
            }
            *text = more;
        }
        n = fread(*text + *len, 1, cap - *len, f);
        *len += n;
    } while (n && *len < FILE_BYTES_MAX);
    if (!rc && *len >= FILE_BYTES_MAX) {
        rc = -EINVAL;
        snprintf(err, err_cap, "%s: longer than 640 MB; cut the record, it repeats anyway", file);
    } else if (!rc && ferror(f)) {
        rc = -EIO;
        snprintf(err, err_cap, "%s: cannot be read", file);
    }
    fclose(f);
    if (rc)
        free(*text);
    return rc;
}
