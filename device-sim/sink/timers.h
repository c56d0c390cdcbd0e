/* One timer each for n things, named by number: a heap that knows where each of them is. No clock, no
 * allocation after creation. Those due at the same time come in the order of their numbers, so that a run in
 * virtual time is the same every time. */
#pragma once

#include <stdint.h>

struct sl_timers;
int sl_timers_create(uint32_t n, struct sl_timers **); /* -ENOMEM */
void sl_timers_free(struct sl_timers *);
void sl_timers_set(struct sl_timers *, uint32_t i, uint64_t at_ns); /* UINT64_MAX: none */
uint64_t sl_timers_deadline(const struct sl_timers *);              /* UINT64_MAX: none */
/* Takes the next one that is due; -1: none is. */
int64_t sl_timers_next(struct sl_timers *, uint64_t now_ns);
