/* Sans-IO transport endpoint: one data lcore's sessions on the edge, or all phones of one simulator thread.
 *
 * No syscall, no clock (every call takes now_ns), no allocation per packet, no rte_*. One thread owns an
 * endpoint. Packet protection after RFC 9001, loss recovery and RTT after RFC 9002. All state lies in one
 * secure mapping made at creation. */
#pragma once

#include "dataplane/wire/frame.h"
#include "dataplane/wire/grid.h"
#include "dataplane/wire/packet.h"

#include <stdbool.h>

struct sl_addr { /* IPv4 is mapped (::ffff:a.b.c.d); port in host order. All zero: unknown */
    uint8_t ip[16];
    uint16_t port;
    uint16_t hop; /* the port's name for the neighbour that a packet came by; 0: none, or not known */
};

enum sl_how {
    SL_PLACE,   /* open straight to dst */
    SL_SCRATCH, /* open into scratch, acknowledge, discard (rules T4, T5) */
    SL_DEFER,   /* claimed earlier in this burst: again in the serial pass after the commit (rules T3) */
    SL_REFUSE,  /* not opened; `reason` is counted */
};

/* A received datagram. The caller fills the first group and keeps `pkt` valid during the call. */
struct sl_rx {
    const uint8_t *pkt;
    uint16_t len;
    uint8_t ecn;
    struct sl_addr local, remote;
    /* filled by the endpoint before place(); how, reason and dst by place() */
    uint8_t how, reason; /* enum sl_how, enum sl_drop */
    uint32_t session;    /* the endpoint's handle, not the wire's id */
    uint32_t grant, unit0, n_units;
    uint16_t coded; /* bytes of a compressed fragment's plaintext: dst is not its final place; 0: the units
                       themselves */
    uint64_t pn;
    uint8_t *dst;
};

/* A datagram to send: the caller gives room, the endpoint writes it, whence and whither. */
struct sl_tx {
    uint8_t *buf;
    uint16_t cap, len;
    uint8_t ecn;
    struct sl_addr local, remote;
    uint32_t session;
};

enum sl_done { SL_DONE_ACKED, SL_DONE_CANCELLED, SL_DONE_SESSION_GONE };

/* Where bytes go and come from: ingest on the edge, the gradient store on a device, a model in tests. Called
 * from inside sl_rx_burst / sl_tx_burst / sl_endpoint_close, on the owner's thread; may call sl_endpoint_send
 * / _frame / _cancel. */
struct sl_sink_ops {
    /* For n DATA packets of known sessions, fresh packet numbers, not yet opened: claim units, set how,
     * reason, dst. unit0 + n_units does not wrap. n is 1 in the serial pass; SL_DEFER there is counted as
     * no_memory. */
    void (*place)(void *sink, struct sl_rx *const *rx, unsigned n);
    /* After the open of those with SL_PLACE or SL_SCRATCH: bit i of ok_mask = tag right. Mark, or release the
     * claim. n <= 64. An authentic one whose content cannot be decoded is released too, and how set to
     * SL_REFUSE: its number is spent, and it is counted as bad_coding. */
    void (*commit)(void *sink, struct sl_rx *const *rx, unsigned n, uint64_t ok_mask);
    /* Plaintext of units [unit0, unit0 + n) of an outgoing message, valid until the message is done. NULL: it
     * has gone; done(CANCELLED). */
    const uint8_t *(*source)(void *sink, uint32_t session, uint32_t grant, uint32_t unit0, uint32_t n);
    /* NULL, or: the n units at `units`, which source() gave, in fewer bytes at `out` (room for n * 64):
     * returns how many, 0: as they are. Called anew for each packet. */
    uint16_t (*compress)(
        void *sink, uint32_t session, const uint8_t *units, uint32_t unit0, uint32_t n, uint8_t *out);
    /* An outgoing message ended. Called exactly once for every successful sl_endpoint_send. */
    void (*done)(void *sink, uint32_t session, uint32_t grant, enum sl_done why);
    /* A REQUEST, GRANT, RESULT or STEP_LOST frame, each delivered at least once (repeats after lost acks are
     * possible). */
    void (*frame)(void *sink, uint32_t session, const struct sl_frame *, uint64_t now_ns);
};

