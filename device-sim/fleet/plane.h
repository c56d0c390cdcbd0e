/* The data plane of all phones: port (and EAL, where it is DPDK's), endpoint, gradient store and emulator on
 * one data lcore, and the two rings that connect them with the control thread. All calls below are the
 * control thread's. */
#pragma once

#include "device-sim/body/body.h"
#include "device-sim/device/store.h"
#include "device-sim/fleet/emulator.h"
#include "device-sim/fleet/watch.h"
#include "device-sim/replay/replay.h"
#include "trainer/experiment/experiment.h"

struct sl_plane_config {
    const struct sl_experiment *experiment;
    const char *run_dir;
    uint64_t start_ns; /* of the run, on the lcore's clock */
    size_t message_bytes, gradient_bytes;
    /* What the emulator sees (emulator.h). Without `seen` it is kept for sl_plane_seen, as far as there is
     * room; `seen` is called on the lcore. */
    enum { SL_PLANE_WATCH_NOTHING, SL_PLANE_WATCH_DROPS, SL_PLANE_WATCH_PACKETS } watch;
    void (*seen)(void *app, const struct sl_emulator_seen *);
    void *app;
    const struct sl_replay *replay; /* what phones send that do not compute; NULL: they fill their buffers */
    struct sl_port *port; /* NULL: one of its own, and a thread; else who opened this one gives the turns */
};

struct sl_plane;
int sl_plane_open(const struct sl_plane_config *, struct sl_plane **, char *err, size_t err_cap);
void sl_plane_stop(struct sl_plane *); /* ends the lcore; figures can still be read */
void sl_plane_close(struct sl_plane *);
const char *sl_plane_eal_args(const struct sl_plane *);
void sl_plane_describe_lcore(const struct sl_plane *, char *text, size_t cap); /* sl_lcore_describe */
/* The other end of the port: 0 it is there, 1 not yet, -ETIMEDOUT; text says what is waited for
 * (sl_port_wait). */
int sl_plane_wait(struct sl_plane *, char *text, size_t cap);
struct sl_store *sl_plane_store(struct sl_plane *); /* for its buffers */

struct sl_addr sl_plane_phone_address(const struct sl_plane *, uint32_t phone);

/* Sessions; the answer comes by sl_plane_confirmed (a session's number is its phone's). */
int sl_plane_open_session(struct sl_plane *, uint32_t phone, const struct sl_session_config *);
int sl_plane_close_session(struct sl_plane *, uint32_t phone);
bool sl_plane_confirmed(struct sl_plane *, struct sl_lcore_confirm *);

/* Steps. An event of a step that was dropped, or of a session that is gone, does not come any more. */
void sl_plane_request(struct sl_plane *, uint32_t phone, const struct sl_request *, const struct sl_grid *);
void sl_plane_send(struct sl_plane *, uint32_t phone);
void sl_plane_drop(struct sl_plane *, uint32_t phone);
/* From now on: the pace of the phone's DATA (IP packets' bits; 0: none), and the share of its full
 * transmission power, in (0, 1]. */
void sl_plane_bound(struct sl_plane *, uint32_t phone, double rate_up_bps, double power_share);
bool sl_plane_pending(const struct sl_plane *); /* events or confirmations wait */
struct sl_lcore *sl_plane_lcore(struct sl_plane *);
bool sl_plane_event(struct sl_plane *, uint32_t *phone, struct sl_store_event *);

bool sl_plane_seen(struct sl_plane *, struct sl_emulator_seen *);
uint64_t sl_plane_unseen(const struct sl_plane *); /* for want of room */

/* Of a phone, at most 20 ms old, or 40 us for each phone where there are more than 512. */
struct sl_plane_phone {
    uint64_t bytes_up,
        bytes_down; /* UDP payload: sent by the phone, retransmissions included; arrived at it */
    struct sl_radio_times radio;
    uint64_t promotions;      /* of the radio: how often it was woken */
    uint64_t handovers, cell; /* cell: from 1; 0: its links have no cells */
    uint64_t retransmits, rtt_ns;
    double rate_up_bps, rate_down_bps; /* what its links could carry in the last second */
};
void sl_plane_phone(const struct sl_plane *, uint32_t phone, struct sl_plane_phone *);
const struct sl_watch *sl_plane_watch(const struct sl_plane *); /* a few phones, more closely */

/* After sl_plane_stop. */
struct sl_plane_totals {
    struct sl_link_stats up, down; /* over all phones; late_max is the greatest */
    struct sl_endpoint_stats endpoint;
    struct sl_store_stats store;
    struct sl_port_stats port;
    struct sl_lcore_stats lcore;
    uint64_t strays;
};
/* How late packets of a direction were fetched from their links, ns. */
const struct sl_histogram *sl_plane_lag(const struct sl_plane *, bool up);
void sl_plane_totals(struct sl_plane *, struct sl_plane_totals *);
