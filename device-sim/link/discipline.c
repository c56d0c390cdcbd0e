#include "device-sim/link/discipline.h"

#include "trainer/tensor/rng.h"

#include <errno.h>

const char *sl_discipline_name(enum sl_discipline_kind k)
{
    static const char *const names[SL_DISCIPLINE_COUNT] = {"droptail", "codel", "pie", "none"};
    return k < SL_DISCIPLINE_COUNT ? names[k] : "unknown";
}

static uint64_t or_default(uint64_t v, uint64_t otherwise)
{
    return v != 0 ? v : otherwise;
}

int sl_discipline_init(struct sl_discipline *d, const struct sl_discipline_params *p, uint64_t key)
{
    *d = (struct sl_discipline){.kind = p->kind, .packets = p->packets, .bytes = p->bytes};
    if (p->kind >= SL_DISCIPLINE_COUNT)
        return -EINVAL;
    if (p->kind == SL_DISCIPLINE_NONE) {
        d->packets = 0;
        d->bytes = 0;
        return 0;
    }
    if (p->packets == 0 && p->bytes == 0)
        return -EINVAL;
    if (p->kind == SL_DISCIPLINE_CODEL) {
        uint64_t target = or_default(p->target_ns, SL_CODEL_TARGET_NS);
        uint64_t interval = or_default(p->interval_ns, SL_CODEL_INTERVAL_NS);
        if (interval < target)
            return -EINVAL;
        sl_codel_init(&d->codel, target, interval);
    } else if (p->kind == SL_DISCIPLINE_PIE) {
        sl_pie_init(&d->pie, or_default(p->target_ns, SL_PIE_TARGET_NS), sl_rng_key(key, "pie"));
    }
    return 0;
}

static bool is_full(
    const struct sl_discipline *d, uint64_t queued_bytes, uint32_t queued_packets, uint32_t bytes)
{
    if (queued_packets == 0)
        return false;
    return (d->bytes != 0 && queued_bytes + bytes > d->bytes) ||
           (d->packets != 0 && queued_packets + 1 > d->packets);
}

enum sl_admission sl_discipline_admit(
    struct sl_discipline *d, uint64_t queued_bytes, uint32_t queued_packets, uint32_t bytes, uint64_t now_ns)
{
    bool full = is_full(d, queued_bytes, queued_packets, bytes);

    if (d->kind != SL_DISCIPLINE_PIE)
        return full ? SL_ADMIT_FULL : SL_ADMIT;
    if (full) {
        sl_pie_full(&d->pie, now_ns);
        return SL_ADMIT_FULL;
    }
    return sl_pie_drops(&d->pie, queued_bytes, now_ns) ? SL_ADMIT_EARLY : SL_ADMIT;
}

bool sl_discipline_drops_head(
    struct sl_discipline *d, uint64_t sojourn_ns, uint64_t left_bytes, uint64_t now_ns)
{
    if (d->kind == SL_DISCIPLINE_CODEL)
        return sl_codel_drops(&d->codel, sojourn_ns, left_bytes, now_ns);
    if (d->kind == SL_DISCIPLINE_PIE)
        sl_pie_served(&d->pie, sojourn_ns, left_bytes, now_ns);
    return false;
}
