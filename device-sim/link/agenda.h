/* A timing wheel that gives its entries back in exact order of time, and of insertion among equals. Entries
 * are the caller's numbers 0 .. n-1, each in the wheel at most once. Two levels: buckets of 65.5 us over the
 * next 268 ms, and a heap for what is later; a bucket becomes a small heap when its time has come. Constant
 * cost an entry where few share a bucket. No allocation after creation; one thread. The transport's wheel
 * (dataplane/transport/timing_wheel.h) is for timers that may be 65 us late and are moved often; this one for
 * events whose order matters. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sl_agenda;
int sl_agenda_create(uint32_t n, struct sl_agenda **); /* -EINVAL, -ENOMEM */
void sl_agenda_free(struct sl_agenda *);
/* An entry that is not in the wheel; at_ns may lie in the past of what was popped. */
void sl_agenda_add(struct sl_agenda *, uint32_t entry, uint64_t at_ns);
uint64_t sl_agenda_next(struct sl_agenda *); /* the earliest time; UINT64_MAX: empty */
/* The earliest entry, if its time is no later than until_ns. */
bool sl_agenda_pop(struct sl_agenda *, uint64_t until_ns, uint32_t *entry, uint64_t *at_ns);
uint32_t sl_agenda_count(const struct sl_agenda *);
