/* A directory of a test's own, and cmocka's headers in the order that they need. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>

struct scratch {
    char path[200];
};

struct scratch scratch_make(void);
void scratch_write(const struct scratch *, const char *name, const char *text);
void scratch_write_bytes(const struct scratch *, const char *name, const void *bytes, size_t len);
void scratch_link(const struct scratch *, const char *to, const char *name);
void scratch_mkdir(const struct scratch *, const char *name);
/* The directory and all that is in it. */
void scratch_remove(struct scratch *);
