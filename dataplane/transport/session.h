/* A session and the endpoint that holds it: the state that receiving, sending and the timers share. Private
 * to this folder. */
#pragma once

#include "dataplane/crypto/aead.h"
#include "dataplane/crypto/keys.h"
#include "dataplane/transport/ack.h"
#include "dataplane/transport/congestion.h"
#include "dataplane/transport/endpoint.h"
#include "dataplane/transport/outbox.h"
#include "dataplane/transport/recovery.h"
#include "dataplane/transport/schedules.h"
#include "dataplane/transport/send.h"
#include "dataplane/transport/timing_wheel.h"

#include <stddef.h>

enum {
    SL_BURST = 64,
    SL_TRAIN = 32, /* packets of one session before the next one's turn */
    SL_FRAMES_MAX_DATAGRAM =
        512,          /* what we send: an ACK of 32 ranges and the longest REQUEST; fits every path */
    SL_MIN_MTU = 576, /* RFC 791's; leaves room for the above over IPv6 */
};
/* Fixed point of a pace: at 1 kbit/s a packet of 9,000 bytes takes 2^57 of these, and at 10 Gbit/s a byte
 * takes 2^20 of them, a ten-thousandth exact. */
enum { SL_PACE_SHIFT = 20, SL_PACE_PACKET_BYTES = 28 /* IPv4 and UDP: what links count */ };
#define SL_PACE_CATCH_UP_NS UINT64_C(2000000)
#define SL_KEY_UPDATE_PACKETS (UINT64_C(1) << 22) /* rules T8: then a sender moves to its next key */
#define SL_PN_RECEIVE_LIMIT                                                                                  \
    (UINT64_C(1) << 23)                 /* packets under a key: RFC 9001 6.6's confidentiality limit */
#define SL_PN_LIMIT (UINT64_C(1) << 62) /* numbers at all: RFC 9000 12.3's */

/* Whose key a schedule is: session * 8 + the phase's last two bits, + 4 for sending. */
enum { SL_SCHEDULE_PHASE_MASK = 3, SL_SCHEDULE_TX = 4, SL_SCHEDULES_A_SESSION = 8 };

struct sl_session {
    /* The first cache line: what is asked before a packet is opened, and whether an ACK is owed after it. */
    _Alignas(64) uint64_t local_id;
    struct sl_pn_window window;
    uint8_t rx_iv[SL_AEAD_IV_BYTES];
    bool open : 1;
    bool queued : 1;     /* in the endpoint's ready queue; outlives the session */
    bool waiting : 1;    /* in the endpoint's queue for a ring of sent records; outlives the session */
    bool spent : 1;      /* sends nothing: its key is worn out, and the next may not be used yet */
    bool challenged : 1; /* a PATH_RESPONSE is owed */
    bool remote_known : 1;
    bool paced : 1;       /* DATA waits until pace_next_ns */
    uint8_t rx_phase;     /* of the receive key; its last bit is on the wire */
    uint16_t rx_schedule; /* place of its schedule */
    uint64_t rx_limit;    /* first number not taken under it: the lowest received + SL_PN_RECEIVE_LIMIT */
    struct sl_ack_state ack;
    /* The second: who it was from, and that it came. */
    _Alignas(64) uint64_t packets_rx;
    uint64_t bytes_rx;
    uint64_t timer_ns; /* what the wheel is armed for; UINT64_MAX: nothing */
    struct sl_addr local, remote;

