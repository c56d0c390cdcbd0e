/* Files of token ids in the run directory, a stream a line: written under a temporary name, renamed when
 * whole. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct sl_id_file {
    FILE *f;
    char path[1100], temporary[1104];
};

int sl_id_file_open(struct sl_id_file *, const char *dir, const char *name, char *err, size_t err_cap);
void sl_id_file_line(struct sl_id_file *, const uint32_t *ids, size_t n);
int sl_id_file_close(struct sl_id_file *, char *err, size_t err_cap); /* -errno: the old file stays */
