/* Deadlines of many timers, one per index: a hierarchical timing wheel (Varghese and Lauck, 1987). Arming and
 * cancelling take constant time, finding the next deadline one look per level; no operation walks the timers.
 *
 * A level has 64 slots and a word that says which are occupied. A timer lies at the level of the highest
 * 6-bit digit in which its tick differs from the present one, so all at a level come later than all at the
 * levels below, and each comes down a level when its slot is reached. Eight levels hold every 64-bit time, so
 * nothing ever wraps. A timer fires late by less than a tick, never early. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    SL_WHEEL_TICK_SHIFT = 16, /* 65.5 us: a fifteenth of RFC 9002's granularity of 1 ms */
    SL_WHEEL_LEVELS = 8,
    SL_WHEEL_SLOTS = 64,
};
#define SL_WHEEL_NONE UINT32_MAX

struct sl_wheel_timer {
    uint64_t tick;
    uint32_t prev, next; /* SL_WHEEL_NONE ends the list */
    uint16_t slot;       /* level * 64 + slot + 1; 0: not armed */
};
struct sl_wheel {
    struct sl_wheel_timer *timers; /* the caller's memory, zeroed */
    uint64_t tick;                 /* the present */
    uint64_t occupied[SL_WHEEL_LEVELS];
    uint32_t head[SL_WHEEL_LEVELS * SL_WHEEL_SLOTS];
    uint32_t n_armed;
};

void sl_wheel_init(struct sl_wheel *, struct sl_wheel_timer *timers);
/* Sets or moves timer `index`. */
void sl_wheel_arm(struct sl_wheel *, uint32_t index, uint64_t deadline_ns, uint64_t now_ns);
void sl_wheel_cancel(struct sl_wheel *, uint32_t index);
/* Takes one timer that is due, or SL_WHEEL_NONE. */
uint32_t sl_wheel_pop(struct sl_wheel *, uint64_t now_ns);
/* When sl_wheel_pop should next be called: never later than the first deadline's tick; UINT64_MAX: nothing
 * armed. */
uint64_t sl_wheel_next_ns(const struct sl_wheel *);

static inline bool sl_wheel_armed(const struct sl_wheel *w, uint32_t index)
{
    return w->timers[index].slot != 0;
}
