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

/* A range of at most 64 units lies in one word or two; without a branch on which, because that follows no
 * pattern that a CPU would learn. */
struct span {
    struct sl_slot_bits *low, *high;
    uint64_t low_mask, high_mask; /* high_mask: 0 where one word holds all */
};

static inline struct span span_of(struct sl_slot_bits *bits, uint32_t first, uint32_t n)
{
    const uint64_t ones = UINT64_MAX >> (64 - n);
    const uint32_t at = first & 63;
    return (struct span){.low = &bits[first >> 6],
        .high = &bits[(first + n - 1) >> 6],
        .low_mask = ones << at,
        .high_mask = ones >> 1 >> (63 - at)};
}

enum { HAVE_NONE = 0, HAVE_ANY = 1, HAVE_ALL = 2, CLAIMED = 4 };

static inline unsigned found(uint64_t have, uint64_t lacking, uint64_t claimed)
{
    return (have != 0 ? HAVE_ANY : 0) | (lacking == 0 ? HAVE_ALL : 0) | (claimed != 0 ? CLAIMED : 0);
}

/* What of [first, first + n) is there already, and whether any of it is claimed. */
static inline unsigned look(struct sl_slot_bits *bits, uint32_t first, uint32_t n)
{
    uint64_t have = 0, lacking = 0, claimed = 0;
    if (n <= 64) {
        const struct span s = span_of(bits, first, n);
        return found((s.low->have & s.low_mask) | (s.high->have & s.high_mask),
            (~s.low->have & s.low_mask) | (~s.high->have & s.high_mask),
            (s.low->claimed & s.low_mask) | (s.high->claimed & s.high_mask));
    }
    for (uint32_t w = first >> 6; w <= (first + n - 1) >> 6; w++) {
        uint64_t mask = mask_of(w, first, n);
        have |= bits[w].have & mask;
        lacking |= ~bits[w].have & mask;
        claimed |= bits[w].claimed & mask;
    }
    return found(have, lacking, claimed);
}

static inline void claim(struct sl_slot_bits *bits, uint32_t first, uint32_t n)
{
    if (n <= 64) {
        const struct span s = span_of(bits, first, n);
        s.low->claimed |= s.low_mask;
        s.high->claimed |= s.high_mask;
        return;
    }
    for (uint32_t w = first >> 6; w <= (first + n - 1) >> 6; w++)
        bits[w].claimed |= mask_of(w, first, n);
}

static inline void release(struct sl_slot_bits *bits, uint32_t first, uint32_t n)
{
    if (n <= 64) {
        const struct span s = span_of(bits, first, n);
        s.low->claimed &= ~s.low_mask;
        s.high->claimed &= ~s.high_mask;
        return;
    }
    for (uint32_t w = first >> 6; w <= (first + n - 1) >> 6; w++)
        bits[w].claimed &= ~mask_of(w, first, n);
}

/* One word's part of that. Returns how many had been received before. */
static inline uint32_t mark_word(struct sl_slot_bits *word, uint64_t mask)
{
    const uint64_t again = word->have & mask;
    word->have |= mask;
    word->claimed &= ~mask;
    return again == 0 ? 0 : (uint32_t)__builtin_popcountll(again);
}

/* From claimed to received. Returns how many had not been received before: all, but where packets overlap. */
static inline uint32_t mark(struct sl_slot_bits *bits, uint32_t first, uint32_t n)
{
    uint32_t again = 0;
    if (n <= 64) {
        const struct span s = span_of(bits, first, n);
        again = mark_word(s.low, s.low_mask);
        return n - again - mark_word(s.high, s.high_mask);
    }
    for (uint32_t w = first >> 6; w <= (first + n - 1) >> 6; w++)
        again += mark_word(&bits[w], mask_of(w, first, n));
    return n - again;
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
    const struct sl_ingest_session *s, const struct sl_slot_entry *e, const struct sl_rx *rx)
{
    return fits_grid(rx->unit0, rx->n_units, e->n_units, e->fragment_units, e->divisor) ||
           (s->fragment_units != e->fragment_units &&
               fits_grid(rx->unit0, rx->n_units, e->n_units, s->fragment_units, s->divisor));
}

static inline void refuse(struct sl_rx *rx, enum sl_drop why)
{
    rx->how = SL_REFUSE;
    rx->reason = (uint8_t)why;
}

static inline void place_one(struct sl_ingest *in, struct sl_rx *rx)
{
    const struct sl_ingest_session *s = sl_ingest_session(in, rx->session);
    if (s == NULL || rx->grant == 0 || rx->grant > s->last_grant) {
        refuse(rx, SL_DROP_NO_GRANT);
        return;
    }
    const enum sl_grant_state state = sl_grant_state(s, rx->grant);
    if (!sl_grant_has_slot(state)) { /* over: nothing of it is wanted, wherever it would lie */
        rx->how = SL_SCRATCH;
        return;
    }
    struct sl_slot_entry *e = sl_grant_entry(in, s, rx->grant);
    if (!on_grid(s, e, rx)) {
        refuse(rx, SL_DROP_OFF_GRID);
        return;
    }
    if (rx->coded != 0 && rx->unit0 + rx->n_units > e->plain_from) {
        refuse(rx, SL_DROP_BAD_CODING);
        return;
    }
    const unsigned there = look(e->bits, rx->unit0, rx->n_units);
    if (state != SL_GRANT_OPEN || there & HAVE_ALL) {
        rx->how = SL_SCRATCH;
        return;
    }
    const bool overlaps = there & HAVE_ANY && !in->coded;
    if (there & CLAIMED || (overlaps && in->overlap_busy)) {
        rx->how = SL_DEFER;
        return;
    }
    in->overlap_busy |= overlaps;
    claim(e->bits, rx->unit0, rx->n_units);
    rx->how = SL_PLACE;
    if (in->coded)
        rx->dst = in->scratch + (size_t)SL_SCRATCH_STRIDE * in->n_scratch++;
    else
        rx->dst = overlaps ? in->overlap : e->data + (size_t)rx->unit0 * SL_UNIT_BYTES;
}

