/* An edge's data plane without a port: slots, rings, ingest and a real endpoint, driven by packets that are
 * sealed by hand on a virtual clock. The test plays the devices and the trainer. */
#pragma once

#include "dataplane/ingest/ingest.h"
#include "tests/transport/model.h"

enum {
    SESSIONS = 4,
    D_MODEL = 32, /* in bf16 a row is one unit */
    FRAGMENT = 4,
    SLOT_UNITS = 64,
    ROWS = 10, /* 10 units of tensor and 1 of targets: fragments of 4, 4 and 3 */
    UNITS = 11,
    FRAMES_KEPT = 256,
};

struct seen { /* frames that a device was sent, in order */
    struct sl_frame frame[FRAMES_KEPT];
    unsigned n, taken, data_packets;
    uint64_t highest_pn;
    bool any;
};
struct edge {
    struct sl_slots *slots;
    struct sl_ring_spsc *ready, *returned;
    struct sl_ingest *ingest;
    struct sl_endpoint *endpoint;
    struct sl_ingest_config config;
    uint64_t now_ns;
    struct sealer sealer[SESSIONS];
    uint64_t pn[SESSIONS];
    struct seen seen[SESSIONS];
    uint32_t incarnation; /* makes session ids differ */
};

struct edge_options {
    uint32_t n_slots, grants_per_session, waiting_requests, ring_capacity, max_sends, max_message_units;
    size_t park_bytes;
    uint32_t grant_factor;
    uint64_t grant_margin_ns;
    enum sl_codec codec; /* f32 stands for the default, bf16 */
};
void edge_init(struct edge *, const struct edge_options *);
void edge_free(struct edge *);
void edge_open(struct edge *, uint32_t session, uint64_t device);
void edge_close(struct edge *, uint32_t session);

/* One packet each, through the endpoint. */
struct sl_request request_of(uint64_t step, uint16_t rows);
void send_request(struct edge *, uint32_t session, const struct sl_request *);
void ask(struct edge *, uint32_t session, uint64_t step); /* TRAIN, ROWS rows */
void send_units(struct edge *, uint32_t session, uint32_t grant, uint32_t unit0, uint16_t n, uint8_t fill);
void send_message(struct edge *, uint32_t session, uint32_t grant); /* all of UNITS */
void ack_all(struct edge *, uint32_t session);

/* A packet for a burst of one's own making. */
struct burst {
    uint8_t bytes[64][600];
    struct sl_rx rx[64];
    unsigned n;
};
void burst_units(struct edge *, struct burst *, uint32_t session, uint32_t grant, uint32_t unit0, uint16_t n,
    uint8_t fill, bool forged);
unsigned burst_send(struct edge *, struct burst *);

/* Ingest's turn, then everything that may leave is sent, and noted in `seen`. */
void turn(struct edge *);
void turn_at(struct edge *, uint64_t now_ns);
/* The next frame of a type that the device has not taken yet; NULL: none. Frames of other types stay. */
const struct sl_frame *next_frame(struct edge *, uint32_t session, enum sl_frame_type);
uint32_t granted_index(
    struct edge *, uint32_t session); /* the newest in GRANTs not taken; there must be one */
void assert_lost(struct edge *, uint32_t session, uint32_t grant, uint64_t step, enum sl_lost_reason);

/* The trainer's side. */
struct sl_slot *trainer_takes(struct edge *); /* NULL: nothing is ready */
void trainer_returns(struct edge *, struct sl_slot *, enum sl_result_status);
/* Asks, sends and hands over one message; the slot as the trainer has it. */
struct sl_slot *make_ready(struct edge *, uint32_t session, uint64_t step);

struct sl_ingest_stats stats_of(const struct edge *);
/* Everything that sl_ingest_stats says is conserved, and the endpoint's account of packets. */
void assert_conserved(const struct edge *);
