/* A text file of records, line by line, with where the reader is for errors: "NAME:LINE: what is wrong".
 * Bounded: what is not a record of ours ends with an error, not with the memory. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    SL_LINES_MAX = 10000000, /* a day at 115 a second */
    SL_LINES_LINE_MAX = 4096,
};

struct sl_lines {
    const char *name, *at, *end;
    uint64_t number; /* of the line taken last */
    char *err;
    size_t err_cap;
};

/* The next line without its end: 1; none is left: 0; -EINVAL: too long, too many, or no text. */
int sl_lines_next(struct sl_lines *, char line[static SL_LINES_LINE_MAX]);
int sl_lines_fail(const struct sl_lines *, const char *what); /* -EINVAL */
/* All of a file, malloc'ed. -ENOENT and the like, -EINVAL: above 640 MB; with err. */
int sl_lines_of_file(const char *file, char **text, size_t *len, char *err, size_t err_cap);
