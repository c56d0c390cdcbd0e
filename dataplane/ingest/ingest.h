/* Ingestion on the edge: the sink that the transport asks where bytes go. Owns the slot table of one data
 * lcore: answers REQUESTs with GRANTs, claims and marks units (rules T1-T6), hands complete messages to the
 * trainer and sends back what it returns. Runs on the data lcore only; the two rings are its only contact
 * with the trainer. */
#pragma once

#include "dataplane/ingest/slot.h"
#include "dataplane/ring/ring.h"
#include "dataplane/transport/endpoint.h"

struct sl_ingest_config {
    struct sl_slots *slots;
    struct sl_ring_spsc *ready;    /* data lcore -> trainer: slot handles in READY */
    struct sl_ring_spsc *returned; /* trainer -> data lcore: handles in GRADIENT, with outcome set */
    struct sl_ring_spsc *granted;  /* data lcore -> trainer, or NULL: devices (their low 32 bits) that were
                                      given a  slot, so that what they need can be fetched; drops when full */
    uint32_t max_sessions;
    uint32_t d_model;
    enum sl_codec codec;
    uint16_t fragment_units;     /* of what devices send */
    uint32_t waiting_requests;   /* that all sessions together may let wait; 0: one each and 64 more */
    uint32_t grants_per_session; /* slots that a session may hold at a time, at most 8; 0: 2 */
    /* A grant without a good fragment for too long is reclaimed, counted, its device told. The first one may
     * take grant_factor times the ready_in_ms of its REQUEST, and the margin; a further one the margin; none
     * longer than grant_expiry_ns. Margin 0: grant_expiry_ns alone. */
    uint64_t grant_expiry_ns, grant_margin_ns;
    uint32_t grant_factor;
    uint64_t park_after_ns; /* an unacknowledged gradient leaves the arena: one gang deadline */
    size_t park_bytes;      /* in blocks of a slot's size; when all are taken the oldest goes: STEP_LOST */
};

/* Conserved at every moment between two calls on the lcore:
 *   requests = repeated + refused + no_room + gone + waiting + granted
 *   granted  = ready + expired + cancelled + grants_outstanding
 *   ready    = returned_gradient + _eval + _refused + _skipped + _session_gone + with_trainer
 *   returned_gradient = acked + gone + lost + park_dropped + gradients_outstanding (in slots or parked)
 * The names without a verb in them are gauges: waiting, outstanding, with_trainer, park_bytes, slots. */
struct sl_ingest_stats {
    uint64_t requests, requests_repeated, requests_refused; /* refused: their shape */
    uint64_t requests_no_room; /* more than may wait: the device is told STEP_LOST expired, and asks again */
    uint64_t requests_gone, requests_waiting; /* gone: with their session or phase */
    uint64_t granted, ready, grants_expired, grants_cancelled, grants_outstanding;
    uint64_t with_trainer; /* READY and not yet returned */
    uint64_t returned_gradient, returned_eval, returned_refused, returned_skipped, returned_session_gone;
    uint64_t returned_stale; /* handles that named no slot of the trainer's: a fault in the trainer */
    uint64_t gradients_acked, gradients_gone, gradients_lost,
        gradients_outstanding; /* gone: with their session */
    uint64_t parked, park_dropped, park_bytes;
    uint64_t units_placed, units_scratch,
        units_released;          /* released: claimed, but the tag or the content was wrong */
    uint64_t fragments_expanded; /* came compressed */
    uint32_t slots_free, slots_in_use, slots_in_use_max;
};

struct sl_ingest;
int sl_ingest_create(const struct sl_ingest_config *, struct sl_ingest **);
void sl_ingest_free(struct sl_ingest *);
void sl_ingest_bind(struct sl_ingest *, struct sl_endpoint *); /* before the first packet */
extern const struct sl_sink_ops sl_ingest_sink; /* its `sink` argument is the struct sl_ingest */

void sl_ingest_session_opened(struct sl_ingest *, uint32_t session, uint64_t device);
void sl_ingest_session_closed(
    struct sl_ingest *, uint32_t session); /* its slots come back, each by its named exit */

/* The device sends in fragments of another size from here on: grants to come have that grid, and messages
 * under way are taken on either (rules T5). -ENOENT: the session is not open; -EINVAL: not a size. */
int sl_ingest_set_fragment_units(struct sl_ingest *, uint32_t session, uint16_t units);

/* Once a turn of the lcore: takes back slots from the trainer, expires grants, parks gradients, grants to who
 * waits. */
void sl_ingest_poll(struct sl_ingest *, uint64_t now_ns);
uint64_t sl_ingest_deadline(const struct sl_ingest *);
/* What a session takes while it does nothing: its record and its place among those that wait, in bytes. What
 * active ones need beyond that (slots, parked gradients) is not of a number of sessions. */
size_t sl_ingest_session_bytes(const struct sl_ingest *);
void sl_ingest_set_park_after(struct sl_ingest *, uint64_t ns); /* from any thread */
/* From any thread: requests that wait while no slot is free. */
uint64_t sl_ingest_waiting_for_slots(const struct sl_ingest *);
void sl_ingest_stats(
    const struct sl_ingest *, struct sl_ingest_stats *); /* from any thread: counters may be one turn apart */
