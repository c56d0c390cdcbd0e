#include "tests/plan/instance.h"
#include "tests/plan/physical_exact.h"

#include <math.h>
#include <stdlib.h>

static void draw_user(struct sl_plan_user *u, const struct sl_plan_scenario *s, uint64_t seed, uint32_t n)
{
    const struct sl_plan_server *m = &s->server[n % s->n_servers];
    double share = fmin(1, (double)s->n_servers / s->n_users);
    double edge = 1 / (m->f_max_hz * share * m->cores * m->flop_per_cycle);
    double ratio = exp(draw(seed, "ratio", n, log(0.3), log(3)));

    *u = (struct sl_plan_user){.layer_flop = draw(seed, "layer", n, 2e9, 8e9),
        .head_flop = 1e9,
        .cores = 4,
        .f_max_hz = draw(seed, "clock", n, 1.5e9, 3e9),
        .p_min_w = 1e-6,
        .p_max_w = draw(seed, "power", n, 0.1, 0.3),
        .up_bit = draw(seed, "bits", n, 2e6, 8e6),
        .samples = draw(seed, "samples", n, 500, 2000),
        .lipschitz = 1,
        .rtt_s = 0.02,
        .wake_s = n % 2 ? 0.05 : 0,
        .rx_w = 0.5,
        .idle_w = n % 2 ? draw(seed, "idle", n, 0.2, 0.8) : 0,
        .soc = draw(seed, "soc", n, 0.3, 1),
        .soc_min = 0.1,
        .max_layers = s->layers};
    u->down_bit = u->up_bit;
    if (n % 2)
        u->layer_up_bit = u->layer_down_bit = draw(seed, "adapter", n, 0, 0.3) * u->up_bit;
    u->kappa = draw(seed, "watt", n, 1, 4) / pow(u->f_max_hz, 3);
    u->flop_per_cycle = 1 / (ratio * edge * u->cores * u->f_max_hz);
    if (n % 3 == 2) { /* measured, no more than the radio of the phone carries */
        u->up_bps_per_hz = draw(seed, "efficiency", n, 1, 5);
        u->bandwidth_max_hz = draw(seed, "own bandwidth", n, 0.3, 1) * m->bandwidth_hz;
        u->down_bps = draw(seed, "rate down", n, 20e6, 80e6);
    }
}

struct sl_plan_scenario *physical_instance(uint64_t seed, uint32_t users, uint32_t servers, uint32_t layers)
{
    struct sl_plan_scenario *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    *s = (struct sl_plan_scenario){.n_users = users,
        .n_servers = servers,
        .layers = layers,
        .noise_w_per_hz = 1.26e-20,
        .min_share = 0.001,
        .battery_price = 0.5,
        .weights = {1, 0.1, 0.15},
        .user = calloc(users, sizeof *s->user),
        .server = calloc(servers, sizeof *s->server),
        .gain = calloc((size_t)users * servers, sizeof *s->gain)};
    if (!s->user || !s->server || !s->gain) {
        free_instance(s);
        return NULL;
    }
    for (uint32_t m = 0; m < servers; m++)
        s->server[m] = (struct sl_plan_server){.bandwidth_hz = draw(seed, "bandwidth", m, 10e6, 30e6),
            .f_max_hz = draw(seed, "edge clock", m, 0.1e9, 0.5e9),
            .cores = 8,
            .flop_per_cycle = 4,
            .kappa = 1e-27,
            .tx_psd_w_per_hz = 1e-7};
    for (uint32_t n = 0; n < users; n++)
        draw_user(&s->user[n], s, seed, n);
    for (uint32_t i = 0; i < users * servers; i++)
        s->gain[i] = 1e-11 * exp(draw(seed, "gain", i, -1.5, 1.5));
    return s;
}
