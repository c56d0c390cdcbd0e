#include "trainer/plan/plan.h"

#include <math.h>
#include <string.h>

static double stability_of(const struct sl_plan_scenario *s, uint32_t n, double alpha)
{
    const struct sl_plan_user *u = &s->user[n];
    double rest = 1 - alpha / s->layers, bound = 2 * u->lipschitz * u->lipschitz / u->samples;

    return bound == 0 ? 0 : rest > 0 ? bound / rest : INFINITY;
}

static double rate_up(
    const struct sl_plan_scenario *s, uint32_t n, uint32_t m, double power, double bandwidth)
{
    if (s->user[n].up_bps_per_hz > 0)
        return bandwidth * s->user[n].up_bps_per_hz;
    return bandwidth * log2(1 + sl_plan_gain(s, n, m) * power / (s->noise_w_per_hz * bandwidth));
}

static double rate_down(const struct sl_plan_scenario *s, uint32_t n, uint32_t m, double bandwidth)
{
    if (s->user[n].down_bps > 0)
        return s->user[n].down_bps;
    return bandwidth * log2(1 + sl_plan_gain(s, n, m) * s->server[m].tx_psd_w_per_hz / s->noise_w_per_hz);
}

double sl_plan_battery_weight(const struct sl_plan_scenario *s, uint32_t n)
{
    const struct sl_plan_user *u = &s->user[n];

    return 1 + s->battery_price * (1 - u->soc) / (u->soc - u->soc_min);
}

double sl_plan_idle_weight(const struct sl_plan_scenario *s, const struct sl_plan_scales *scales, uint32_t n)
{
    return s->weights.energy * sl_plan_battery_weight(s, n) * s->user[n].idle_w / scales->energy0_j;
}

/* Per layer on the device, and at its server. */
static void printed_cost(
    const struct sl_plan_scenario *s, uint32_t n, const struct sl_plan_choice *c, struct sl_plan_cost *out)
{
    const struct sl_plan_user *u = &s->user[n];
    const struct sl_plan_server *m = &s->server[c->server];
    double device = u->layer_flop / (u->cores * u->flop_per_cycle),
           edge = u->layer_flop / (m->cores * m->flop_per_cycle);
    double left = (double)s->layers - c->alpha;

    /* A user whose layers are all its own sends nothing and has no server's clock. */
    double uplink =
        left > 0 ? u->up_bit * c->power_w / rate_up(s, n, c->server, c->power_w, c->bandwidth_hz) : 0;
    out->delay_s = c->alpha * device / c->f_hz + (left > 0 ? left * edge / c->f_edge_hz : 0);
    out->energy_j = c->alpha * u->kappa * c->f_hz * c->f_hz * device +
                    left * m->kappa * c->f_edge_hz * c->f_edge_hz * edge + uplink;
    out->stability = stability_of(s, n, c->alpha);
}

static void physical_cost(
    const struct sl_plan_scenario *s, uint32_t n, const struct sl_plan_choice *c, struct sl_plan_cost *out)
{
    const struct sl_plan_user *u = &s->user[n];
    const struct sl_plan_server *m = &s->server[c->server];
    double device = c->alpha * u->layer_flop / (u->cores * u->flop_per_cycle);
    double edge = ((s->layers - c->alpha) * u->layer_flop + u->head_flop) / (m->cores * m->flop_per_cycle);
    double up_bit = u->up_bit + c->alpha * u->layer_up_bit,
           down_bit = u->down_bit + c->alpha * u->layer_down_bit;
    double up = up_bit / rate_up(s, n, c->server, c->power_w, c->bandwidth_hz);
    double down = down_bit > 0 ? down_bit / rate_down(s, n, c->server, c->bandwidth_hz) : 0;

    out->delay_s = device / c->f_hz + up + down + u->rtt_s + u->wake_s + edge / c->f_edge_hz;
    out->energy_j = u->kappa * c->f_hz * c->f_hz * device + c->power_w * up + u->rx_w * down;
    out->stability = stability_of(s, n, c->alpha);
}

