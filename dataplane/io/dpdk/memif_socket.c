#include "dataplane/io/dpdk/memif_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* memif listens with SOCK_SEQPACKET. A connect with another type is refused with EPROTOTYPE where somebody
 * listens and with ECONNREFUSED where nobody does, and leaves no half-made connection in the listener's
 * queue: the driver of DPDK 22.11 does not survive a client that is gone before it is greeted. */
bool sl_memif_listens(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(a.sun_path))
        return false;
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    int ret = connect(fd, (struct sockaddr *)&a, sizeof(a));
    bool listens = ret == 0 || errno == EPROTOTYPE || errno == EAGAIN;
    close(fd);
    return listens;
}

int sl_memif_prepare(const char *path, bool server, char *err, size_t err_cap)
{
    struct sockaddr_un a;
    struct stat st;
    if (strlen(path) >= sizeof(a.sun_path)) {
        snprintf(err, err_cap,
            "memif socket path %s has %zu bytes; %zu are allowed: use a run directory with a shorter path",
            path, strlen(path), sizeof(a.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    if (!server || lstat(path, &st) != 0)
        return 0;
    if (!S_ISSOCK(st.st_mode)) {
        snprintf(err, err_cap, "%s exists and is not a socket: remove it or use another run directory", path);
        return -EEXIST;
    }
    if (sl_memif_listens(path)) {
        snprintf(err, err_cap,
            "memif socket %s is taken by a running program: stop it or use another run directory", path);
        return -EADDRINUSE;
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        int e = errno;
        snprintf(err, err_cap, "cannot remove the stale memif socket %s: %s", path, strerror(e));
        return -e;
    }
    return 0;
}

int sl_memif_absolute(const char *path, char *out, size_t cap)
{
    size_t used = 0;
    if (path[0] != '/') {
        if (getcwd(out, cap) == NULL)
            return -errno;
        used = strlen(out);
        if (used + 1 < cap)
            out[used++] = '/';
    }
    if (used + strlen(path) >= cap)
        return -ENAMETOOLONG;
    memcpy(out + used, path, strlen(path) + 1);
    return 0;
}
