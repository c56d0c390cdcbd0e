/* Whether a thread had its CPU when it wanted it: what its figures of time are worth. */
#pragma once

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stdint.h>

struct bench_overcommit {
    uint64_t at_ns, waited_ns, switches, steal_ticks;
};

/* On the thread itself. waited_ns: runnable without a CPU, by the kernel's account (schedstat). */
void bench_overcommit_look(struct bench_overcommit *);
/* Adds {seconds, waited_ms, waited_share, involuntary_switches, steal_ticks, overcommitted} between two
 * looks. Returns overcommitted: it waited for more than 0.1 % of the time, or the hypervisor took more than 1
 * %. */
bool bench_overcommit_json(
    cJSON *to, const struct bench_overcommit *from, const struct bench_overcommit *till);
