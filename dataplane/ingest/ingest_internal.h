/* What the parts of ingestion share: sessions, their last grants, who waits, who is owed a frame. Private to
 * this folder. */
#pragma once

#include "dataplane/ingest/ingest.h"
#include "dataplane/ingest/share.h"
#include "dataplane/ingest/slot_table.h"

enum {
    SL_GRANT_RING =
        8, /* a session's last grants: what is older is finished, its packets are duplicates (rules T4) */
    SL_GRANT_RING_MASK = SL_GRANT_RING - 1,
    SL_WAITING_PER_SESSION = 4,
    SL_INGEST_BURST = 64, /* place() and commit() get no more packets at a time */
    SL_SCRATCH_STRIDE = (SL_DATAGRAM_MAX_BYTES + 63) / 64 * 64,
};

enum sl_grant_state {
    SL_GRANT_NONE,
    SL_GRANT_OPEN,    /* its slot is GRANTED or FILLING */
    SL_GRANT_READY,   /* on its way to the trainer, or there */
    SL_GRANT_SENDING, /* a gradient in the slot */
    SL_GRANT_PARKED,  /* a gradient outside it */
    SL_GRANT_DONE,    /* finished */
    SL_GRANT_LOST,    /* to be asked for again */
};

/* What is still to be said or begun; -ENOBUFS of the endpoint leaves it for the next turn. */
enum { SL_OWES_GRANT = 1, SL_OWES_LOST = 2, SL_OWES_RESULT = 4, SL_OWES_SEND = 8, SL_OWES_LOST_AGAIN = 16 };

/* One of a session's last grants: what is told of it, also when its slot is long another's. */
struct sl_grant_record {
    uint64_t step;
    union {
        uint64_t told_ns; /* LOST: when STEP_LOST was last queued */
        uint64_t global_step;
    };
    double nll;
    uint32_t tokens;
    uint8_t owes, lost_reason;
    uint8_t status : 2, flags : 1; /* of the RESULT */
    uint8_t unheard_of : 1;        /* lost before its GRANT was said */
};

/* A request that cannot be granted yet: one of a pool that all sessions share. */
struct sl_waiting {
    TAILQ_ENTRY(sl_waiting) link; /* free */
    TAILQ_ENTRY(sl_waiting) own;  /* among its session's */
    uint64_t tag, arrival;        /* what it waits by (queue.c) */
    uint32_t session, rows;
    uint32_t at; /* its place in the queue's memory */
    bool held;   /* out of the queue: its session has all the grants it may have */
    struct sl_request request;
};
TAILQ_HEAD(sl_waiting_list, sl_waiting);

struct sl_ingest_session {
    /* one cache line with what placing and marking a packet needs */
    uint64_t divisor; /* of fragment_units */
    uint64_t device;
    uint32_t last_grant;
    uint32_t epoch;          /* counts the sessions that have had this handle */
    uint16_t fragment_units; /* of what the device sends now */
    bool open;
    bool queued;                   /* among those that are owed something */
    uint8_t n_slots;               /* that this session holds */
    uint8_t n_waiting;             /* its requests that wait */
    uint8_t state[SL_GRANT_RING];  /* enum sl_grant_state, by index & SL_GRANT_RING_MASK */
    uint16_t where[SL_GRANT_RING]; /* OPEN, READY, SENDING: its slot; PARKED: its block */
    /* what a message needs a few times */
    TAILQ_ENTRY(sl_ingest_session) owing_link __attribute__((aligned(64)));
    struct sl_waiting_list waiting;
    uint64_t served; /* rows granted, as a tag (share.h) */
    struct sl_grant_record ring[SL_GRANT_RING];
} __attribute__((aligned(64)));
_Static_assert(offsetof(struct sl_ingest_session, owing_link) == 64, "what every packet needs is one line");

/* A gradient outside the arena: block i of `park` is that of parked[i]. */
struct sl_parked {
    uint32_t session, grant, units;
    TAILQ_ENTRY(sl_parked) link;
};

struct sl_ingest {
    struct sl_slots *slots;
    struct sl_slot_entry *entries; /* the slots', by index */
    struct sl_endpoint *endpoint;
    struct sl_ingest_session *sessions;
    uint64_t now_ns; /* of the last call that told */
    uint32_t max_sessions;
    bool overlap_busy, coded;
    uint8_t n_scratch; /* packets of this burst opened there */
    uint8_t *overlap;  /* one packet's plaintext: rules T5 */
    uint8_t *scratch;  /* with a coded codec: SL_SCRATCH_STRIDE for each packet of a burst */
    uint8_t *expanded; /* one packet's units */
    struct sl_ingest_config config;
    uint64_t park_after_ns;    /* written by any thread */
    struct sl_waiting **queue; /* a heap (queue.c) */
    uint32_t n_queue;
    uint64_t arrivals;
    struct sl_share share; /* of slots, in rows */
    struct sl_waiting_list waiting_free;
    uint32_t n_waiting_free, n_open, n_open_waiting; /* sessions; those of them with a request that waits */
    struct sl_slot_list expiring;                    /* GRANTED and FILLING by timer_ns */
    struct sl_slot_list sending;                     /* GRADIENT and SENDING by progress_ns */
    TAILQ_HEAD(sl_owing_list, sl_ingest_session) owing;
    TAILQ_HEAD(, sl_parked) parked; /* oldest first */
    struct sl_parked *park_block;
    uint8_t *park;
    uint16_t *park_free;
    uint32_t n_park, n_park_free;
    size_t park_mapped;
    uint32_t
        *backlog; /* READY handles that the ring had no room for: a circle of as many as there are slots */
    uint32_t backlog_head, backlog_n;
    struct sl_ingest_stats stats;
    size_t mapped_bytes, session_bytes;
};

