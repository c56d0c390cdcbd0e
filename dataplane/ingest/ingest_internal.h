/* What the parts of ingestion share: sessions, their last grants, who waits, who is owed a frame. Private to
 * this folder. */
#pragma once

#include "dataplane/ingest/ingest.h"
#include "dataplane/ingest/slot_table.h"

enum {
    SL_GRANT_RING =
        8, /* a session's last grants: what is older is finished, its packets are duplicates (rules T4) */
    SL_GRANT_RING_MASK = SL_GRANT_RING - 1,
    SL_WAITING_PER_SESSION = 4,
    SL_PARK_NONE = -1,
};

enum sl_grant_state {
    SL_GRANT_NONE,
    SL_GRANT_OPEN,    /* its slot is GRANTED or FILLING */
    SL_GRANT_READY,   /* on its way to the trainer, or there */
    SL_GRANT_SENDING, /* a gradient, in the slot or parked */
    SL_GRANT_DONE,    /* finished */
    SL_GRANT_LOST,    /* to be asked for again */
};

/* What is still to be said or begun; -ENOBUFS of the endpoint leaves it for the next turn. */
enum { SL_OWES_GRANT = 1, SL_OWES_LOST = 2, SL_OWES_RESULT = 4, SL_OWES_SEND = 8, SL_OWES_LOST_AGAIN = 16 };

struct sl_grant_record {
    uint32_t index; /* within the session, from 1; 0: none */
    uint8_t state;  /* enum sl_grant_state */
    uint8_t owes, lost_reason;
    bool queued;     /* among those that owe */
    bool unheard_of; /* lost before its GRANT was said */
    /* what every packet needs: the grid, and where it lies */
    uint16_t fragment_units;
    uint32_t n_units;
    uint64_t divisor; /* sl_grid_divisor(fragment_units) */
    struct sl_slot_entry *entry;
    /* the gradient: where its bytes are, in the slot or a park block */
    const uint8_t *source;
    uint32_t source_units;
    int32_t park; /* SL_PARK_NONE */
    uint32_t session;
    uint64_t step, told_ns; /* told: when STEP_LOST was last queued */
    struct sl_result result;
    TAILQ_ENTRY(sl_grant_record) owing_link;
    TAILQ_ENTRY(sl_grant_record) park_link;
};

struct sl_waiting {
    bool used, held; /* held: its session has all the grants it may have */
    uint32_t session;
    struct sl_request request;
    struct sl_grid grid;
    TAILQ_ENTRY(sl_waiting) link;
};
TAILQ_HEAD(sl_waiting_list, sl_waiting);

struct sl_ingest_session {
    bool open;
    uint16_t fragment_units; /* of what the device sends now */
    uint32_t epoch;          /* counts the sessions that have had this handle */
    uint32_t last_grant;
    uint32_t n_slots; /* that this session holds */
    uint64_t divisor; /* of fragment_units */
    uint64_t device;
    struct sl_waiting_list held;
    struct sl_waiting waiting[SL_WAITING_PER_SESSION];
    struct sl_grant_record ring[SL_GRANT_RING];
};

struct sl_ingest {
    struct sl_slots *slots;
    struct sl_endpoint *endpoint;
    struct sl_ingest_session *sessions;
    uint64_t now_ns; /* of the last call that told */
    uint32_t max_sessions;
    bool overlap_busy;
    uint8_t *overlap; /* one packet's plaintext: rules T5 */
    struct sl_ingest_config config;
    uint64_t park_after_ns; /* written by any thread */
    struct sl_waiting_list queue;
    struct sl_slot_list expiring; /* GRANTED and FILLING by timer_ns */
    struct sl_slot_list sending;  /* GRADIENT and SENDING by progress_ns */
    TAILQ_HEAD(sl_owing_list, sl_grant_record) owing;
    TAILQ_HEAD(, sl_grant_record) parked; /* oldest first */
    uint8_t *park;
    int32_t *park_free;
    uint32_t n_park, n_park_free;
    size_t park_mapped;
    uint32_t
        *backlog; /* READY handles that the ring had no room for: a circle of as many as there are slots */
    uint32_t backlog_head, backlog_n;
    struct sl_ingest_stats stats;
    size_t mapped_bytes;
};

/* Counters have one writer and readers on other threads. */
#define SL_COUNT(counter, by) __atomic_store_n(&(counter), (counter) + (by), __ATOMIC_RELAXED)

static inline struct sl_grant_record *sl_ingest_grant(struct sl_ingest *in, uint32_t session, uint32_t grant)
{
    if (session >= in->max_sessions || !in->sessions[session].open || grant == 0)
        return NULL;
    struct sl_grant_record *g = &in->sessions[session].ring[grant & SL_GRANT_RING_MASK];
    return g->index == grant ? g : NULL;
}

/* request.c */
void sl_ingest_on_request(struct sl_ingest *, uint32_t session, const struct sl_request *);
void sl_ingest_grant_waiting(struct sl_ingest *);
void sl_ingest_expire(struct sl_ingest *);
void sl_ingest_end_grant(
    struct sl_ingest *, struct sl_grant_record *, enum sl_grant_state); /* of an OPEN one */
void sl_ingest_drop_waiting(struct sl_ingest *, struct sl_ingest_session *);
void sl_ingest_unhold(struct sl_ingest *, struct sl_ingest_session *);
/* place.c */
void sl_ingest_place(void *, struct sl_rx *const *, unsigned n);
void sl_ingest_commit(void *, struct sl_rx *const *, unsigned n, uint64_t ok_mask);
void sl_ingest_push_backlog(struct sl_ingest *);
/* gradient.c */
const uint8_t *sl_ingest_source(void *, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n);
void sl_ingest_done(void *, uint32_t session, uint32_t grant, enum sl_done why);
void sl_ingest_take_returned(struct sl_ingest *);
void sl_ingest_park_late(struct sl_ingest *);
void sl_ingest_owe(
    struct sl_ingest *, struct sl_grant_record *, uint8_t what); /* now, or as soon as there is room */
void sl_ingest_pay(struct sl_ingest *);
void sl_ingest_tell_lost(struct sl_ingest *, struct sl_grant_record *, enum sl_lost_reason);
void sl_ingest_release_gradient(struct sl_ingest *, struct sl_grant_record *, enum sl_grant_state);
/* ingest.c */
void sl_ingest_release_slot(struct sl_ingest *, struct sl_grant_record *);
void sl_ingest_note_use(struct sl_ingest *); /* after a slot was taken or given back */
