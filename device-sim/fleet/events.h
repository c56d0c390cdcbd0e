/* RUN/events.jsonl: what the phones did and when, one JSON object a line, the same from a run in real and in
 * virtual time. `t` is in ns since the start of the run, every other number an integer too, so that the bytes
 * depend on what happened alone. docs/device-sim.md lists the events.
 *
 * Control thread only; buffered. After `max_lines` nothing more is written but how many were left out. */
#pragma once

#include "device-sim/fleet/emulator.h"

enum { SL_EVENTS_EDGE = -1 }; /* in the place of a phone's number */
#define SL_EVENTS_MAX_LINES UINT64_C(50000000)

struct sl_events;
int sl_events_open(
    const char *path, uint64_t start_ns, uint64_t max_lines, struct sl_events **, char *err, size_t err_cap);
/* The last line is `end`; `unseen`: what came too fast to be kept (sl_plane_unseen). Returns 0 or -errno of
 * the first write that failed. NULL is allowed. */
int sl_events_close(struct sl_events *, uint64_t now_ns, uint64_t unseen);

/* NULL for the log: nothing is written. */
void sl_events_numbers(struct sl_events *, uint64_t now_ns, int64_t phone, const char *event,
    const char *const *keys, const uint64_t *values, unsigned n);
/* Names and sentences; what JSON would have to escape becomes '?'. b_key may be NULL. */
void sl_events_texts(struct sl_events *, uint64_t now_ns, int64_t phone, const char *event, const char *a_key,
    const char *a, const char *b_key, const char *b);
void sl_events_sight(struct sl_events *, const struct sl_emulator_seen *, uint64_t start_ns);
#define sl_events_write(log, now, phone, event, keys, ...)                                                   \
    sl_events_numbers(log, now, phone, event, keys, (const uint64_t[]){__VA_ARGS__},                         \
        sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))
