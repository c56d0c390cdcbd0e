#include "trainer/pipeline/load.h"

/* One writer, readers on other threads. */
static void add(uint64_t *counter, uint64_t ns)
{
    __atomic_store_n(counter, *counter + ns, __ATOMIC_RELAXED);
}

void sl_load_begin(struct sl_load *l, uint64_t now_ns)
{
    l->mark_ns = now_ns;
    l->offered = false;
}

void sl_load_end(struct sl_load *l, uint64_t now_ns)
{
    sl_load_idle(l, UINT64_MAX, false, now_ns);
    l->mark_ns = 0;
}

void sl_load_idle(struct sl_load *l, uint64_t since_ns, bool offered, uint64_t now_ns)
{
    if (!l->mark_ns || now_ns < l->mark_ns)
        return;
    uint64_t ns = now_ns - l->mark_ns, stalled = 0;
    if (l->offered || since_ns <= l->mark_ns)
        stalled = ns;
    else if (since_ns < now_ns)
        stalled = now_ns - since_ns;
    add(&l->times.stall_ns, stalled);
    add(&l->times.idle_ns, ns - stalled);
    l->mark_ns = now_ns;
    l->offered = offered;
}

void sl_load_busy(struct sl_load *l, bool offered, uint64_t now_ns)
{
    if (!l->mark_ns || now_ns < l->mark_ns)
        return;
    add(&l->times.busy_ns, now_ns - l->mark_ns);
    l->mark_ns = now_ns;
    l->offered = offered;
}

void sl_load_read(const struct sl_load *l, struct sl_load_times *out)
{
    out->busy_ns = __atomic_load_n(&l->times.busy_ns, __ATOMIC_RELAXED);
    out->stall_ns = __atomic_load_n(&l->times.stall_ns, __ATOMIC_RELAXED);
    out->idle_ns = __atomic_load_n(&l->times.idle_ns, __ATOMIC_RELAXED);
}
