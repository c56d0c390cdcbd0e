#include "device-sim/fleet/id_file.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

int sl_id_file_open(struct sl_id_file *f, const char *dir, const char *name, char *err, size_t err_cap)
{
    snprintf(f->path, sizeof(f->path), "%s/%s", dir, name);
    snprintf(f->temporary, sizeof(f->temporary), "%s~", f->path);
    f->f = fopen(f->temporary, "we");
    if (f->f)
        return 0;
    int e = errno;
    snprintf(
        err, err_cap, "%s: %s; give a run directory that can be written (--run)", f->temporary, strerror(e));
    return -e;
}

void sl_id_file_line(struct sl_id_file *f, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fprintf(f->f, i ? " %u" : "%u", ids[i]);
    fputc('\n', f->f);
}

int sl_id_file_close(struct sl_id_file *f, char *err, size_t err_cap)
{
    errno = 0;
    int bad = fflush(f->f) || ferror(f->f) || fsync(fileno(f->f)), e = errno;

    if (fclose(f->f) && !bad) {
        bad = 1;
        e = errno;
    }
    if (!bad && rename(f->temporary, f->path)) {
        bad = 1;
        e = errno;
    }
    f->f = NULL;
    if (!bad)
        return 0;
    unlink(f->temporary);
    snprintf(
        err, err_cap, "%s: %s; make room there, the old file is untouched", f->path, strerror(e ? e : EIO));
    return e ? -e : -EIO;
}
