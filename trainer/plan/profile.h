/* What the planner knows of a device and of the edge: fitted from heartbeats and from measured gangs alone,
 * never from an experiment's constants (rules P9).
 *
 * A device's beat gives sums since its start. The fit takes differences from one beat that came after a
 * finished step to the next such one, and forgets them by halves: recent ones win, since heat and links
 * change. What a beat says is not trusted: one that is no number, negative, more than could happen in the
 * time since the one before, or goes back, changes nothing but what the next ones are compared with. Every
 * result is finite, whatever came in.
 *
 * Plain data, no allocation. One thread at a time has a profile. Units: s, J, W, Hz, bit, bit/s, FLOP. */
#pragma once

#include "trainer/plan/scenario.h"

#include <stdbool.h>
#include <stdint.h>

/* A heartbeat, as the fit takes it. Sums are since the device's start. */
struct sl_plan_beat {
    double at_s; /* of the edge's clock: when it came */
    uint64_t steps;
    uint32_t cut;           /* at present */
    double step_computed_s; /* computing in the newest of those steps; 0: not said */
    double computed_s;      /* sum: computing */
    double turn_s; /* sum over steps: from a message's first byte up to its gradient's last byte down */
    double held_s; /* of which it was the edge's: sl_trainer_held_ns */
    double clock_hz, clock_max_hz,
        clock_cap_hz; /* now; at most; what the edge's plan allows, 0: nothing said */
    double temperature_c, battery, battery_floor;
    double rate_up_bps, rate_down_bps; /* what its links could carry of late; 0: not known */
    double rate_cap_bps;               /* at which the edge's plan paces it; 0: not at all */
    double rtt_s;
    uint64_t bytes_up, bytes_down, wakes;
    double wake_time_s;
    double energy_compute_j, energy_send_j, energy_receive_j, energy_tail_j, energy_idle_j,
        energy_promotion_j;
};

/* Sums of a beat, of which the fit takes differences. */
struct sl_profile_sums {
    double at_s, computed_s, turn_s, held_s, clock_hz;
    double compute_j, send_j, receive_j, tail_j, idle_j, promotion_j;
    uint64_t steps;
    uint32_t cut;
};

struct sl_plan_profile {
    struct sl_profile_sums last;   /* the newest beat that was believed */
    struct sl_profile_sums anchor; /* the newest one with a step more than the one before it */
    struct sl_profile_sums
        suspect; /* one that was not believed: if the next one goes on from it, the device began anew */
    bool has_last, has_anchor, has_suspect;
    uint64_t steps;    /* that the fit has seen */
    uint64_t refused;  /* beats not believed */
    uint32_t interval; /* beats since the anchor, for the mean clock */
    double interval_hz;

    /* Sums over intervals, halved every so many steps (profile.c). */
    struct sl_profile_window {
        double steps, layers, computed_s; /* layers, computed_s: of the steps' own computing */
        double link_s, wall_s, computing_s;
        double send_j, receive_j, tail_j, idle_j, promotion_j;
        double beats_up, inverse_up, beats_down, inverse_down; /* harmonic means of the rates told */
        double beats, rtt_s, clock_hz;
    } window;
    struct sl_profile_recent { /* likewise, halved sooner: heat changes it, and nothing else does */
        double layers, computed_s, computing_s, compute_j;
    } recent;
    /* Least squares over all clocks seen, forgotten slowly: seconds = cycles * layers / clock, and joules =
     * kappa * clock^3 * seconds. In GHz. */
    double cycles_xy, cycles_xx, kappa_xy, kappa_xx;
    double ceiling_hz; /* of the clock, as far as heat allows it */
    double clock_max_hz, rate_cap_bps, battery, battery_floor;
};

/* A device's step as the model has it. */
struct sl_profile_work {
    double layer_flop;                   /* forward and backward of one layer on the device's batch */
    double up_bit, down_bit;             /* of a step's message and gradient */
    double layer_up_bit, layer_down_bit; /* of a layer's adapter, over the steps between two aggregations */
    uint32_t min_layers, max_layers;     /* bounds of its cut */
};

void sl_profile_beat(struct sl_plan_profile *, const struct sl_plan_beat *);
/* The device was away: the next beat begins a new interval. What was learnt stays. */
void sl_profile_rest(struct sl_plan_profile *);
/* Enough steps seen to predict anything. Before that the functions below give zeros. */
bool sl_profile_ready(const struct sl_plan_profile *);

/* What the fit says of a device now. */
struct sl_profile_fit {
    double layer_s;      /* a layer, forward and backward, at the present clock and heat */
    double clock_hz;     /* its mean of late; 0: not told */
    double ceiling_hz;   /* what it can have at present: heat considered */
    double layer_cycles; /* a layer takes layer_cycles / clock; 0: no clock told */
    double kappa;        /* computing takes kappa clock^3 watts */
    double compute_w;    /* at the present clock */
    double link_s;       /* a step's time on its way, both directions, round trips and all */
    double up_bps;       /* that the uplink can carry, paced or not */
    double up_s, down_s; /* link_s without the round trip, split as the rates told suggest */
    double rtt_s;
    double send_j, receive_j, promotion_j; /* a step */
    double tail_w, idle_w;                 /* tail: mean over all time; idle: while it does not compute */
    double period_s;                       /* from step to step, waiting included */
};
void sl_profile_fit(const struct sl_plan_profile *, const struct sl_profile_work *, struct sl_profile_fit *);

/* Fills in what a scenario's user has of the device; samples, lipschitz, deadlines and whatever else it does
 * not know stay as they are. Efficiency 1 bit/s/Hz: bandwidth_max_hz is the uplink's measured
 * rate; of a phone that the plan paces, the rate that it says its link could carry. idle_w is idling's and
 * the tail's mean, kappa what computing adds to idling. */
void sl_profile_user(const struct sl_plan_profile *, const struct sl_profile_work *, struct sl_plan_user *);

/* A step at that cut with the clock that it has: time without the edge's part (compute, and the link both
 * ways), and all the energy that the phone takes from step to step, idling and the radio's tail included, if
 * the rest of the fleet keeps it waiting as long as now. */
void sl_profile_predict(const struct sl_plan_profile *, const struct sl_profile_work *, uint32_t cut,
    double *step_s, double *energy_j);

/* The edge's speed, from gangs of that much work that took so long. */
struct sl_profile_edge {
    double flop, seconds;
    uint64_t gangs;
};
void sl_profile_gang(struct sl_profile_edge *, double flop, double seconds);
double sl_profile_edge_flops(const struct sl_profile_edge *); /* FLOP/s; 0: nothing measured */
