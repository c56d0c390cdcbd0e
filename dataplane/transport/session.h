/* A session and the endpoint that holds it: the state that receiving, sending and the timers share. Private
 * to this folder. */
#pragma once

#include "dataplane/crypto/aead.h"
#include "dataplane/transport/ack.h"
#include "dataplane/transport/congestion.h"
#include "dataplane/transport/endpoint.h"
#include "dataplane/transport/outbox.h"
#include "dataplane/transport/recovery.h"
#include "dataplane/transport/send.h"
#include "dataplane/transport/timing_wheel.h"

enum {
    SL_BURST = 64,
    SL_TX_QUANTUM = 32, /* packets of one session before the next one's turn */
    SL_FRAMES_MAX_DATAGRAM =
        512,          /* what we send: an ACK of 32 ranges and the longest REQUEST; fits every path */
    SL_MIN_MTU = 576, /* RFC 791's; leaves room for the above over IPv6 */
};
#define SL_PN_SEND_LIMIT (UINT64_C(1) << 22)    /* rules T8: then the session joins again */
#define SL_PN_RECEIVE_LIMIT (UINT64_C(1) << 23) /* RFC 9001 6.6 */

struct sl_session {
    /* what every received packet touches */
    uint64_t local_id;
    uint8_t rx_iv[SL_AEAD_IV_BYTES];
    bool open;
    bool queued; /* in the endpoint's ready queue; outlives the session */
    bool spent;
    bool challenged; /* a PATH_RESPONSE is owed */
    struct sl_ack_state ack;
    uint64_t packets_rx, bytes_rx, last_rx_ns;
    uint64_t timer_ns; /* what the wheel is armed for; UINT64_MAX: nothing */
    struct sl_pn_window window;
    struct sl_addr local, remote;
    bool remote_known;
    /* sending */
    uint8_t tx_iv[SL_AEAD_IV_BYTES];
    uint64_t peer_id;
    uint32_t next_pn;
    uint16_t fragment_units;
    uint8_t probes; /* ack-eliciting packets still to be sent for the last PTO, the window notwithstanding */
    uint32_t probe_at; /* record that the next probe repeats */
    struct sl_send_head sends;
    struct sl_recovery recovery;
    struct sl_cc cc;
    uint64_t challenge;
    uint64_t packets_tx, bytes_tx, retransmits, duplicates, ptos, last_ack_ns;
};

/* Scratch of sl_rx_burst. */
struct sl_rx_work {
    uint8_t header[SL_BURST][SL_HEADER_DATA_BYTES]; /* the private copy: what is checked is what is
                                                       authenticated (rules T8) */
    uint8_t header_len[SL_BURST];
    struct sl_header parsed[SL_BURST];
};

struct sl_endpoint {
    const struct sl_sink_ops *sink_ops;
    void *sink;
    struct sl_aead *aead;
    struct sl_session *sessions;
    uint8_t *keys; /* for each session: receive key, send key */
    size_t key_stride;
    struct sl_outbox *outboxes;
    uint32_t max_sessions, max_message_units, window_packets;
    uint8_t lcore;
    bool is_edge;
    struct sl_sends sends;
    struct sl_sent **rings; /* free rings of sent records, last in first out */
    uint32_t n_rings, ring_capacity;
    uint32_t *ready; /* sessions with something to send, first in first out; each at most once */
    uint32_t ready_mask, ready_head, ready_tail;
    struct sl_wheel wheel;
    struct sl_endpoint_stats stats;
    struct sl_rx_work work;
    size_t mapped_bytes;
    uint8_t frames[SL_DATAGRAM_MAX_BYTES] __attribute__((aligned(64))); /* plaintext of one FRAMES packet */
    uint8_t scratch[SL_DATAGRAM_MAX_BYTES]
        __attribute__((aligned(64))); /* plaintext that nobody wants (rules T4) */
};

static inline struct sl_aead_key *sl_session_rx_key(struct sl_endpoint *ep, uint32_t session)
{
    return (struct sl_aead_key *)(void *)(ep->keys + 2 * ep->key_stride * session);
}
static inline struct sl_aead_key *sl_session_tx_key(struct sl_endpoint *ep, uint32_t session)
{
    return (struct sl_aead_key *)(void *)(ep->keys + (2 * session + 1) * ep->key_stride);
}
static inline bool sl_session_live(const struct sl_endpoint *ep, uint32_t session)
{
    return session < ep->max_sessions && ep->sessions[session].open;
}

/* Whether the session has something that may leave now. */
bool sl_session_wants(const struct sl_endpoint *, uint32_t session);
/* After anything that may have changed that, or its deadlines: queues it, arms its timer. */
void sl_session_update(struct sl_endpoint *, uint32_t session, uint64_t now_ns);
/* The session's timer fired. */
void sl_session_on_timer(struct sl_endpoint *, uint32_t session, uint64_t now_ns);
/* An ACK frame whose ranges were all sent. */
void sl_session_on_ack(struct sl_endpoint *, uint32_t session, const struct sl_ack *, uint64_t now_ns);
/* Records an ack-eliciting packet about to leave. */
struct sl_sent *sl_session_track(
    struct sl_endpoint *, uint32_t session, uint32_t pn, uint16_t bytes, uint64_t now_ns);
/* Takes a message off and tells the sink. */
void sl_session_finish_send(struct sl_endpoint *, uint32_t session, uint32_t send, enum sl_done why);