    /* The rest: a received packet touches it only where it is late, or an ACK, or the first of its burst. */
    _Alignas(64) uint64_t older[SL_PN_WINDOW_WORDS]; /* of the window */
    uint64_t peer_id;
    uint64_t next_pn;
    struct sl_send_head sends;
    uint16_t fragment_units;
    uint8_t probes; /* ack-eliciting packets still to be sent for the last PTO, the window notwithstanding */
    uint32_t probe_at;        /* record that the next probe repeats */
    struct sl_outbox *outbox; /* NULL while no frame is outstanding */
    struct sl_recovery recovery;
    struct sl_cc cc;
    uint64_t challenge;
    uint64_t packets_tx, bytes_tx, retransmits, duplicates, ptos, last_ack_ns;
    uint64_t pace;         /* ns a byte, SL_PACE_SHIFT fractional bits; 0: none */
    uint64_t pace_next_ns; /* when the next DATA packet may leave, */
    uint32_t pace_part;    /* and its fraction of a ns */
    /* keys (key_update.c): of the phases in use, the next ones ahead of time, and what was received under
     * before */
    uint8_t rx_key[SL_AEAD_KEY_BYTES], tx_key[SL_AEAD_KEY_BYTES], tx_iv[SL_AEAD_IV_BYTES];
    struct {
        uint8_t key[SL_AEAD_KEY_BYTES], iv[SL_AEAD_IV_BYTES];
    } rx_before;
    struct sl_direction_keys rx_next, tx_next;
    bool rx_has_before, rx_has_next, tx_has_next;
    bool tx_confirmed; /* a packet of this phase was acknowledged */
    uint8_t tx_phase;
    uint16_t rx_before_schedule, rx_next_schedule, tx_schedule;
    uint32_t rx_updates, tx_updates;
    uint64_t tx_first;     /* number of this phase's first packet */
    uint64_t tx_update_ns; /* the next phase not before; where confirmed */
    uint64_t rx_forget_ns; /* when to forget the phase before */
    uint64_t key_ns;       /* when something of all this is to be done; UINT64_MAX: never */
};
_Static_assert(offsetof(struct sl_session, older) == 2 * 64, "the hot part of a session: two cache lines");

/* What a burst has of a session so far: all of its numbers lie below `next`. */
struct sl_burst_top {
    uint32_t burst, session; /* of another burst: empty */
    uint64_t next;
};
enum { SL_BURST_TOPS = 2 * SL_BURST };

/* Scratch of sl_rx_burst. */
struct sl_rx_work {
    uint8_t header[SL_BURST][SL_HEADER_DATA_BYTES]; /* the private copy: what is checked is what is
                                                       authenticated (rules T8) */
    uint8_t header_len[SL_BURST];
    uint8_t phase[SL_BURST]; /* of the key to open it with */
    uint64_t id[SL_BURST];   /* the session's, as the packet has it */
    uint8_t flags[SL_BURST];
    struct sl_burst_top top[SL_BURST_TOPS];
    uint32_t burst;
};

struct sl_endpoint {
    const struct sl_sink_ops *sink_ops;
    void *sink;
    struct sl_aead *aead;
    struct sl_session *sessions;
    struct sl_schedules schedules;
    uint32_t max_sessions, max_message_units, window_packets, train;
    uint8_t lcore;
    bool is_edge;
    uint64_t key_update_packets, key_stop_packets;
    struct sl_sends sends;
    /* What only a session at work has, last in first out: rings of sent records and outboxes. */
    struct sl_sent **rings;
    struct sl_outbox **outboxes;
    uint32_t n_rings, n_outboxes, max_active, ring_capacity;
    /* Sessions with something to send, and those that wait for a ring: first in first out, each at most once.
     */
    uint32_t *ready, *waiting;
    uint32_t queue_mask, ready_head, ready_tail, waiting_head, waiting_tail;
    struct sl_wheel wheel;
    struct sl_endpoint_stats stats;
    struct sl_rx_work work;
    size_t mapped_bytes;
    uint8_t frames[SL_DATAGRAM_MAX_BYTES] __attribute__((aligned(64))); /* plaintext of one FRAMES packet */
    uint8_t scratch[SL_DATAGRAM_MAX_BYTES]
        __attribute__((aligned(64))); /* plaintext that nobody wants (rules T4) */
};

static inline uint32_t sl_rx_schedule_owner(uint32_t session, uint8_t phase)
{
    return session * SL_SCHEDULES_A_SESSION + (phase & SL_SCHEDULE_PHASE_MASK);
}
static inline bool sl_session_live(const struct sl_endpoint *ep, uint32_t session)
{
    return session < ep->max_sessions && ep->sessions[session].open;
}