static void exceed(double *worst, double value, double limit)
{
    double by = limit > 0 ? value / limit - 1 : value > limit ? INFINITY : 0;

    if (!(by <= *worst)) /* what is not a number is the worst */
        *worst = isnan(by) ? INFINITY : by;
}

static void user_violation(const struct sl_plan_scenario *s, enum sl_plan_objective o, uint32_t n,
    const struct sl_plan_choice *c, const struct sl_plan_cost *cost, double *worst)
{
    const struct sl_plan_user *u = &s->user[n];
    const struct sl_plan_server *m = &s->server[c->server];
    uint32_t least = u->min_layers ? u->min_layers : 1,
             most = s->layers < u->max_layers ? s->layers : u->max_layers;

    if (o == SL_PLAN_PHYSICAL && most > s->layers - 1)
        most = s->layers - 1;
    if (c->alpha < least || c->alpha > most)
        *worst = INFINITY;
    exceed(worst, c->power_w, u->p_max_w);
    exceed(worst, u->p_min_w, c->power_w);
    exceed(worst, c->f_hz, u->f_max_hz);
    exceed(worst, s->min_share * m->bandwidth_hz, c->bandwidth_hz);
    exceed(worst, s->min_share * m->f_max_hz, c->f_edge_hz);
    if (o != SL_PLAN_PHYSICAL)
        return;
    if (u->up_bps_per_hz > 0) /* the power that was measured, no other */
        exceed(worst, u->p_max_w, c->power_w);
    if (u->bandwidth_max_hz > 0)
        exceed(worst, c->bandwidth_hz, u->bandwidth_max_hz);
    if (u->deadline_s > 0)
        exceed(worst, cost->delay_s, u->deadline_s);
    if (u->energy_j > 0)
        exceed(worst, cost->energy_j, u->energy_j);
}

static void server_violation(const struct sl_plan_scenario *s, const struct sl_plan *p, double *worst)
{
    for (uint32_t m = 0; m < s->n_servers; m++) {
        double bandwidth = 0, clock = 0;
        uint32_t users = 0;
        for (uint32_t n = 0; n < p->n; n++) {
            if (p->user[n].server != m)
                continue;
            bandwidth += p->user[n].bandwidth_hz;
            clock += p->user[n].f_edge_hz;
            users++;
        }
        if (users == 0)
            continue;
        exceed(worst, bandwidth, s->server[m].bandwidth_hz);
        exceed(worst, clock, s->server[m].f_max_hz);
        if (users > sl_plan_room(s, m))
            *worst = INFINITY;
    }
}

void sl_plan_user_cost(const struct sl_plan_scenario *s, enum sl_plan_objective o, uint32_t n,
    const struct sl_plan_choice *c, struct sl_plan_cost *out)
{
    (o == SL_PLAN_PRINTED ? printed_cost : physical_cost)(s, n, c, out);
}

/* Of a whole step, which synchronous devices wait for the slowest of. */
static double idle_energy(
    const struct sl_plan_scenario *s, uint32_t n, const struct sl_plan_choice *c, double slowest_s)
{
    struct sl_plan_cost own = {.delay_s = slowest_s};

    if (s->user[n].idle_w > 0 && s->asynchronous)
        physical_cost(s, n, c, &own);
    return s->user[n].idle_w * own.delay_s;
}

void sl_plan_score(const struct sl_plan_scenario *s, enum sl_plan_objective o, const struct sl_plan *p,
    struct sl_plan_cost *costs, struct sl_plan_score *out)
{
    struct sl_plan_scales scales = {1, 1, 1};
    double energy = 0;

