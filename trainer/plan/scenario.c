#include "trainer/plan/scenario.h"

#include <math.h>

double sl_plan_path_gain(double km)
{
    return pow(10, -(128.1 + 37.6 * log10(km)) / 10);
}

/* Products of a few such numbers, squares and cubes stay finite and above 0. No quantity of a phone, a link
 * or a server comes near either. */
static const double least = 1e-60, most = 1e60;

/* Signal to noise over a whole band below which log2(1 + x) has no digits left. */
static const double least_snr = 1e-12;

static bool positive(double v)
{
    return v >= least && v <= most;
}

static bool not_negative(double v)
{
    return v == 0 || positive(v);
}

static bool server_works(const struct sl_plan_server *m)
{
    return positive(m->bandwidth_hz) && positive(m->f_max_hz) && positive(m->cores) &&
           positive(m->flop_per_cycle) && not_negative(m->kappa);
}

uint32_t sl_plan_room(const struct sl_plan_scenario *s, uint32_t m)
{
    /* The shares of a full server add up to one but for rounding. */
    double by_share = s->min_share > 0 ? floor(1 / s->min_share * (1 + 1e-12)) : s->n_users;
    uint32_t room = by_share < s->n_users ? (uint32_t)by_share : s->n_users;

    if (!server_works(&s->server[m]))
        return 0;
    return s->server[m].slots && s->server[m].slots < room ? s->server[m].slots : room;
}

bool sl_plan_can_serve(const struct sl_plan_scenario *s, uint32_t m, uint32_t n)
{
    const struct sl_plan_user *u = &s->user[n];
    double gain = sl_plan_gain(s, n, m);

    return sl_plan_room(s, m) > 0 && positive(gain) &&
           (u->up_bps_per_hz > 0 ||
               gain * u->p_max_w > least_snr * s->noise_w_per_hz * s->server[m].bandwidth_hz);
}

/* The printed objective has no downlink. */
static bool comes_down(
    const struct sl_plan_scenario *s, uint32_t m, const struct sl_plan_user *u, double gain)
{
    return u->down_bps > 0 || u->down_bit + u->layer_down_bit <= 0 ||
           gain * s->server[m].tx_psd_w_per_hz > least_snr * s->noise_w_per_hz;
}

const char *sl_plan_scenario_fault(const struct sl_plan_scenario *s, enum sl_plan_objective o)
{
    if (s->n_users == 0 || s->n_servers == 0)
        return "give at least one user and one server";
    if (s->layers < 2)
        return "layers: a model of fewer than 2 cannot be cut";
    if (!positive(s->noise_w_per_hz))
        return "noise_w_per_hz: give a number above 0";
    if (!(s->min_share >= 0 && s->min_share <= 1))
        return "min_share: give a share from 0 to 1";
    if (!not_negative(s->weights.delay) || !not_negative(s->weights.energy) ||
        !not_negative(s->weights.stability))
        return "weights: give numbers that are not negative";
    if (s->weights.delay + s->weights.energy <= 0)
        return "weights: delay and energy cannot both be 0";
    if (o == SL_PLAN_PHYSICAL && !not_negative(s->battery_price))
        return "battery_price: give a number that is not negative";
    for (uint32_t m = 0; m < s->n_servers; m++)
        if (sl_plan_room(s, m))
            return NULL;
    return "no server can serve anybody: each lacks bandwidth, clock, cores or FLOP per cycle above 0 (1e-60 "
           "to 1e60)";
}

/* Infinity too, but not what is not known. */
static bool absurd(double v)
{
    return v != 0 && (fabs(v) < least || fabs(v) > most);
}

static bool any_absurd(const struct sl_plan_user *u)
{
    const double v[] = {u->layer_flop, u->head_flop, u->cores, u->flop_per_cycle, u->f_max_hz, u->kappa,
        u->p_min_w, u->p_max_w, u->up_bit, u->down_bit, u->layer_up_bit, u->layer_down_bit, u->samples,
        u->lipschitz, u->rtt_s, u->wake_s, u->up_bps_per_hz, u->bandwidth_max_hz, u->down_bps, u->rx_w,
        u->idle_w, u->deadline_s, u->energy_j};

    for (size_t i = 0; i < sizeof v / sizeof *v; i++)
        if (absurd(v[i]))
            return true;
    return false;
}

const char *sl_plan_user_fault(const struct sl_plan_scenario *s, enum sl_plan_objective o, uint32_t n)
{
    const struct sl_plan_user *u = &s->user[n];
    bool reachable = false;

    if (any_absurd(u))
        return "a number of it is beyond 1e60 or nearer to 0 than 1e-60: give Hz, W, J, bit, s and FLOP";
    if (!positive(u->layer_flop) || !positive(u->cores) || !positive(u->flop_per_cycle) ||
        !positive(u->f_max_hz))
        return "layer_flop, cores, flop_per_cycle and f_max_hz must be above 0";
    if (!not_negative(u->kappa) || !not_negative(u->head_flop) || !positive(u->up_bit) ||
        !not_negative(u->down_bit))
        return "up_bit must be above 0; kappa, head_flop and down_bit must not be negative";
    if (!positive(u->p_max_w) || !not_negative(u->p_min_w) || u->p_min_w > u->p_max_w)
        return "p_max_w must be above 0 and p_min_w between 0 and it";
    if (o == SL_PLAN_PRINTED && u->p_min_w <= 0)
        return "p_min_w must be above 0: the printed objective falls for ever as power does (rules P3)";
    if (!positive(u->samples) || !not_negative(u->lipschitz))
        return "samples must be above 0 and lipschitz not negative";
    if (!not_negative(u->rtt_s) || !not_negative(u->wake_s) || !not_negative(u->rx_w) ||
        !not_negative(u->idle_w) || !not_negative(u->deadline_s) || !not_negative(u->energy_j))
        return "rtt_s, wake_s, rx_w, idle_w, deadline_s and energy_j must not be negative";
    if (!not_negative(u->up_bps_per_hz) || !not_negative(u->bandwidth_max_hz) || !not_negative(u->down_bps))
        return "up_bps_per_hz, bandwidth_max_hz and down_bps must not be negative";
    if (!not_negative(u->layer_up_bit) || !not_negative(u->layer_down_bit))
        return "layer_up_bit and layer_down_bit must not be negative";
    if (u->max_layers < 1)
        return "its memory holds no layer";
    if (u->min_layers > u->max_layers || u->min_layers > s->layers)
        return "it must keep more layers for privacy than its memory or the model has";
    if (o == SL_PLAN_PHYSICAL && u->min_layers > s->layers - 1)
        return "it must keep all layers for privacy: nothing is left for the edge";
    if (o == SL_PLAN_PHYSICAL && !(u->soc <= 1 && u->soc > u->soc_min && u->soc_min >= 0))
        return "its battery is at or below soc_min: it cannot take part";
    for (uint32_t m = 0; m < s->n_servers; m++) {
        if (!sl_plan_can_serve(s, m, n))
            continue;
        reachable = true;
        if (o == SL_PLAN_PHYSICAL && !comes_down(s, m, u, sl_plan_gain(s, n, m)))
            return "it has bits to receive and no downlink: give it down_bps, or each server that it reaches "
                   "tx_psd_w_per_hz";
    }
    return reachable ? NULL
                     : "no server can be reached: every gain is 0, negative, not a number, or too small for "
                       "the noise";
}
