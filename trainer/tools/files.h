/* Small files written whole. */
#pragma once

#include <stddef.h>

/* What was there stays until the new file is complete. -errno with a line in err that names the file. */
int sl_file_write(const char *path, const char *bytes, size_t len, char *err, size_t err_cap);