    memset(out, 0, sizeof *out);
    if (o == SL_PLAN_PHYSICAL)
        sl_plan_scales(s, &scales);
    for (uint32_t n = 0; n < p->n; n++) {
        struct sl_plan_cost cost = {0};
        const struct sl_plan_choice *c = &p->user[n];
        if (c->server != SL_PLAN_NOBODY) {
            sl_plan_user_cost(s, o, n, c, &cost);
            user_violation(s, o, n, c, &cost, &out->violation);
            out->planned++;
            out->delay_s = o == SL_PLAN_PRINTED || s->asynchronous ? out->delay_s + cost.delay_s
                                                                   : fmax(out->delay_s, cost.delay_s);
            out->energy_j += cost.energy_j;
            out->stability += cost.stability;
            energy += (o == SL_PLAN_PRINTED ? 1 : sl_plan_battery_weight(s, n)) * cost.energy_j;
        }
        if (costs)
            costs[n] = cost;
    }
    for (uint32_t n = 0; n < p->n && o == SL_PLAN_PHYSICAL; n++) {
        const struct sl_plan_choice *c = &p->user[n];
        double idling = c->server == SL_PLAN_NOBODY ? 0 : idle_energy(s, n, c, out->delay_s);
        out->energy_j += idling;
        energy += sl_plan_battery_weight(s, n) * idling;
        if (costs)
            costs[n].energy_j += idling;
    }
    server_violation(s, p, &out->violation);
    out->objective =
        s->weights.delay * out->delay_s / scales.tau0_s + s->weights.energy * energy / scales.energy0_j +
        (s->weights.stability > 0 ? s->weights.stability * out->stability / scales.stability0 : 0);
}

static uint32_t best_server(const struct sl_plan_scenario *s, uint32_t n)
{
    uint32_t best = SL_PLAN_NOBODY;

    for (uint32_t m = 0; m < s->n_servers; m++)
        if (sl_plan_can_serve(s, m, n) &&
            (best == SL_PLAN_NOBODY || sl_plan_gain(s, n, m) > sl_plan_gain(s, n, best)))
            best = m;
    return best;
}

void sl_plan_scales(const struct sl_plan_scenario *s, struct sl_plan_scales *out)
{
    /* As if users were spread evenly: a share is the same whatever server is best. */
    double part = fmin(1, (double)s->n_servers / s->n_users), drawn = 0;

    memset(out, 0, sizeof *out);
    for (uint32_t n = 0; n < s->n_users; n++) {
        const struct sl_plan_user *u = &s->user[n];
        uint32_t m = best_server(s, n);
        if (m == SL_PLAN_NOBODY || sl_plan_user_fault(s, SL_PLAN_PHYSICAL, n))
            continue;
        struct sl_plan_cost cost;
        struct sl_plan_choice c = {.alpha = s->layers / 2,
            .server = m,
            .power_w = u->p_max_w,
            .bandwidth_hz = s->server[m].bandwidth_hz * part,
            .f_hz = u->f_max_hz,
            .f_edge_hz = s->server[m].f_max_hz * part};
        if (u->bandwidth_max_hz > 0)
            c.bandwidth_hz = fmin(c.bandwidth_hz, u->bandwidth_max_hz);
        physical_cost(s, n, &c, &cost);
        out->tau0_s = s->asynchronous ? out->tau0_s + cost.delay_s : fmax(out->tau0_s, cost.delay_s);
        out->energy0_j += sl_plan_battery_weight(s, n) * cost.energy_j;
        out->stability0 += cost.stability;
        drawn += sl_plan_battery_weight(s, n) * u->idle_w * (s->asynchronous ? cost.delay_s : 1);
    }
    out->energy0_j += drawn * (s->asynchronous ? 1 : out->tau0_s);
    out->tau0_s = out->tau0_s > 0 ? out->tau0_s : 1;
    out->energy0_j = out->energy0_j > 0 ? out->energy0_j : 1;
    out->stability0 = out->stability0 > 0 ? out->stability0 : 1;
}
