/* A recorded coming and going: lines `time_s,device,arrive|depart`, times from the start of the run and never
 * falling, devices numbered from 0 in the class that uses the trace; a heading of these three words, blank
 * lines and lines that begin with '#' are passed over. A phone is away until its first arrival. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SL_LIFE_TRACE_EVENTS_MAX = 4000000, SL_LIFE_TRACE_LINE_MAX = 256 };

struct sl_life_trace;

/* n_devices: of the class. -EINVAL with "FILE:LINE: what is wrong", -ENOENT, -EIO, -ENOMEM; err is one line.
 */
int sl_life_trace_read(
    const char *path, uint32_t n_devices, struct sl_life_trace **, char *err, size_t err_cap);
/* The same from memory. */
int sl_life_trace_parse(const char *name, const char *bytes, size_t len, uint32_t n_devices,
    struct sl_life_trace **, char *err, size_t err_cap);
void sl_life_trace_free(struct sl_life_trace *);

/* The k-th change of a device, from 0: arrivals and departures take turns, an arrival first. UINT64_MAX:
 * there is none. ns from the start. */
uint64_t sl_life_trace_change(const struct sl_life_trace *, uint32_t device, uint64_t k);
