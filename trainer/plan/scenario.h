/* What the planner is asked: users, servers, channels, weights (rules P1-P9; Liu & Zhao, arXiv 2409.20247,
 * whose symbols are in brackets). Units: Hz, W, J, bit, s, FLOP, W/Hz (rules P6). Plain data; whoever fills
 * it in owns the arrays. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_plan_user {
    double layer_flop;            /* one layer on this user's batch, forward and backward [psi_n] */
    double head_flop;             /* after the last layer, always at the edge; printed: unused */
    double cores, flop_per_cycle; /* [C_n, D_n]: FLOP/s = f * cores * flop_per_cycle */
    double f_max_hz, kappa;       /* power = kappa f^3, W/Hz^3, of the whole chip [kappa_1] */
    double p_min_w, p_max_w;      /* of transmission */
    double up_bit, down_bit;      /* activations up [s_n], gradients down; printed: up alone */
    double layer_up_bit,
        layer_down_bit;         /* physical: more for each layer of the device, its adapter's, a step */
    double samples, lipschitz;  /* [k_n, L]: the stability proxy is 2 L^2 / (k (1 - alpha/layers)) */
    double rtt_s, wake_s, rx_w; /* physical: round trip, radio promotion, power while receiving */
    double idle_w;              /* physical: drawn all the time, waiting too; kappa, p and rx_w come on top */
    double up_bps_per_hz;       /* physical: above 0, the uplink was measured: its rate is bandwidth times
                                   this, and its power p_max_w, whatever the plan. 0: Shannon's */
    double bandwidth_max_hz;    /* physical: that the user itself can use; 0: no bound */
    double down_bps;            /* physical: above 0, the downlink's rate, measured, not shared */
    double soc, soc_min;        /* physical: state of charge, and where the phone gives up; 0..1 */
    double deadline_s, energy_j; /* physical: bounds on a step's time, and on its energy without idle_w's; 0:
                                    none */
    uint32_t min_layers, max_layers; /* privacy's least depth; what its memory holds */
};

struct sl_plan_server {
    double bandwidth_hz;                 /* shared out among its users [b_max] */
    double f_max_hz;                     /* likewise [f_max,m] */
    double cores, flop_per_cycle, kappa; /* [C_m, D_m, kappa_2] */
    double tx_psd_w_per_hz;              /* physical: its transmitter's density, for the downlink's rate */
    uint32_t slots;                      /* users it can serve at a time; 0: any number */
};

struct sl_plan_weights {
    double delay, energy, stability;
};

struct sl_plan_scenario {
    uint32_t n_users, n_servers, layers; /* layers [Upsilon] */
    double noise_w_per_hz;               /* with the receiver's noise figure [sigma^2] */
    double min_share;     /* the smallest part of a server's bandwidth or clock that a user may have */
    double battery_price; /* physical: gamma of phi = 1 + gamma (1 - soc) / (soc - soc_min) */
    bool asynchronous;    /* physical: the sum of all steps' times counts, not the longest (rules P2) */
    struct sl_plan_weights weights;
    struct sl_plan_user *user;     /* [n_users] */
    struct sl_plan_server *server; /* [n_servers] */
    double *gain;                  /* [n_users][n_servers], power gain of the channel [g] */
};

enum sl_plan_objective { SL_PLAN_PRINTED, SL_PLAN_PHYSICAL };

/* Linear power gain of a path of km kilometres: 128.1 + 37.6 log10(km) dB (the paper's). */
double sl_plan_path_gain(double km);

static inline double sl_plan_gain(const struct sl_plan_scenario *s, uint32_t user, uint32_t server)
{
    return s->gain[(size_t)user * s->n_servers + server];
}
/* Users one server may have: by its slots, and by the smallest share. */
uint32_t sl_plan_room(const struct sl_plan_scenario *, uint32_t server);

/* What makes a user or the whole scenario impossible to plan, as one sentence; NULL: nothing. A server that
 * can serve nobody is no error while others can. */
const char *sl_plan_scenario_fault(const struct sl_plan_scenario *, enum sl_plan_objective);
const char *sl_plan_user_fault(const struct sl_plan_scenario *, enum sl_plan_objective, uint32_t user);
bool sl_plan_can_serve(const struct sl_plan_scenario *, uint32_t server, uint32_t user);
