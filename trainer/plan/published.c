#include "trainer/plan/published.h"

#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>

/* Given: 32 layers, batch 512, hidden 1024, 512 to 1024 tokens, 20 MHz, -134 dBm/Hz, 1 to 2 W, clocks of 0.5
 * to 1 and 1 to 3 GHz, 4 to 6 and 2560 to 5120 cores, 1 and 1 to 2 FLOP per cycle. */
enum { LAYERS = 32, BATCH = 512, HIDDEN = 1024 };
/* Chosen: the paper has none of these. kappa makes a phone's chip 1 W at 1 GHz and a server 270 W at 3 GHz
 * with all its cores; distances are those of a cell of 500 m; L^2 puts the stability term beside a layer's
 * cost. */
static const double kappa_device = 1e-27, kappa_edge = 1e-26, nearest_km = 0.05, farthest_km = 0.5;
static const double bytes_per_value = 2, noise = 3.981071705534973e-17 * 1e-3; /* -134 dBm in W */

static double draw(uint64_t seed, const char *name, uint64_t i, double low, double high)
{
    return low + (high - low) * ((double)(sl_rng_u64(sl_rng_key(seed, name), i) >> 11) * 0x1p-53);
}

static double layer_cost(double clock, double kappa, double flop_per_cycle)
{
    return (1 / clock + kappa * clock * clock) / flop_per_cycle;
}

static void draw_user(
    struct sl_plan_user *u, const struct sl_plan_scenario *s, uint64_t seed, uint32_t n, bool open)
{
    const struct sl_plan_server *m = &s->server[n % s->n_servers];
    double tokens = floor(draw(seed, "tokens", n, 512, 1025));
    double share = m->f_max_hz * fmin(1, (double)s->n_servers / s->n_users);
    double edge = layer_cost(share, m->kappa, m->cores * m->flop_per_cycle);

    *u = (struct sl_plan_user){
        .layer_flop = 72.0 * BATCH * tokens * HIDDEN * HIDDEN + 12.0 * BATCH * tokens * tokens * HIDDEN,
        .cores = floor(draw(seed, "cores", n, 4, 7)),
        .flop_per_cycle = 1,
        .f_max_hz = draw(seed, "clock", n, 0.5e9, 1e9),
        .kappa = kappa_device,
        .p_min_w = 1e-3,
        .p_max_w = draw(seed, "power", n, 1, 2),
        .up_bit = 8 * bytes_per_value * BATCH * tokens * HIDDEN,
        .samples = floor(draw(seed, "samples", n, 500, 2001)),
        .soc = 1,
        .max_layers = LAYERS};
    double f = fmin(u->f_max_hz, cbrt(1 / (2 * u->kappa))),
           ratio = exp(draw(seed, "ratio", n, log(0.3), log(3)));
    if (open)
        u->flop_per_cycle = layer_cost(f, u->kappa, u->cores) / (ratio * edge);
    double depth = draw(seed, "depth", n, 0.25, 0.9);
    u->lipschitz =
        sqrt(depth * depth * LAYERS * u->layer_flop * edge * fmax(1 - ratio, 0.05) * u->samples / 2);
}

struct sl_plan_scenario *sl_published(uint64_t seed, uint32_t users, uint32_t servers, bool open)
{
    struct sl_plan_scenario *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    *s = (struct sl_plan_scenario){.n_users = users,
        .n_servers = servers,
        .layers = LAYERS,
        .noise_w_per_hz = noise,
        .min_share = 1e-4,
        .weights = {1, 1, 1},
        .user = calloc(users, sizeof *s->user),
        .server = calloc(servers, sizeof *s->server),
        .gain = calloc((size_t)users * servers, sizeof *s->gain)};
    if (!s->user || !s->server || !s->gain) {
        sl_published_free(s);
        return NULL;
    }
    for (uint32_t m = 0; m < servers; m++)
        s->server[m] = (struct sl_plan_server){.bandwidth_hz = 20e6,
            .f_max_hz = draw(seed, "edge clock", m, 1e9, 3e9),
            .cores = floor(draw(seed, "edge cores", m, 2560, 5121)),
            .flop_per_cycle = draw(seed, "edge flop", m, 1, 2),
            .kappa = kappa_edge};
    for (uint32_t n = 0; n < users; n++)
        draw_user(&s->user[n], s, seed, n, open);
    for (uint64_t i = 0; i < (uint64_t)users * servers; i++)
        s->gain[i] = sl_plan_path_gain(draw(seed, "distance", i, nearest_km, farthest_km));
    return s;
}

void sl_published_free(struct sl_plan_scenario *s)
{
    if (!s)
        return;
    free(s->user);
    free(s->server);
    free(s->gain);
    free(s);
}
