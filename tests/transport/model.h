/* What the transport's tests share: a sink that keeps whole messages and checks every claim, packets sealed
 * by hand, and two endpoints joined by a network that loses, repeats and reorders, on a virtual clock. */
#pragma once

#include "dataplane/crypto/aead.h"
#include "dataplane/crypto/keys.h"
#include "dataplane/transport/endpoint.h"
#include "device-sim/link/link.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

enum {
    MODEL_MESSAGES = 16,
    MODEL_STEPS = 64, /* frames are told apart by their step */
    MODEL_UNITS = 4,  /* of a fragment: small packets, quick tests */
    MODEL_CODED =
        2, /* bytes of a compressed fragment: the one that all its bytes have, and MODEL_CODED_MARK */
    MODEL_CODED_MARK = 0x5a,
    MODEL_KEY_UPDATE_PACKETS = 16,
};
#define MS UINT64_C(1000000)

/* ---- deterministic randomness: splitmix64 (Steele, Lea and Flood, 2014) ---- */
static inline uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* ---- the sink ---- */
enum unit_state { UNIT_FREE, UNIT_CLAIMED, UNIT_RECEIVED };

struct model_message {
    uint32_t session, grant, n_units;
    uint16_t fragment_units;
    uint8_t *bytes;
    uint8_t *units; /* enum unit_state of each; incoming */
    uint32_t n_received;
    unsigned completed;             /* times it became whole: must end as 1 */
    unsigned done[3];               /* outgoing: calls by enum sl_done */
    uint64_t first_source, sources; /* outgoing */
};
struct model {
    struct sl_endpoint *endpoint;
    struct model_message in[MODEL_MESSAGES], out[MODEL_MESSAGES];
    unsigned n_in, n_out;
    unsigned frames[SL_FRAME_PATH_RESPONSE + 1][MODEL_STEPS]; /* deliveries by type and step */
    struct sl_frame last_frame;
    unsigned places, commits; /* calls */
    unsigned placed[4];       /* packets by enum sl_how */
    bool defer_always, refuse_unnamed, no_source;
};
extern const struct sl_sink_ops model_sink;

void model_init(struct model *);
void model_free(struct model *);
struct model_message *model_expect(struct model *, uint32_t session, uint32_t grant, uint32_t n_units);
/* A message of bytes from `seed`. */
struct model_message *model_offer(
    struct model *, uint32_t session, uint32_t grant, uint32_t n_units, uint64_t seed);
struct model_message *model_in(struct model *, uint32_t session, uint32_t grant);

/* packets_rx = delivered + scratch + every named drop */
void assert_accounts(const struct sl_endpoint *);
uint64_t drops(const struct sl_endpoint *, enum sl_drop);

/* ---- packets sealed by hand ---- */
struct sealer {
    struct sl_aead *aead;
    struct sl_aead_key *key;
    struct sl_direction_keys keys;
    unsigned phase;
    uint64_t peer; /* session id of the receiver */
};
extern const uint8_t test_secret[32];
extern const struct sl_addr edge_addr, device_addr;

void sealer_init(struct sealer *, bool to_edge, uint64_t peer);
void sealer_free(struct sealer *);
/* Any header (its session is the sealer's peer) over any plaintext. */
uint16_t seal_plain(struct sealer *, struct sl_header, const void *plain, size_t len, uint8_t *out);
/* A compressed DATA packet of MODEL_UNITS units, all `fill`; with `mark` MODEL_CODED_MARK it makes sense. */
uint16_t seal_coded(
    struct sealer *, uint64_t pn, uint32_t grant, uint32_t unit0, uint8_t fill, uint8_t mark, uint8_t *out);
void sealer_next_phase(struct sealer *);
/* Plaintext of `n_units` units whose bytes are all `fill`. Returns the datagram's length. */
uint16_t seal_data(struct sealer *, uint64_t pn, uint32_t grant, uint32_t unit0, uint16_t n_units,
    uint8_t fill, uint8_t *out);
uint16_t seal_bytes(struct sealer *, uint64_t pn, const void *plain, size_t len, uint8_t *out);
uint16_t seal_frame(struct sealer *, uint64_t pn, const struct sl_frame *, uint8_t *out);
/* Opens a packet sent to whom this sealer's peer's peer is: decodes its frames into out[]; returns how many.
 * Of the first two key phases. */
unsigned open_frames_of(bool to_edge, const uint8_t *pkt, uint16_t len, struct sl_frame *out, unsigned cap);

static inline struct sl_rx rx_of(const uint8_t *pkt, uint16_t len)
{
    return (struct sl_rx){.pkt = pkt, .len = len, .local = edge_addr, .remote = device_addr};
}

/* An endpoint with its sink and one open session with handle 1; ids are those of id_of(). */
struct sl_endpoint *open_one(bool is_edge, struct model *, uint32_t window_packets);
static inline uint64_t id_of(bool edge)
{
    return sl_session_id(0, 1, edge ? 0xe000e : 0xd000d);
}

/* ---- two endpoints and the network between ---- */
struct flight {
    uint64_t at_ns, order;
    uint16_t len;
    uint8_t bytes[600];
};
struct network {
    double loss, duplicate;
    uint64_t delay_ns, jitter_ns;
    uint64_t random, order;
    struct flight *queue; /* a binary heap by (at_ns, order); with `links`, places of packets under way */
    unsigned n, cap;
    struct sl_links *links; /* NULL: loss, duplicate, delay and jitter as above; else the simulator's emulator */
    uint32_t *unused;       /* places of `queue`; the first cap - n of them */
    struct sl_histogram sojourn; /* with `links`: of delivered packets, from sending to arrival */
    uint64_t sent, lost;
    uint64_t reordered, last_order;
};
struct rig {
    struct sl_endpoint *edge, *device;
    struct model edge_model, device_model;
    struct network up, down;
    uint64_t now_ns;
};
void rig_init(struct rig *, uint64_t seed, double loss, double duplicate, uint64_t jitter_ns);
/* Both directions through emulated links of one packet memory of `room` packets; sessions with that window. */
void rig_init_links(struct rig *, uint32_t window_packets, const struct sl_link_params *up,
    const struct sl_link_params *down, unsigned room, uint64_t seed);
void rig_free(struct rig *);
/* Moves packets until nothing is left to do before `until_ns`, or `finished` says so. Returns whether it did.
 */
bool rig_run(struct rig *, uint64_t until_ns, bool (*finished)(struct rig *));
