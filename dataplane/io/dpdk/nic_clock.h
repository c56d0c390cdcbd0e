/* A NIC's clock in terms of ours, for packets that carry the time at which they reached the wire's end.
 *
 * Some ports (mlx5, for one) stamp received packets with a counter of their own. One thread reads that
 * counter beside CLOCK_MONOTONIC now and then; a straight line through the newest reading and one at least a
 * second older translates. The queues' threads only multiply. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { SL_NIC_CLOCK_READINGS = 32 };

struct sl_nic_line { /* ns = ns0 + (ticks - ticks0) * ns_per_tick */
    uint64_t ticks0, ns0;
    double ns_per_tick;
};
struct sl_nic_clock {
    struct sl_nic_line line[2];
    uint32_t current; /* atomic: 0: none yet, else the line's index + 1 */
    uint64_t n;       /* readings; the reading thread's, as what follows */
    struct {
        uint64_t ticks, ns;
    } reading[SL_NIC_CLOCK_READINGS];
};

/* The reading thread, a few times a second: the counter, and our clock before and after it was read. A
 * reading that took longer than 50 us is left out. */
void sl_nic_clock_read(struct sl_nic_clock *, uint64_t ticks, uint64_t before_ns, uint64_t after_ns);

/* Any thread: when the counter was at `ticks`; 0 while that is not known. */
static inline uint64_t sl_nic_clock_ns(const struct sl_nic_clock *c, uint64_t ticks)
{
    uint32_t current = __atomic_load_n(&c->current, __ATOMIC_ACQUIRE);
    if (current == 0)
        return 0;
    const struct sl_nic_line *l = &c->line[current - 1];
    return l->ns0 + (uint64_t)(int64_t)((double)(int64_t)(ticks - l->ticks0) * l->ns_per_tick);
}