/* Whether there is, or could be had, a place to record an ack-eliciting packet. */
static inline bool sl_session_can_track(const struct sl_endpoint *ep, const struct sl_session *s)
{
    return s->recovery.ring != NULL || ep->n_rings != 0;
}
static inline bool sl_session_frames_due(const struct sl_session *s)
{
    return s->outbox != NULL && s->outbox->due != 0;
}
/* Gives back what a session at work had: a ring with nothing in flight, an outbox with nothing outstanding.
 */
void sl_session_give_ring(struct sl_endpoint *, struct sl_session *);
void sl_session_give_outbox(struct sl_endpoint *, struct sl_session *);

/* A DATA datagram of that length leaves: when the next one may. */
static inline void sl_session_pace(struct sl_session *s, uint16_t bytes, uint64_t now_ns)
{
    if (s->pace == 0)
        return;
    if (s->pace_next_ns + SL_PACE_CATCH_UP_NS < now_ns)
        s->pace_next_ns = now_ns - SL_PACE_CATCH_UP_NS;
    uint64_t cost = s->pace * (bytes + (uint32_t)SL_PACE_PACKET_BYTES) + s->pace_part;
    s->pace_next_ns += cost >> SL_PACE_SHIFT;
    s->pace_part = (uint32_t)cost & ((1u << SL_PACE_SHIFT) - 1);
    s->paced = s->pace_next_ns > now_ns;
}

/* Whether the session has something that may leave now. */
bool sl_session_wants(const struct sl_endpoint *, uint32_t session);
/* After anything that may have changed that, or its deadlines: queues it, arms its timer. */
void sl_session_update(struct sl_endpoint *, uint32_t session, uint64_t now_ns);
/* Its pace is another one: DATA that waited for the old one may leave. */
void sl_session_repaced(struct sl_endpoint *, uint32_t session);
/* The session's timer fired. */
void sl_session_on_timer(struct sl_endpoint *, uint32_t session, uint64_t now_ns);
/* An ACK frame whose ranges were all sent. */
void sl_session_on_ack(struct sl_endpoint *, uint32_t session, const struct sl_ack *, uint64_t now_ns);
/* Records an ack-eliciting packet about to leave. */
struct sl_sent *sl_session_track(
    struct sl_endpoint *, uint32_t session, uint64_t pn, uint16_t bytes, uint64_t now_ns);
/* Takes a message off and tells the sink. */
void sl_session_finish_send(struct sl_endpoint *, uint32_t session, uint32_t send, enum sl_done why);

/* ---- key_update.c ---- */

int sl_key_install(struct sl_endpoint *, uint32_t session, const uint8_t *secret);
void sl_key_forget(struct sl_endpoint *, uint32_t session);
/* Which phase's key a packet wants that is not below the limit of the present one, and whether there is such
 * a key. */
enum sl_drop sl_key_phase_of(const struct sl_session *, uint8_t flags, uint64_t pn, uint8_t *phase);
/* The key and IV of a phase, NULL where it is neither this one nor a neighbour. */
const struct sl_aead_key *sl_key_to_open(
    struct sl_endpoint *, uint32_t session, uint8_t phase, const uint8_t **iv);
/* The tag was right under that phase's key: a new one is followed. */
void sl_key_opened(struct sl_endpoint *, uint32_t session, uint8_t phase, uint64_t pn, uint64_t now_ns);
const struct sl_aead_key *sl_key_to_seal(struct sl_endpoint *, uint32_t session);
/* Before a packet takes its number: moves to the next key when it is time. After: sees whether it was the
 * last that the key may seal. */
void sl_key_before_sealing(struct sl_endpoint *, uint32_t session, uint64_t now_ns);
void sl_key_sealed(struct sl_endpoint *, uint32_t session);
/* Whether a packet without need of an ACK should ask for one: else a session that only acknowledges would
 * never hear that the peer has followed. */
bool sl_key_wants_ack(const struct sl_endpoint *, const struct sl_session *);
void sl_key_acked(struct sl_session *, uint64_t largest_pn, uint64_t now_ns);
/* At key_ns: makes next keys, forgets old ones. */
void sl_key_on_timer(struct sl_endpoint *, uint32_t session, uint64_t now_ns);
