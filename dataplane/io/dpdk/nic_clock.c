#include "dataplane/io/dpdk/nic_clock.h"

enum { READ_WITHIN_NS = 50000 };
/* The error of a reading, at most half of 50 us, over this long: 25 parts in a million. */
#define BASE_NS UINT64_C(1000000000)

void sl_nic_clock_read(struct sl_nic_clock *c, uint64_t ticks, uint64_t before_ns, uint64_t after_ns)
{
    if (after_ns - before_ns > READ_WITHIN_NS)
        return;
    uint64_t ns = before_ns + (after_ns - before_ns) / 2;
    uint64_t held = c->n < SL_NIC_CLOCK_READINGS ? c->n : SL_NIC_CLOCK_READINGS;
    for (uint64_t i = held; i > 0; i--) { /* the oldest first */
        uint64_t at = (c->n - i) % SL_NIC_CLOCK_READINGS, passed = ns - c->reading[at].ns;
        if (passed < BASE_NS)
            break;
        uint64_t counted = ticks - c->reading[at].ticks;
        if ((int64_t)counted <= 0) { /* the counter was set back: what came before says nothing */
            c->n = 0;
            __atomic_store_n(&c->current, 0, __ATOMIC_RELEASE);
            break;
        }
        /* The line that nobody reads: it was replaced a reading ago. */
        uint32_t next = __atomic_load_n(&c->current, __ATOMIC_RELAXED) == 1 ? 1 : 0;
        c->line[next] =
            (struct sl_nic_line){.ticks0 = ticks, .ns0 = ns, .ns_per_tick = (double)passed / (double)counted};
        __atomic_store_n(&c->current, next + 1, __ATOMIC_RELEASE);
        break;
    }
    c->reading[c->n % SL_NIC_CLOCK_READINGS].ticks = ticks;
    c->reading[c->n++ % SL_NIC_CLOCK_READINGS].ns = ns;
}
