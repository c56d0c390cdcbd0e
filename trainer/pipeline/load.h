/* How the trainer's time goes while it trains: busy, idle because nothing is offered, or stalled. Stalled is
 * idle while work was offered: a READY message waits (for its gang, or for the trainer to wake up), or a
 * request waits because no slot is free. One thread writes; sl_load_read is for any. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sl_load_times {
    uint64_t busy_ns, stall_ns, idle_ns; /* their sum: the training time accounted for */
};

struct sl_load {
    struct sl_load_times times;
    uint64_t mark_ns; /* up to where time is accounted for; 0: not training */
    bool offered;     /* at that moment */
};

/* Training goes on, or stops, from now. */
void sl_load_begin(struct sl_load *, uint64_t now_ns);
void sl_load_end(struct sl_load *, uint64_t now_ns);
/* Idle since the last call. `since_ns`: when the oldest message that was found only now became READY;
 * UINT64_MAX: none was. `offered`: work waits now. */
void sl_load_idle(struct sl_load *, uint64_t since_ns, bool offered, uint64_t now_ns);
/* Busy since the last call. */
void sl_load_busy(struct sl_load *, bool offered, uint64_t now_ns);
void sl_load_read(const struct sl_load *, struct sl_load_times *);
