/* Files of results that the reference.py of a test folder wrote: records of name, count, values; see
 * tests/model/reference.py. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A golden file in memory: records of name, count, values. */
struct golden {
    char *bytes;
    size_t len;
};

static inline struct golden golden_read(const char *dir, const char *name)
{
    char path[512];
    struct golden g = {0};
    snprintf(path, sizeof path, "%s/%s.bin", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f)
        fail_msg("cannot open %s", path);
    fseek(f, 0, SEEK_END);
    g.len = (size_t)ftell(f);
    rewind(f);
    g.bytes = malloc(g.len);
    assert_int_equal(fread(g.bytes, 1, g.len, f), g.len);
    fclose(f);
    return g;
}

/* The values of a record, as doubles or floats; the count must be n. Copied: records are not aligned. */
static inline void golden_get(const struct golden *g, const char *name, size_t n, size_t size, void *out)
{
    for (size_t at = 0; at < g->len;) {
        uint32_t name_len, count;
        memcpy(&name_len, g->bytes + at, sizeof name_len);
        const char *text = g->bytes + at + sizeof name_len;
        memcpy(&count, text + name_len, sizeof count);
        bool wide = strncmp(text, "loss", 4) == 0 || strncmp(text, "max", 3) == 0;
        size_t bytes = count * (wide ? sizeof(double) : sizeof(float));
        const char *data = text + name_len + sizeof count;
        if (name_len == strlen(name) && memcmp(text, name, name_len) == 0) {
            assert_int_equal(bytes, n * size);
            memcpy(out, data, bytes);
            return;
        }
        at = (size_t)(data - g->bytes) + bytes;
    }
    fail_msg("no record %s", name);
}
