/* Commands for dpdk-telemetry.py: a program's own answers, as JSON objects. They are called on DPDK's
 * telemetry thread, a client at a time, and may only read counters. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct rte_tel_data;
struct sl_telemetry { /* an object being written */
    struct rte_tel_data *object;
};

/* `params`: what stands behind the command's comma, NULL where nothing does. 0, or -errno: the client is told
 * null. */
typedef int (*sl_telemetry_fn)(void *app, const char *params, struct sl_telemetry *out);

/* "/sluice/..."; at most 16 commands a process, before clients come, for as long as it lives. -ENOSPC,
 * -EINVAL. */
int sl_telemetry_register(const char *command, const char *help, sl_telemetry_fn, void *app);

/* Ends them: none is called any more, and later clients are told null. */
void sl_telemetry_close(void);

/* What is too much for one object (256 members) is left out. Names: as JSON wants them, no escaping. */
void sl_telemetry_number(struct sl_telemetry *, const char *name, uint64_t value);
void sl_telemetry_text(struct sl_telemetry *, const char *name, const char *value);
/* A list of numbers as a member: at most 512 of them. */
void sl_telemetry_list(struct sl_telemetry *, const char *name, const uint64_t *values, size_t n);
/* A member that is an object: `write` fills it. */
void sl_telemetry_object(
    struct sl_telemetry *, const char *name, void (*write)(void *ctx, struct sl_telemetry *), void *ctx);