/* Counters have one writer and readers on other threads. */
#define SL_COUNT(counter, by) __atomic_store_n(&(counter), (counter) + (by), __ATOMIC_RELAXED)

static inline struct sl_ingest_session *sl_ingest_session(struct sl_ingest *in, uint32_t session)
{
    return session < in->max_sessions && in->sessions[session].open ? &in->sessions[session] : NULL;
}
/* The state of one of a session's last grants; NONE of any other. */
static inline enum sl_grant_state sl_grant_state(const struct sl_ingest_session *s, uint32_t grant)
{
    return grant != 0 && s->last_grant - grant < SL_GRANT_RING
               ? (enum sl_grant_state)s->state[grant & SL_GRANT_RING_MASK]
               : SL_GRANT_NONE;
}
/* Those that have a slot. */
static inline bool sl_grant_has_slot(enum sl_grant_state state)
{
    return state >= SL_GRANT_OPEN && state <= SL_GRANT_SENDING;
}
static inline struct sl_slot_entry *sl_grant_entry(
    const struct sl_ingest *in, const struct sl_ingest_session *s, uint32_t grant)
{
    return &in->entries[s->where[grant & SL_GRANT_RING_MASK]];
}
static inline struct sl_grant_record *sl_grant_record(struct sl_ingest_session *s, uint32_t grant)
{
    return &s->ring[grant & SL_GRANT_RING_MASK];
}
static inline void sl_grant_set(struct sl_ingest_session *s, uint32_t grant, enum sl_grant_state state)
{
    s->state[grant & SL_GRANT_RING_MASK] = (uint8_t)state;
}

/* queue.c: q->queue[0] is next */
void sl_ingest_queue_add(struct sl_ingest *, struct sl_waiting *);
void sl_ingest_queue_remove(struct sl_ingest *, struct sl_waiting *);
/* request.c */
void sl_ingest_on_request(struct sl_ingest *, struct sl_ingest_session *, const struct sl_request *);
void sl_ingest_grant_waiting(struct sl_ingest *);
void sl_ingest_expire(struct sl_ingest *);
/* For how long a slot that is GRANTED or FILLING may be without a good fragment. */
uint64_t sl_ingest_patience(const struct sl_ingest *, const struct sl_slot_entry *);
/* Ends an OPEN one. */
void sl_ingest_end_grant(struct sl_ingest *, struct sl_ingest_session *, uint32_t grant, enum sl_grant_state);
void sl_ingest_drop_waiting(struct sl_ingest *, struct sl_ingest_session *);
void sl_ingest_unhold(struct sl_ingest *, struct sl_ingest_session *);
/* place.c */
void sl_ingest_place(void *, struct sl_rx *const *, unsigned n);
void sl_ingest_commit(void *, struct sl_rx *const *, unsigned n, uint64_t ok_mask);
void sl_ingest_push_backlog(struct sl_ingest *);
/* coded.c */
/* Decodes an authentic fragment, which lies at dst, into its slot; `overlaps`: only units that are missing.
 * Whether it made sense; if not, nothing was written. */
bool sl_ingest_take_coded(struct sl_ingest *, struct sl_slot_entry *, const struct sl_rx *, bool overlaps);
/* gradient.c */
const uint8_t *sl_ingest_source(void *, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n);
void sl_ingest_done(void *, uint32_t session, uint32_t grant, enum sl_done why);
void sl_ingest_take_returned(struct sl_ingest *);
void sl_ingest_park_late(struct sl_ingest *);
/* Now, or as soon as there is room. */
void sl_ingest_owe(struct sl_ingest *, struct sl_ingest_session *, uint32_t grant, uint8_t what);
void sl_ingest_pay(struct sl_ingest *);
void sl_ingest_tell_lost(struct sl_ingest *, struct sl_ingest_session *, uint32_t grant, enum sl_lost_reason);
void sl_ingest_release_gradient(
    struct sl_ingest *, struct sl_ingest_session *, uint32_t grant, enum sl_grant_state);
/* ingest.c */
/* The grant's slot is free again; where it is on a list it has been taken off. */
void sl_ingest_release_slot(struct sl_ingest *, struct sl_ingest_session *, uint32_t grant);
void sl_ingest_note_use(struct sl_ingest *); /* after a slot was taken or given back */
static inline uint32_t sl_ingest_handle(const struct sl_ingest *in, const struct sl_ingest_session *s)
{
    return (uint32_t)(s - in->sessions);
}
