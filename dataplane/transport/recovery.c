#include "dataplane/transport/recovery.h"

#include "dataplane/transport/ack.h"

#include <string.h>

static uint64_t max64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t min64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

void sl_rtt_init(struct sl_rtt *r, uint64_t initial_ns)
{
    *r = (struct sl_rtt){.smoothed_ns = initial_ns, .var_ns = initial_ns / 2};
}

void sl_rtt_sample(struct sl_rtt *r, uint64_t latest_ns, uint64_t ack_delay_ns, uint64_t max_ack_delay_ns)
{
    r->latest_ns = latest_ns;
    if (!r->sampled) {
        r->sampled = true;
        r->min_ns = latest_ns;
        r->smoothed_ns = latest_ns;
        r->var_ns = latest_ns / 2;
        return;
    }
    r->min_ns = min64(r->min_ns, latest_ns);
    uint64_t adjusted = latest_ns, delay = min64(ack_delay_ns, max_ack_delay_ns);
    if (latest_ns >= r->min_ns + delay)
        adjusted -= delay;
    uint64_t off = r->smoothed_ns > adjusted ? r->smoothed_ns - adjusted : adjusted - r->smoothed_ns;
    r->var_ns = (3 * r->var_ns + off) / 4;
    r->smoothed_ns = (7 * r->smoothed_ns + adjusted) / 8;
}

void sl_recovery_init(struct sl_recovery *r, uint64_t initial_rtt_ns)
{
    memset(r, 0, sizeof(*r));
    r->loss_ns = UINT64_MAX;
    sl_rtt_init(&r->rtt, initial_rtt_ns);
}

struct sl_sent *sl_recovery_push(struct sl_recovery *r, uint64_t pn, uint16_t bytes, uint64_t now_ns)
{
    struct sl_sent *s = &r->ring[r->tail++ & r->mask];
    s->time_ns = now_ns;
    s->pn = pn;
    s->bytes = bytes;
    s->settled = 0;
    r->in_flight++;
    r->last_sent_ns = now_ns;
    return s;
}

static void retire_settled(struct sl_recovery *r)
{
    while (r->head != r->tail && r->ring[r->head & r->mask].settled)
        r->head++;
}

static void give_up(struct sl_recovery *r, struct sl_sent *s, struct sl_recovery_result *out,
    const struct sl_recovery_ops *ops, void *owner)
{
    s->settled = 1;
    r->in_flight--;
    out->lost_packets++;
    out->lost_bytes += s->bytes;
    out->lost_last_sent_ns = s->time_ns;
    ops->lost(owner, s);
}

/* DetectAndRemoveLostPackets of RFC 9002 A.10. */
static void detect_lost(struct sl_recovery *r, uint64_t now_ns, struct sl_recovery_result *out,
    const struct sl_recovery_ops *ops, void *owner)
{
    uint64_t basis = max64(r->rtt.latest_ns, r->rtt.smoothed_ns);
    uint64_t delay = max64(basis + basis / 8, SL_GRANULARITY_NS);
    r->loss_ns = UINT64_MAX;
    for (uint32_t i = r->head; i != r->tail; i++) {
        struct sl_sent *s = &r->ring[i & r->mask];
        if (s->pn + 1 >= r->next_above_acked)
            break;
        if (s->settled)
            continue;
        if (s->pn + SL_PACKET_THRESHOLD < r->next_above_acked || s->time_ns + delay <= now_ns)
            give_up(r, s, out, ops, owner);
        else
            r->loss_ns = min64(r->loss_ns, s->time_ns + delay);
    }
    retire_settled(r);
}

struct sl_recovery_result sl_recovery_on_ack(struct sl_recovery *r, const struct sl_ack *ack, uint64_t now_ns,
    const struct sl_recovery_ops *ops, void *owner)
{
    struct sl_recovery_result out = {0};
    uint64_t largest = ack->range[0].last;
    uint64_t sample = UINT64_MAX;
    unsigned range =
        ack->n_ranges; /* from the lowest up, as the records go; ack->range[range - 1] is at hand */
    for (uint32_t i = r->head; i != r->tail; i++) {
        struct sl_sent *s = &r->ring[i & r->mask];
        if (s->pn > largest)
            break;
        while (ack->range[range - 1].last < s->pn)
            range--; /* stops at the first range: largest >= s->pn */
        if (s->settled || s->pn < ack->range[range - 1].first)
            continue;
        s->settled = 1;
        r->in_flight--;
        out.acked_packets++;
        out.acked_bytes += s->bytes;
        if (s->pn == largest)
            sample = now_ns - s->time_ns;
        ops->acked(owner, s);
    }
    if (largest + 1 > r->next_above_acked)
        r->next_above_acked = largest + 1;
    if (sample != UINT64_MAX)
        sl_rtt_sample(&r->rtt, sample, UINT64_C(1000) * ack->delay_us, SL_MAX_ACK_DELAY_NS);
    if (out.acked_packets != 0)
        r->pto_count = 0;
    detect_lost(r, now_ns, &out, ops, owner);
    return out;
}

struct sl_recovery_result sl_recovery_on_loss_timer(
    struct sl_recovery *r, uint64_t now_ns, const struct sl_recovery_ops *ops, void *owner)
{
    struct sl_recovery_result out = {0};
    detect_lost(r, now_ns, &out, ops, owner);
    return out;
}

struct sl_recovery_result sl_recovery_drop_oldest(
    struct sl_recovery *r, const struct sl_recovery_ops *ops, void *owner)
{
    struct sl_recovery_result out = {0};
    give_up(r, &r->ring[r->head & r->mask], &out, ops, owner); /* the head is never settled */
    retire_settled(r);
    return out;
}

uint64_t sl_recovery_base_pto_ns(const struct sl_recovery *r)
{
    return r->rtt.smoothed_ns + max64(4 * r->rtt.var_ns, SL_GRANULARITY_NS) + SL_MAX_ACK_DELAY_NS;
}

uint64_t sl_recovery_pto_ns(const struct sl_recovery *r)
{
    uint64_t pto = sl_recovery_base_pto_ns(r);
    unsigned shift = r->pto_count < 16 ? r->pto_count : 16;
    return min64(min64(pto, SL_PTO_MAX_NS) << shift, SL_PTO_MAX_NS);
}

uint64_t sl_recovery_deadline_ns(const struct sl_recovery *r)
{
    if (r->in_flight == 0)
        return UINT64_MAX;
    return r->loss_ns != UINT64_MAX ? r->loss_ns : r->last_sent_ns + sl_recovery_pto_ns(r);
}
