/* Where a packet's units go: claims before the open, marks after the tag (rules T1, T3, T4, T5). Nothing here
 * divides, allocates or looks beyond the session's last grants. */
#include "dataplane/ingest/ingest_internal.h"

#include <string.h>

/* ---- ranges of bits ---- */

/* The bits of word `word` that lie in [first, first + n). */
static inline uint64_t mask_of(uint32_t word, uint32_t first, uint32_t n)
{
    uint32_t end = first + n, base = word * 64;
    uint64_t mask = UINT64_MAX;
    if (first > base)
        mask <<= first - base;
    if (end < base + 64)
        mask &= UINT64_MAX >> (base + 64 - end);
    return mask;
}

static inline bool any_set(const uint64_t *bits, uint32_t first, uint32_t n)
{
    uint64_t any = 0;
    for (uint32_t w = first >> 6; w <= (first + n - 1) >> 6; w++)
        any |= bits[w] & mask_of(w, first, n);
    return any != 0;
}

static inline bool all_set(const uint64_t *bits, uint32_t first, uint32_t n)
{
    uint64_t lacking = 0;
    for (uint32_t w = first >> 6; w <= (first + n - 1) >> 6; w++)
        lacking |= ~bits[w] & mask_of(w, first, n);
    return lacking == 0;
}

/* Returns how many were not set before. */
static inline uint32_t set(uint64_t *bits, uint32_t first, uint32_t n)
{
    uint32_t fresh = 0;
    for (uint32_t w = first >> 6; w <= (first + n - 1) >> 6; w++) {
        uint64_t mask = mask_of(w, first, n);
        fresh += (uint32_t)__builtin_popcountll(mask & ~bits[w]);
        bits[w] |= mask;
    }
    return fresh;
}

static inline void clear(uint64_t *bits, uint32_t first, uint32_t n)
{
    for (uint32_t w = first >> 6; w <= (first + n - 1) >> 6; w++)
        bits[w] &= ~mask_of(w, first, n);
}

/* ---- place ---- */

static inline bool fits_grid(
    uint32_t unit0, uint32_t n, uint32_t n_units, uint16_t fragment, uint64_t divisor)
{
    if (unit0 >= n_units || !sl_grid_divides(divisor, unit0))
        return false;
    uint32_t rest = n_units - unit0;
    return n == (rest < fragment ? rest : fragment);
}

/* The grid is the grant's; after a change of the session's fragment size its new one is as good (rules T5).
 */
static inline bool on_grid(
    const struct sl_ingest_session *s, const struct sl_grant_record *g, const struct sl_rx *rx)
{
    return fits_grid(rx->unit0, rx->n_units, g->n_units, g->fragment_units, g->divisor) ||
           (s->fragment_units != g->fragment_units &&
               fits_grid(rx->unit0, rx->n_units, g->n_units, s->fragment_units, s->divisor));
}

static inline void refuse(struct sl_rx *rx, enum sl_drop why)
{
    rx->how = SL_REFUSE;
    rx->reason = (uint8_t)why;
}

static inline void place_one(struct sl_ingest *in, struct sl_rx *rx)
{
    const struct sl_ingest_session *s = rx->session < in->max_sessions ? &in->sessions[rx->session] : NULL;
    if (s == NULL || !s->open || rx->grant == 0 || rx->grant > s->last_grant) {
        refuse(rx, SL_DROP_NO_GRANT);
        return;
    }
    const struct sl_grant_record *g = &s->ring[rx->grant & SL_GRANT_RING_MASK];
    if (g->index == rx->grant && !on_grid(s, g, rx)) {
        refuse(rx, SL_DROP_OFF_GRID);
        return;
    }
    struct sl_slot_entry *e = g->entry;
    if (g->index != rx->grant || g->state != SL_GRANT_OPEN || all_set(e->have, rx->unit0, rx->n_units)) {
        rx->how = SL_SCRATCH;
        return;
    }
    bool overlaps = any_set(e->have, rx->unit0, rx->n_units);
    if (any_set(e->claimed, rx->unit0, rx->n_units) || (overlaps && in->overlap_busy)) {
        rx->how = SL_DEFER;
        return;
    }
    in->overlap_busy |= overlaps;
    set(e->claimed, rx->unit0, rx->n_units);
    rx->how = SL_PLACE;
    rx->dst = overlaps ? in->overlap : e->slot.data + (size_t)rx->unit0 * SL_UNIT_BYTES;
}

