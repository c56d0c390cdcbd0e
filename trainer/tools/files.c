#include "trainer/tools/files.h"

#include "trainer/model/replace.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sl_file_write(const char *path, const char *bytes, size_t len, char *err, size_t err_cap)
{
    char *for_dir = strdup(path), *for_name = strdup(path);
    struct sl_replace file;
    int rc = for_dir && for_name ? sl_replace_open(&file, dirname(for_dir), basename(for_name)) : -ENOMEM;
    if (!rc) {
        rc = sl_replace_write(&file, bytes, len);
        if (!rc)
            rc = sl_replace_flush(&file);
        if (!rc)
            rc = sl_replace_commit(&file);
        else
            sl_replace_abort(&file);
    }
    if (rc)
        snprintf(err, err_cap, "%s: %s", path, strerror(-rc));
    free(for_dir);
    free(for_name);
    return rc;
}
