/* Files replaced as a whole (see replace.h). */
#include "trainer/model/replace.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int sl_replace_open(struct sl_replace *r, const char *dir, const char *name)
{
    *r = (struct sl_replace){.fd = -1};
    if (asprintf(&r->path, "%s/%s", dir, name) < 0) {
        r->path = NULL;
        return -ENOMEM;
    }
    if (asprintf(&r->tmp, "%s.tmp", r->path) < 0) {
        r->tmp = NULL;
        sl_replace_abort(r);
        return -ENOMEM;
    }
    r->fd = open(r->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (r->fd >= 0)
        return 0;
    int err = -errno;
    free(r->tmp); /* what is there is not ours to remove */
    r->tmp = NULL;
    sl_replace_abort(r);
    return err;
}

int sl_replace_write(struct sl_replace *r, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        ssize_t done = write(r->fd, at, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -EIO;
        at += done;
        n -= (size_t)done;
    }
    return 0;
}

int sl_replace_flush(struct sl_replace *r)
{
    int err = fsync(r->fd) ? -errno : 0;
    if (close(r->fd) && !err)
        err = -errno;
    r->fd = -1;
    return err;
}

static int sync_directory(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return -errno;
    int err = fsync(fd) ? -errno : 0;
    close(fd);
    return err == -EINVAL ? 0 : err; /* a file system that cannot sync a directory */
}

int sl_replace_commit(struct sl_replace *r)
{
    if (rename(r->tmp, r->path)) {
        int err = -errno;
        sl_replace_abort(r);
        return err;
    }
    free(r->tmp);
    r->tmp = NULL;
    int err = sync_directory(r->path);
    sl_replace_abort(r);
    return err;
}

void sl_replace_abort(struct sl_replace *r)
{
    if (r->fd >= 0)
        close(r->fd);
    if (r->tmp)
        unlink(r->tmp);
    free(r->tmp);
    free(r->path);
    *r = (struct sl_replace){.fd = -1};
}
