/* A program's metrics file: one JSON object a line, `t` (seconds since the epoch) and `event` first. One
 * thread. Lines are whole or absent after a kill: each is one write(). The events and their keys are listed
 * in docs/architecture.md, "What a run leaves behind". */
#pragma once

#include <cjson/cJSON.h>
#include <stddef.h>
#include <stdint.h>

struct sl_metrics;
int sl_metrics_open(const char *path, struct sl_metrics **, char *err, size_t err_cap); /* appends */
int sl_metrics_write(
    struct sl_metrics *, const char *event, cJSON *object); /* takes the object; -errno of the write */
/* Adds a number with all 17 digits (cJSON's own printing may round off the last bit); null where it is not finite. */
void sl_metrics_number(cJSON *object, const char *key, double value);
void sl_metrics_close(struct sl_metrics *);
