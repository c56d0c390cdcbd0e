#include "dataplane/transport/timing_wheel.h"

#include <string.h>

enum { DIGIT_BITS = 6, DIGIT_MASK = SL_WHEEL_SLOTS - 1 };

void sl_wheel_init(struct sl_wheel *w, struct sl_wheel_timer *timers)
{
    memset(w, 0, sizeof(*w));
    w->timers = timers;
    for (unsigned i = 0; i < SL_WHEEL_LEVELS * SL_WHEEL_SLOTS; i++)
        w->head[i] = SL_WHEEL_NONE;
}

static void insert(struct sl_wheel *w, uint32_t index)
{
    struct sl_wheel_timer *t = &w->timers[index];
    uint64_t differ = t->tick ^ w->tick;
    unsigned level = differ == 0 ? 0 : (63u - (unsigned)__builtin_clzll(differ)) / DIGIT_BITS;
    unsigned digit = (unsigned)(t->tick >> level * DIGIT_BITS) & DIGIT_MASK;
    unsigned slot = level * SL_WHEEL_SLOTS + digit;
    t->slot = (uint16_t)(slot + 1);
    t->prev = SL_WHEEL_NONE;
    t->next = w->head[slot];
    if (t->next != SL_WHEEL_NONE)
        w->timers[t->next].prev = index;
    w->head[slot] = index;
    w->occupied[level] |= UINT64_C(1) << digit;
}

static void take_out(struct sl_wheel *w, uint32_t index)
{
    struct sl_wheel_timer *t = &w->timers[index];
    unsigned slot = t->slot - 1u;
    if (t->prev != SL_WHEEL_NONE)
        w->timers[t->prev].next = t->next;
    else
        w->head[slot] = t->next;
    if (t->next != SL_WHEEL_NONE)
        w->timers[t->next].prev = t->prev;
    if (w->head[slot] == SL_WHEEL_NONE)
        w->occupied[slot / SL_WHEEL_SLOTS] &= ~(UINT64_C(1) << (slot & DIGIT_MASK));
    t->slot = 0;
}

void sl_wheel_arm(struct sl_wheel *w, uint32_t index, uint64_t deadline_ns, uint64_t now_ns)
{
    struct sl_wheel_timer *t = &w->timers[index];
    if (t->slot != 0)
        sl_wheel_cancel(w, index);
    if (w->n_armed == 0 && now_ns >> SL_WHEEL_TICK_SHIFT > w->tick)
        w->tick = now_ns >> SL_WHEEL_TICK_SHIFT;
    t->tick = (deadline_ns >> SL_WHEEL_TICK_SHIFT) + 1; /* up: never early */
    if (t->tick < w->tick)
        t->tick = w->tick;
    insert(w, index);
    w->n_armed++;
}

void sl_wheel_cancel(struct sl_wheel *w, uint32_t index)
{
    if (w->timers[index].slot == 0)
        return;
    take_out(w, index);
    w->n_armed--;
}

/* The earliest occupied slot: the first at the lowest level that has any. Returns it, with its level and
 * first tick. */
static bool earliest(const struct sl_wheel *w, unsigned *level, unsigned *digit, uint64_t *tick)
{
    for (unsigned l = 0; l < SL_WHEEL_LEVELS; l++) {
        if (w->occupied[l] == 0)
            continue;
        unsigned shift = l * DIGIT_BITS;
        *level = l;
        *digit = (unsigned)__builtin_ctzll(w->occupied[l]); /* none lies behind the present one */
        *tick = (w->tick >> shift >> DIGIT_BITS << DIGIT_BITS | *digit) << shift;
        return true;
    }
    return false;
}

uint32_t sl_wheel_pop(struct sl_wheel *w, uint64_t now_ns)
{
    uint64_t now = now_ns >> SL_WHEEL_TICK_SHIFT, tick;
    unsigned level, digit;
    while (earliest(w, &level, &digit, &tick) && tick <= now) {
        const uint32_t *head = &w->head[level * SL_WHEEL_SLOTS + digit];
        uint32_t index;
        w->tick = tick;
        if (level == 0) {
            index = *head;
            take_out(w, index);
            w->n_armed--;
            return index;
        }
        while ((index = *head) != SL_WHEEL_NONE) { /* all come down: their ticks now agree in this digit */
            take_out(w, index);
            insert(w, index);
        }
    }
    if (now > w->tick)
        w->tick = now;
    return SL_WHEEL_NONE;
}

uint64_t sl_wheel_next_ns(const struct sl_wheel *w)
{
    unsigned level, digit;
    uint64_t tick;
    return earliest(w, &level, &digit, &tick) ? tick << SL_WHEEL_TICK_SHIFT : UINT64_MAX;
}
