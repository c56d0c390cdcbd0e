/* The traffic of a fleet as plain UDP flows, without an edge: each phone computes for its modelled time,
 * sends a message through its emulated link, waits for the edge's answer (rounds.h), gets a gradient of the
 * real size through its downlink, computes again, and so on. Sans-IO: no clock, no socket; one thread.
 *
 *   compute -> [message's fragments -> window -> emulated uplink] -> packet() ... complete -> edge's gang
 *      ^                                                                                       |
 *      +---- compute <- [emulated downlink <- window <- gradient's fragments] <----------------+
 *
 * A window decides how many bytes are in the link at a time: slow start, then one packet a round trip, halved
 * once a round trip where the link drops (RFC 5681's arithmetic). What it is told comes from the emulated
 * link itself, since the host at the other end says nothing: an arrival counts as acknowledged when it
 * arrives, and what the link drops is noticed a round trip later and sent again, as a packet with a sequence
 * number of its own. */
#pragma once

#include "dataplane/io/lcore/lcore.h"
#include "dataplane/io/lcore/port.h"
#include "device-sim/sink/rounds.h"

/* What a phone's messages look like. */
struct sl_flow_shape {
    uint32_t up_units, down_units; /* of 64 bytes: message (with its targets) and gradient */
    uint16_t fragment_units;
    uint32_t head_bytes; /* before and after a fragment's units: header and tag (docs/protocol.md) */
    struct sl_addr address;
    uint64_t edge_ns; /* what the edge computes for one message */
};

/* A packet as somebody at the edge's port would see it: from a phone, when it arrives there; to a phone, when
 * it leaves for it. Payload bytes are those of the real datagram. */
struct sl_flow_packet {
    bool down, again;
    uint32_t phone, message, fragment, fragments;
    uint64_t sequence, offered_ns, at_ns;
    uint16_t payload_bytes;
    struct sl_addr src, dst;
};

struct sl_flows_config {
    uint32_t n;
    uint32_t max_packets;              /* under way in all */
    uint64_t seed;                     /* when phones begin: anywhere in the first second */
    const struct sl_flow_shape *shape; /* [n]; copied */
    struct sl_addr edge;
    struct {
        bool sync;
        double quorum;
        uint64_t deadline_ns;
    } gang;
    const struct sl_emulator_ops *emulator; /* bound to sl_flows_queue */
    void *emulator_ctx;
    uint64_t (*compute_ns)(void *ctx, uint32_t phone, bool backward, uint64_t now_ns);
    void (*packet)(void *ctx, const struct sl_flow_packet *);
    void *ctx;
};

/* Of a direction: offered = arrived + dropped + under way. */
struct sl_flow_totals {
    uint64_t offered, offered_bytes, arrived, arrived_bytes, dropped, dropped_bytes; /* IP bytes */
    uint64_t messages;                                                               /* complete */
};

struct sl_flows;
int sl_flows_create(const struct sl_flows_config *, struct sl_flows **); /* -EINVAL, -ENOMEM */
void sl_flows_close(
    struct sl_flows *); /* what the emulator gives back from now on is neither sent again nor counted */
void sl_flows_free(struct sl_flows *);              /* after the emulator */
struct sl_queue *sl_flows_queue(struct sl_flows *); /* where the emulator frees what it drops */
/* Carries out everything up to now_ns. */
void sl_flows_run(struct sl_flows *, uint64_t now_ns);
uint64_t sl_flows_deadline(const struct sl_flows *); /* when there is something to do next */
void sl_flows_totals(const struct sl_flows *, struct sl_flow_totals *up, struct sl_flow_totals *down);
uint64_t sl_flows_gangs(const struct sl_flows *);