/* The entry of a packet's slot, before anything of the packet was checked; NULL: it has none. */
static inline struct sl_slot_entry *likely_entry(const struct sl_ingest *in, const struct sl_rx *rx)
{
    if (rx->session >= in->max_sessions)
        return NULL;
    const struct sl_ingest_session *s = &in->sessions[rx->session];
    return sl_grant_has_slot((enum sl_grant_state)s->state[rx->grant & SL_GRANT_RING_MASK])
               ? sl_grant_entry(in, s, rx->grant)
               : NULL;
}

/* What a packet needs is three lines, each named by the one before: its session's, its slot's, its bits'.
 * Each is asked for over the whole burst before the next is looked at. */
static inline void prefetch(const struct sl_ingest *in, struct sl_rx *const *rx, unsigned n)
{
    const struct sl_slot_entry *e;
    uint8_t first[SL_INGEST_BURST]; /* packets whose session or grant is another than the one's before */
    unsigned m = 0;
    for (unsigned i = 0; i < n; i++) {
        if (i != 0 && rx[i]->session == rx[i - 1]->session && rx[i]->grant == rx[i - 1]->grant)
            continue;
        first[m++] = (uint8_t)i;
        if (rx[i]->session < in->max_sessions)
            __builtin_prefetch(&in->sessions[rx[i]->session]);
    }
    for (unsigned k = 0; k < m; k++)
        if ((e = likely_entry(in, rx[first[k]])) != NULL)
            __builtin_prefetch(e, 1);
    for (unsigned k = 0; k < m; k++)
        if ((e = likely_entry(in, rx[first[k]])) != NULL && rx[first[k]]->unit0 < e->n_units)
            __builtin_prefetch(&e->bits[rx[first[k]]->unit0 >> 6], 1);
}

void sl_ingest_place(void *sink, struct sl_rx *const *rx, unsigned n)
{
    struct sl_ingest *in = sink;
    in->n_scratch = 0;
    prefetch(in, rx, n);
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
static void complete(struct sl_ingest *in, struct sl_slot_entry *e)
{
    const uint32_t handle = e->slot.handle, n_slots = sl_slots_count(in->slots);
    struct sl_ingest_session *s = &in->sessions[e->session];
    sl_grant_set(s, e->grant, SL_GRANT_READY);
    sl_grant_record(s, e->grant)->owes &= (uint8_t)~SL_OWES_GRANT; /* who has sent all of it knows */
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
        if (!sl_slot_has(e, (uint32_t)unit))
            memcpy(e->data + unit * SL_UNIT_BYTES, in->overlap + at, SL_UNIT_BYTES);
    }
}

/* Units of a burst, until they are counted. */
struct tally {
    uint32_t placed, scratch, released, expanded;
};

static inline void commit_placed(struct sl_ingest *in, struct sl_rx *rx, bool ok, struct tally *t)
{
    struct sl_slot_entry *e = sl_grant_entry(in, &in->sessions[rx->session], rx->grant);
    const bool overlaps = rx->dst == in->overlap;
    if (overlaps)
        in->overlap_busy = false;
    if (ok && in->coded &&
        !sl_ingest_take_coded(in, e, rx, look(e->bits, rx->unit0, rx->n_units) & HAVE_ANY)) {
        rx->how = SL_REFUSE;
        ok = false;
    }
    if (!ok) {
        release(e->bits, rx->unit0, rx->n_units);
        t->released += rx->n_units;
        return;
    }
    if (overlaps)
        copy_missing(in, e, rx->unit0, rx->n_units);
    if (e->missing == e->n_units) {
        e->slot.state = SL_SLOT_FILLING;
        e->slot.first_ns = in->now_ns;
    }
    const uint32_t fresh = mark(e->bits, rx->unit0, rx->n_units);
    e->missing -= fresh;
    e->progress_ns = in->now_ns;
    t->placed += fresh;
    t->expanded += rx->coded != 0;
    t->scratch += rx->n_units - fresh;
    if (e->missing == 0)
        complete(in, e);
}

/* A device that sends a message that was given up has not understood: STEP_LOST can overtake its GRANT. */
static inline void commit_scratch(struct sl_ingest *in, const struct sl_rx *rx, struct tally *t)
{
    t->scratch += rx->n_units;
    struct sl_ingest_session *s = sl_ingest_session(in, rx->session);
    if (s != NULL && sl_grant_state(s, rx->grant) == SL_GRANT_LOST &&
        sl_grant_record(s, rx->grant)->lost_reason != 0)
        sl_ingest_owe(in, s, rx->grant, SL_OWES_LOST_AGAIN);
}

void sl_ingest_commit(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok_mask)
{
    struct sl_ingest *in = sink;
    struct tally t = {0};
    for (unsigned i = 0; i < n; i++) {
        const bool ok = ok_mask >> i & 1;
        if (rx[i]->how == SL_PLACE)
            commit_placed(in, rx[i], ok, &t);
        else if (ok)
            commit_scratch(in, rx[i], &t);
    }
    SL_COUNT(in->stats.units_placed, t.placed);
    SL_COUNT(in->stats.units_scratch, t.scratch);
    SL_COUNT(in->stats.units_released, t.released);
    SL_COUNT(in->stats.fragments_expanded, t.expanded);
}
