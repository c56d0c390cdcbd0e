/* What the files of the host check share: reading below the root, and writing findings down. */
#pragma once

#include "trainer/edge/check.h"

#include <stdio.h>

enum {
    CHECK_LINE = 8192, /* /proc/interrupts has a column for each CPU */
    CHECK_WORD = 64,
};

struct host {
    const struct sl_check_config *c;
    struct sl_check *out;
    bool busy, pci;
    const char *backend;
};

/* The first line without its end. False where the file is missing or empty; then line is "". */
__attribute__((format(printf, 3, 4))) bool check_line(
    const struct host *, char line[CHECK_LINE], const char *format, ...);
FILE *check_file(const struct host *, const char *name); /* NULL: not there */
/* The last part of a symbolic link: a device's driver. */
bool check_link(const struct host *, const char *name, char out[CHECK_WORD]);
/* Adds up a count of huge pages of every size below a directory of sysfs; *mib grows by what they hold. */
unsigned long check_pages(const struct host *, const char *where, const char *what, unsigned long *mib);

bool check_capability(const struct host *, unsigned bit); /* effective, of this process */
bool check_has(const uint32_t *set, uint32_t n, uint32_t cpu);
void check_list(const uint32_t *set, uint32_t n, char *out, size_t cap); /* "1,2,3" */

__attribute__((format(printf, 5, 6))) void check_find(
    struct host *, enum sl_check_level, const char *name, const char *cure, const char *format, ...);

void check_port(struct host *); /* the rest of the checks are check.c's own */
