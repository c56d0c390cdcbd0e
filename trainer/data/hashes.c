#include "trainer/data/hashes.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, 32);
}

static bool parse_hash(const char *line, uint8_t hash[32])
{
    for (int i = 0; i < 64; i++) {
        if (!isxdigit((unsigned char)line[i]))
            return false;
        int digit =
            isdigit((unsigned char)line[i]) ? line[i] - '0' : tolower((unsigned char)line[i]) - 'a' + 10;
        hash[i / 2] = (uint8_t)(i % 2 ? hash[i / 2] | digit : digit << 4);
    }
    return line[64 + strspn(line + 64, " \t\r\n")] == '\0';
}

int sl_hashes_read(const char *path, struct sl_hashes *hashes, char *err, size_t err_cap)
{
    *hashes = (struct sl_hashes){0};
    FILE *file = fopen(path, "re");
    if (!file) {
        int code = errno;
        snprintf(err, err_cap, "%s: %s", path, strerror(code));
        return code == ENOENT ? -ENOENT : -EIO;
    }
    char *line = NULL;
    size_t cap = 0, room = 0;
    int rc = 0;
    for (size_t line_no = 1; !rc && getline(&line, &cap, file) > 0; line_no++) {
        if (line[0] == '#' || line[strspn(line, " \t\r\n")] == '\0')
            continue;
        if (hashes->n == room) {
            room = 2 * room + 64;
            void *bigger = realloc(hashes->hash, room * sizeof *hashes->hash);
            if (!bigger) {
                snprintf(err, err_cap, "%s: out of memory", path);
                rc = -ENOMEM;
                break;
            }
            hashes->hash = bigger;
        }
        if (!parse_hash(line, hashes->hash[hashes->n++])) {
            snprintf(err, err_cap, "%s:%zu: not a SHA-256 in hex", path, line_no);
            rc = -EINVAL;
        }
    }
    if (!rc && ferror(file)) {
        snprintf(err, err_cap, "%s: %s", path, strerror(errno));
        rc = -EIO;
    }
    free(line);
    fclose(file);
    if (rc)
        sl_hashes_free(hashes);
    else if (hashes->n)
        qsort(hashes->hash, hashes->n, sizeof *hashes->hash, compare);
    return rc;
}

bool sl_hashes_have(const struct sl_hashes *hashes, const uint8_t hash[32])
{
    return hashes->n && bsearch(hash, hashes->hash, hashes->n, sizeof *hashes->hash, compare);
}

void sl_hashes_free(struct sl_hashes *hashes)
{
    free(hashes->hash);
    *hashes = (struct sl_hashes){0};
}
