#include "trainer/tools/files.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int sl_file_read(const char *path, char **bytes, size_t *len, char *err, size_t err_cap)
{
    FILE *file = fopen(path, "re");
    char *buffer = NULL;
    size_t n = 0, cap = 0;
    int code = file ? 0 : errno;
    while (!code) {
        if (n + 1 >= cap) {
            cap = cap ? 2 * cap : 65536;
            char *bigger = realloc(buffer, cap);
            if (!bigger) {
                code = ENOMEM;
                break;
            }
            buffer = bigger;
        }
        size_t got = fread(buffer + n, 1, cap - n - 1, file);
        n += got;
        if (got == 0)
            break;
    }
    if (!code && ferror(file))
        code = errno ? errno : EIO;
    if (file)
        fclose(file);
    if (code) {
        free(buffer);
        snprintf(err, err_cap, "%s: %s", path, strerror(code));
        return -code;
    }
    buffer[n] = '\0';
    *bytes = buffer;
    *len = n;
    return 0;
}

int sl_file_write(const char *path, const char *bytes, size_t len, char *err, size_t err_cap)
{
    char *temporary;
    if (asprintf(&temporary, "%s.new", path) < 0) {
        snprintf(err, err_cap, "%s: out of memory", path);
        return -ENOMEM;
    }
    FILE *file = fopen(temporary, "we");
    int code = file ? 0 : errno;
    if (file) {
        bool done = fwrite(bytes, 1, len, file) == len && fflush(file) == 0 && fsync(fileno(file)) == 0;
        code = done ? 0 : errno;
        if (fclose(file) && !code)
            code = errno;
        if (!code && rename(temporary, path))
            code = errno;
        if (code)
            unlink(temporary);
    }
    if (code)
        snprintf(err, err_cap, "%s: %s", path, strerror(code));
    free(temporary);
    return -code;
}
