/* Radio cells: who serves a phone, how well, and when. One environment (`struct sl_radio_config`) has cells,
 * a channel model, a way of moving and a scheduler; a phone is in one of them or in none. It serves the
 * phones' links (kind SL_SERVICE_GRANTED) of both directions as their sets' granter, one slot (TTI) after the
 * other:
 *
 *   packet, empty uplink queue -> scheduling request -> grant; then in each TTI: of those who have something
 * to send, the best by the scheduler's metric first, each as much of the band as its queue needs (uplink: as
 * little of the band as its power fills best), until the band is used; a tenth of the blocks comes by a
 * retransmission later.
 *
 * Position, path loss, shadowing and line of sight are looked at every measure_ms while a phone has traffic,
 * and a phone that has had none takes the best cell at once when it has some again (cell reselection). A
 * neighbour that is hysteresis_db better for time_to_trigger_ms takes over (event A3, TS 38.331 5.5.4.4):
 * both directions rest for the interruption, and the phone may get a new address. Everything random is a
 * function of (seed, phone or cell, time or counter). One thread; no allocation after creation. */
#pragma once

#include "device-sim/link/link.h"
#include "device-sim/radio/field.h"
#include "device-sim/radio/mcs.h"
#include "device-sim/radio/mobility.h"
#include "device-sim/radio/path_loss.h"

enum { SL_RADIO_CELLS_MAX = 256, SL_RADIO_ZONES_MAX = 64 };
enum sl_radio_scheduler { SL_SCHEDULE_PF, SL_SCHEDULE_RR, SL_SCHEDULE_MAX, SL_SCHEDULE_COUNT };
const char *sl_radio_scheduler_name(enum sl_radio_scheduler); /* "pf", "rr", "max" */
enum sl_radio_direction { SL_RADIO_UP, SL_RADIO_DOWN, SL_RADIO_DIRECTIONS };

struct sl_radio_config {
    struct sl_path_geometry geometry;
    enum sl_path_loss path_loss;
    bool shadowing;
    struct sl_fading fading; /* its Doppler follows the speed, with at least doppler_hz (what moves around a
                                still phone) */
    double bandwidth_hz;
    double usable;                        /* of the band: guard bands */
    double share[SL_RADIO_DIRECTIONS];    /* of time (TDD), after control channels' overhead */
    uint32_t layers[SL_RADIO_DIRECTIONS]; /* spatial streams, each with the power of its part */
    enum sl_cqi_table table;
    double tx_dbm[SL_RADIO_DIRECTIONS];          /* phone, base; with antenna gains */
    double noise_figure_db[SL_RADIO_DIRECTIONS]; /* of the receiver: base, phone */
    double interference_db;                      /* rise over thermal noise, constant */
    uint32_t n_cells;
    double cell_m[SL_RADIO_CELLS_MAX][2];
    struct sl_mobility_config mobility;
    uint32_t n_zones;
    struct {
        double x0, y0, x1, y1, loss_db; /* a tunnel, a building: more loss to and from there */
    } zone[SL_RADIO_ZONES_MAX];
    enum sl_radio_scheduler scheduler;
    double pf_window_s;
    uint64_t tti_ns, sr_period_ns, grant_ns, harq_ns;
    double bler;
    uint64_t measure_ns, time_to_trigger_ns, interruption_ns;
    double hysteresis_db;
    bool new_address;
    uint32_t background; /* phones of others in each cell, each on and off */
    double background_on_s, background_off_s;
};

struct sl_radio_place {   /* of a phone at the start */
    uint32_t environment; /* index; UINT32_MAX: in none */
    uint32_t cell;        /* near that one; UINT32_MAX: anywhere */
};

struct sl_radio;
/* config: [n], outlives it. place: [n_phones]. start_ns: time 0. `moved`: a phone has a new address from now
 * on; NULL allowed. -ENOMEM. */
int sl_radio_create(const struct sl_radio_config *config, uint32_t n, const struct sl_radio_place *place,
    uint32_t n_phones, uint64_t seed, uint64_t start_ns,
    void (*moved)(void *app, uint32_t phone, uint64_t now_ns), void *app, struct sl_radio **);
void sl_radio_free(struct sl_radio *);
/* Takes over the granting of both sets; phone i has link i of each. */
void sl_radio_bind(struct sl_radio *, struct sl_links *up, struct sl_links *down);

/* The phone sends with that share of tx_dbm from now on, 1 at first. What it hears, and so its cell, does not
 * depend on it. */
void sl_radio_set_power(struct sl_radio *, uint32_t phone, double share);

struct sl_radio_state {
    double x_m, y_m, speed_mps;
    uint32_t cell;
    double snr_db[SL_RADIO_DIRECTIONS]; /* without fading, over the whole band */
    uint32_t cqi[SL_RADIO_DIRECTIONS];
    double rate_bps[SL_RADIO_DIRECTIONS]; /* were it alone in its cell, without fading */
    uint32_t handovers;
    bool covered; /* some cell can be heard */
};
/* As of its last look: at the start, and while it has traffic. All zero for a phone that is in no
 * environment. */
void sl_radio_state(const struct sl_radio *, uint32_t phone, struct sl_radio_state *);
bool sl_radio_serves(const struct sl_radio *, uint32_t phone);