void sl_ingest_place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    struct sl_ingest *in = sink;
    for (unsigned i = 0; i < n; i++)
        if (rx[i]->session < in->max_sessions)
            __builtin_prefetch(&in->sessions[rx[i]->session].ring[rx[i]->grant & SL_GRANT_RING_MASK]);
    for (unsigned i = 0; i < n; i++)
        place_one(in, rx[i]);
}

/* ---- commit ---- */

void sl_ingest_push_backlog(struct sl_ingest *in)
{
    const uint32_t n_slots = sl_slots_count(in->slots);
    while (
        in->backlog_n != 0 && sl_ring_spsc_push(in->config.ready, &in->backlog[in->backlog_head], 1) == 1) {
        in->backlog_head = in->backlog_head + 1 == n_slots ? 0 : in->backlog_head + 1;
        in->backlog_n--;
    }
}

/* The last unit came. From the push on the slot is the trainer's; where the ring is full it waits its turn
 * here. */
static void complete(struct sl_ingest *in, struct sl_grant_record *g)
{
    struct sl_slot_entry *e = g->entry;
    const uint32_t handle = e->slot.handle, n_slots = sl_slots_count(in->slots);
    g->state = SL_GRANT_READY;
    TAILQ_REMOVE(&in->expiring, e, link);
    e->slot.state = SL_SLOT_READY;
    e->slot.ready_ns = in->now_ns;
    e->with_trainer = true;
    SL_COUNT(in->stats.grants_outstanding, (uint64_t)-1);
    SL_COUNT(in->stats.ready, 1);
    SL_COUNT(in->stats.with_trainer, 1);
    if (in->backlog_n == 0 && sl_ring_spsc_push(in->config.ready, &handle, 1) == 1)
        return;
    uint32_t at = in->backlog_head + in->backlog_n++;
    in->backlog[at < n_slots ? at : at - n_slots] = handle;
}

/* Only what is missing is copied from a packet that overlaps what is there (rules T5). */
static void copy_missing(struct sl_ingest *in, const struct sl_slot_entry *e, uint32_t unit0, uint32_t n)
{
    for (uint32_t u = 0; u < n; u++) {
        size_t at = (size_t)u * SL_UNIT_BYTES, unit = (size_t)unit0 + u;
        if (!(e->have[unit >> 6] >> (unit & 63) & 1))
            memcpy(e->slot.data + unit * SL_UNIT_BYTES, in->overlap + at, SL_UNIT_BYTES);
    }
}

static inline void commit_placed(struct sl_ingest *in, const struct sl_rx *rx, bool ok)
{
    struct sl_grant_record *g = &in->sessions[rx->session].ring[rx->grant & SL_GRANT_RING_MASK];
    struct sl_slot_entry *e = g->entry;
    bool overlaps = rx->dst == in->overlap;
    clear(e->claimed, rx->unit0, rx->n_units);
    if (overlaps)
        in->overlap_busy = false;
    if (!ok) {
        SL_COUNT(in->stats.units_released, rx->n_units);
        return;
    }
    if (overlaps)
        copy_missing(in, e, rx->unit0, rx->n_units);
    if (e->slot.state == SL_SLOT_GRANTED) {
        e->slot.state = SL_SLOT_FILLING;
        e->slot.first_ns = in->now_ns;
    }
    uint32_t fresh = set(e->have, rx->unit0, rx->n_units);
    e->missing -= fresh;
    e->progress_ns = in->now_ns;
    SL_COUNT(in->stats.units_placed, fresh);
    SL_COUNT(in->stats.units_scratch, rx->n_units - fresh);
    if (e->missing == 0)
        complete(in, g);
}

/* A device that sends a message that was given up has not understood: STEP_LOST can overtake its GRANT. */
static inline void commit_scratch(struct sl_ingest *in, const struct sl_rx *rx)
{
    SL_COUNT(in->stats.units_scratch, rx->n_units);
    struct sl_grant_record *g = sl_ingest_grant(in, rx->session, rx->grant);
    if (g != NULL && g->state == SL_GRANT_LOST && g->lost_reason != 0)
        sl_ingest_owe(in, g, SL_OWES_LOST_AGAIN);
}

void sl_ingest_commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok_mask)
{
    struct sl_ingest *in = sink;
    for (unsigned i = 0; i < n; i++) {
        bool ok = ok_mask >> i & 1;
        if (rx[i]->how == SL_PLACE)
            commit_placed(in, rx[i], ok);
        else if (ok)
            commit_scratch(in, rx[i]);
    }
}
