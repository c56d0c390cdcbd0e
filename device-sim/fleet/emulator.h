/* The radios of all phones between the port and the endpoint: struct sl_emulator_ops over
 * device-sim/link, and body's radio states. Datagrams are told apart by the phone's address. The counters of
 * a phone may be read on any thread; the rest is the data lcore's. */
#pragma once

#include "dataplane/io/lcore/lcore.h"
#include "device-sim/body/rrc.h"
#include "device-sim/fleet/address.h"
#include "device-sim/link/book.h"
#include "device-sim/radio/environment.h"

struct sl_emulator;
/* `link`: [n_phones], as the experiment file says (device-sim/link/book.h). max_packets: under way in each
 * direction, all phones together; each holds a buffer of the port. The book is the emulator's from here on,
 * also where it fails; NULL: the links need none. */
int sl_emulator_create(const struct sl_link_pair *, struct sl_link_book *, const struct sl_phone_addresses *,
    uint32_t n_phones, uint32_t max_packets, uint64_t seed, struct sl_emulator **);
/* The phone's radio goes through states; its links serve nothing while it is not connected. Without
 * this call it is always connected. */
void sl_emulator_set_radio(struct sl_emulator *, uint32_t phone, const struct sl_rrc_config *, uint64_t seed);
/* Cells serve the links of phones whose class names an environment; time 0 is start_ns. A handover with a new
 * address makes the phone appear at the edge as somebody else from then on (the address's third byte from the
 * end changes between two values): as behind an operator's NAT, the phone itself does not know. The book is
 * the emulator's from here on. -ENOMEM. */
int sl_emulator_set_cells(struct sl_emulator *, struct sl_radio_book *, uint64_t start_ns);
/* Its share of full transmission power from now on. Only a cell's uplink follows it: a constant rate, a trace
 * or a series says what came through, and not what was sent. */
void sl_emulator_set_power(struct sl_emulator *, uint32_t phone, double share);
/* Of a phone with cells; false: it has none. */
bool sl_emulator_cell(const struct sl_emulator *, uint32_t phone, struct sl_radio_state *);
void sl_emulator_free(struct sl_emulator *); /* what is under way goes back to the port */
void sl_emulator_bind(struct sl_emulator *, struct sl_queue *);
extern const struct sl_emulator_ops sl_fleet_emulator; /* its context is the struct sl_emulator */

/* Who is told what becomes of packets and radios, on the data lcore as it happens. */
struct sl_emulator_seen {
    uint64_t at_ns; /* of the call; a packet's departure and arrival are the model's to within it */
    uint32_t phone;
    uint32_t bytes; /* UDP payload; of a radio: 0 */
    bool up;
    enum sl_emulator_what {
        SL_EMULATOR_DROPPED,
        SL_EMULATOR_WOKEN, /* the radio was not connected: ready_ns */
        SL_EMULATOR_MOVED, /* handed over, to another address; at_ns is the slot's */
        SL_EMULATOR_TAKEN, /* into its link */
        SL_EMULATOR_ARRIVED,
    } what;
    enum sl_link_verdict verdict; /* DROPPED */
    uint64_t ready_ns;
};
struct sl_emulator_watch {
    void (*seen)(void *ctx, const struct sl_emulator_seen *); /* NULL: nobody */
    void *ctx;
    bool packets; /* also of those that are not dropped */
};
void sl_emulator_set_watch(struct sl_emulator *, const struct sl_emulator_watch *);

/* Data lcore only. */
void sl_emulator_stats(
    const struct sl_emulator *, uint32_t phone, struct sl_link_stats *up, struct sl_link_stats *down);
/* What the phone's links could carry, on average over that time, bit/s. */
void sl_emulator_rates(const struct sl_emulator *, uint32_t phone, uint64_t from_ns, uint64_t until_ns,
    double *up_bps, double *down_bps);
const struct sl_rrc *sl_emulator_radio(const struct sl_emulator *, uint32_t phone);
struct sl_emulator_queues {
    uint64_t up_bytes, down_bytes;      /* waiting in the link's queues */
    const struct sl_service *up, *down; /* for their capacity */
};
void sl_emulator_queues(const struct sl_emulator *, uint32_t phone, struct sl_emulator_queues *);
/* How late packets of a direction were fetched, ns. */
const struct sl_histogram *sl_emulator_lag(const struct sl_emulator *, bool up);
uint64_t sl_emulator_strays(const struct sl_emulator *); /* datagrams from or to nobody, freed */
