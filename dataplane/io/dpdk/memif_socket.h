/* The socket file by which two memif ends find each other. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Whether somebody listens at path. Nobody is disturbed: no connection is made. */
bool sl_memif_listens(const char *path);
/* Before a server binds: the path fits a socket address, nobody listens there, and a file left behind by a
 * killed server is removed. 0, or -errno and one line with the cure in err. */
int sl_memif_prepare(const char *path, bool server, char *err, size_t err_cap);
/* The path from the root: the driver of DPDK 22.11 refuses any other. -ENAMETOOLONG, or getcwd's error. */
int sl_memif_absolute(const char *path, char *out, size_t cap);
