/* What a phone is besides its protocol: clock, heat, battery, and what each cause takes from it. No clock of
 * its own (every call takes now_ns, which must not go back), no I/O, no allocation. One thread owns a body.
 *
 * The chip either computes, at the power of its DVFS step, or idles; the radio's power comes on top. Heat is
 * the chip's alone. docs/device-sim.md, "Phones", has sources and limits. */
#pragma once

#include "device-sim/body/battery.h"
#include "device-sim/body/clock.h"
#include "device-sim/body/thermal.h"

struct sl_body_config {
    struct sl_clock clock;
    struct sl_thermal thermal;
    double idle_w;                                 /* while it does not compute */
    double send_w, receive_w, tail_w, promotion_w; /* the radio's, on top; send: at full transmission power */
    double radiated_w; /* full transmission power, at the antenna; 0: send_w does not depend on it */
    double battery_j, battery_start, battery_floor; /* start, floor: shares of full */
};

/* The radio's time so far, since some beginning; connected: the sending and receiving included. */
struct sl_radio_times {
    uint64_t send_ns, receive_ns, connected_ns, promotion_ns;
};

struct sl_body {
    const struct sl_body_config *cfg; /* outlives it; phones of a class share one */
    uint64_t at_ns;                   /* the state below is of then */
    uint64_t job_end_ns;              /* the chip computes until then */
    uint64_t look_ns;                 /* the governor's next look */
    bool awake;
    uint32_t step;
    uint32_t cap, wanted_cap; /* no step above cap; wanted: from the next job on */
    double send_w;            /* at the present transmission power */
    double temperature_c;
    double plug_w; /* that reach the battery; 0: no charger */
    struct sl_battery battery;
    struct sl_radio_times radio;
    uint64_t tail_ns;
    double compute_s; /* spent computing */
};

/* Asleep, at ambient temperature and full clock. -EINVAL: no step, or no battery. */
int sl_body_init(struct sl_body *, const struct sl_body_config *, uint64_t now_ns);
/* Asleep a phone draws nothing (it may be charged, and cools down). */
void sl_body_awake(struct sl_body *, bool awake, uint64_t now_ns);
void sl_body_plug(struct sl_body *, bool plugged, double watts, uint64_t now_ns);
void sl_body_advance(struct sl_body *, uint64_t now_ns);

/* Starts to compute; one that is still under way is over. Returns how long it takes, steps of the clock on
 * the way included. */
uint64_t sl_body_compute(struct sl_body *, double flop, uint64_t now_ns);
/* Bounds from outside, 0: none. The clock: no DVFS step above it, the lowest one where all are, as a
 * governor with a maximum frequency does (rounded down; no mix of two steps). A job under way ends at the
 * clock that it began with; the next one begins below the new bound. A chip that its heat has slowed down
 * goes on from the step that it is at. Transmission power: from now on. */
void sl_body_bound_clock(struct sl_body *, double hz, uint64_t now_ns);
void sl_body_bound_power(struct sl_body *, double radiated_w, uint64_t now_ns);
/* The share of full transmission power that such a bound leaves, in (0, 1]. */
double sl_body_power_share(const struct sl_body_config *, double radiated_w);
/* The radio's account. */
void sl_body_radio(struct sl_body *, const struct sl_radio_times *, uint64_t now_ns);

struct sl_energy {
    double by_cause_j[SL_CAUSE_COUNT], total_j, charged_j;
};
void sl_body_energy(const struct sl_body *, struct sl_energy *);

struct sl_body_state {
    double battery; /* 0..1 */
    double temperature_c;
    double clock_hz, clock_max_hz;
    bool charging;
};
void sl_body_state(const struct sl_body *, struct sl_body_state *);
/* The battery is at its floor, or empty: the phone is to leave. And: it has charged enough to come back (5 %
 * of full above the floor, so that it does not come and go). */
bool sl_body_is_low(const struct sl_body *);
bool sl_body_has_recovered(const struct sl_body *);
