/* Whole small files. Both return -errno with a line in err that names the file. */
#pragma once

#include <stddef.h>

/* `*bytes` is malloc'ed and ended by a NUL that *len does not count. */
int sl_file_read(const char *path, char **bytes, size_t *len, char *err, size_t err_cap);
/* By a temporary name, fsync and rename: what was there stays until the new file is complete. */
int sl_file_write(const char *path, const char *bytes, size_t len, char *err, size_t err_cap);
