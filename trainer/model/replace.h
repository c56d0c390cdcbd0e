/* Replacing a file so that at any moment either the old or the new one is there, whole: write to PATH.tmp,
 * fsync, rename. One writer per path. */
#pragma once

#include <stddef.h>

struct sl_replace {
    int fd;
    char *path, *tmp;
};

/* Each returns 0 or -errno. After a failure of write or flush call abort; PATH is as it was. */
int sl_replace_open(struct sl_replace *, const char *dir, const char *name);
int sl_replace_write(struct sl_replace *, const void *p, size_t n);
int sl_replace_flush(struct sl_replace *); /* the bytes are on disk; nothing is renamed yet */
/* Renames and makes the rename durable; frees. After a failure of rename PATH is as it was. */
int sl_replace_commit(struct sl_replace *);
void sl_replace_abort(struct sl_replace *);