struct sl_endpoint;
struct sl_endpoint_config {
    uint32_t max_sessions;
    uint32_t max_sends; /* outgoing messages at a time, all sessions together */
    uint32_t max_message_units;
    uint32_t window_packets; /* in flight per session: the simple window of this version (0: 128) */
    uint32_t max_active; /* sessions that may have something unacknowledged at a time (0: 4,096). The others'
                            frames are refused with -ENOBUFS, their messages wait, both are counted; ACKs need
                            no place */
    uint32_t key_schedules;      /* expanded keys kept (0: 512); others are expanded again when wanted */
    uint32_t key_update_packets; /* that a session seals under a key before it moves to the next (rules T8; 0:
                                    2^22, also the most) */
    uint8_t lcore;               /* that of its sessions' ids (rules T7) */
    bool is_edge;
};
struct sl_session_config {
    uint64_t local_id; /* made with sl_session_id */
    uint64_t peer_id;
    uint8_t secret[32];      /* S of rules T8 */
    uint16_t fragment_units; /* of what we send */
    uint32_t mtu;
    struct sl_addr local, remote; /* remote: zero on the edge, learnt from the first authentic packet */
    uint64_t initial_rtt_ns;      /* 0: RFC 9002's 333 ms */
};
struct sl_session_stats {
    uint64_t packets_tx, packets_rx, bytes_tx, bytes_rx; /* UDP payload, retransmissions included */
    uint64_t retransmits;                                /* DATA packets sent again */
    uint64_t duplicates, ptos;
    uint64_t smoothed_rtt_ns, min_rtt_ns;
    uint64_t last_rx_ns, last_ack_ns;        /* last_rx: of the highest number so far */
    uint64_t key_updates_tx, key_updates_rx; /* the phase is the last bit of each */
    uint64_t in_flight_packets, window_packets, in_flight_bytes;
};
struct sl_endpoint_stats {
    uint64_t packets_rx, packets_tx, bytes_rx, bytes_tx, retransmits;
    uint64_t delivered_data, delivered_frames,
        scratch; /* packets_rx = delivered_data + delivered_frames + scratch + sum of drops */
    uint64_t drops[SL_DROP_COUNT];
    uint64_t outbox_waits,
        record_waits; /* times that max_active refused a frame, or kept a session's data waiting */
    uint64_t key_updates_tx, key_updates_rx;
    uint64_t schedules_made; /* keys expanded */
    uint64_t active_free;    /* sessions more that could become active now */
};
/* Where an endpoint's memory goes. */
struct sl_endpoint_memory {
    size_t idle_session_bytes; /* of a session with nothing outstanding: all of it */
    size_t hot_session_bytes;  /* of these, what a DATA packet in order touches, beside its key's schedule */
    size_t active_session_bytes; /* that it draws from the pools while it has something outstanding */
    size_t total_bytes;          /* the mapping: sessions, pools, messages being sent */
};

int sl_endpoint_create(
    const struct sl_endpoint_config *, const struct sl_sink_ops *, void *sink, struct sl_endpoint **);
void sl_endpoint_free(struct sl_endpoint *);
void sl_endpoint_memory(const struct sl_endpoint *, struct sl_endpoint_memory *);

/* Session ids: lcore (8 bits), handle (24 bits), random (32 bits). Made by whoever will own the handle:
 * `handle` below max_sessions, chosen by the caller (the control side), so that Welcome can be built before
 * the lcore installs the session. */
uint64_t sl_session_id(uint8_t lcore, uint32_t handle, uint32_t random);
static inline uint32_t sl_session_id_handle(uint64_t id)
{
    return (uint32_t)(id >> 32) & 0xffffff;
}

/* Opens the session with handle sl_session_id_handle(local_id). -EEXIST: that handle is live; -EINVAL.
 * Returns 0. */
int sl_endpoint_open(struct sl_endpoint *, const struct sl_session_config *, uint64_t now_ns);
/* Ends it: done(SESSION_GONE) for its messages, keys wiped. No packet is sent (control says Bye). */
void sl_endpoint_close(struct sl_endpoint *, uint32_t session);
bool sl_endpoint_is_open(const struct sl_endpoint *, uint32_t session);

/* Starts sending a message's units under a grant. -ENOBUFS, -ENOENT, -EEXIST. */
int sl_endpoint_send(
    struct sl_endpoint *, uint32_t session, uint32_t grant, uint32_t n_units, uint64_t now_ns);
int sl_endpoint_cancel(
    struct sl_endpoint *, uint32_t session, uint32_t grant); /* done(CANCELLED) is called */
/* Queues a REQUEST, GRANT, RESULT or STEP_LOST; it is repeated until acknowledged. -ENOBUFS: too many
 * outstanding. */
int sl_endpoint_frame(struct sl_endpoint *, uint32_t session, const struct sl_frame *, uint64_t now_ns);

/* The pace of the session's DATA from now on: bits of IP packets a second (a datagram and 28 bytes), 0: none,
 * as at its opening. Below 1 kbit/s counts as that. A packet leaves when what left before it has had its
 * time; who comes late may catch up with at most 2 ms. Frames and the probes of a PTO do not wait. */
void sl_endpoint_set_pace(struct sl_endpoint *, uint32_t session, double bps);

/* Takes n received datagrams (any n; worked on in bursts of up to 64). Returns how many were delivered. */
unsigned sl_rx_burst(struct sl_endpoint *, struct sl_rx *, unsigned n, uint64_t now_ns);
/* Fills up to n datagrams that are due (new data, retransmissions, acks, probes); returns how many. Also runs
 * the timers. Each buffer must hold the largest datagram of any session: max(512, 48 + 64 * fragment_units);
 * at a smaller one the burst ends. */
unsigned sl_tx_burst(struct sl_endpoint *, struct sl_tx *, unsigned n, uint64_t now_ns);
/* Packets of one session in a row before the next one's turn; 32 before the first call. At least 1. */
void sl_endpoint_set_train(struct sl_endpoint *, uint32_t packets);
/* When sl_tx_burst next has something to do: 0 now, UINT64_MAX never. Never walks the sessions. */
uint64_t sl_next_deadline(const struct sl_endpoint *);

void sl_endpoint_stats(const struct sl_endpoint *, struct sl_endpoint_stats *);
int sl_session_stats(const struct sl_endpoint *, uint32_t session, struct sl_session_stats *);
