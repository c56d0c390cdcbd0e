/* One-line errors for people: what is wrong and what to do. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

/* Formats into `err` (may be NULL) and returns `code`, so that a caller can `return sl_fail(...)`. */
__attribute__((format(printf, 4, 5))) static inline int sl_fail(
    int code, char *err, size_t err_cap, const char *fmt, ...)
{
    if (err && err_cap) {
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err, err_cap, fmt, ap);
        va_end(ap);
    }
    return code;
}
