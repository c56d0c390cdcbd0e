#include "tests/plan/instance.h"

#include "trainer/tensor/rng.h"

#include <math.h>
#include <stdlib.h>

double draw(uint64_t seed, const char *name, uint64_t i, double low, double high)
{
    return low + (high - low) * ((double)(sl_rng_u64(sl_rng_key(seed, name), i) >> 11) * 0x1p-53);
}

void free_instance(struct sl_plan_scenario *s)
{
    if (!s)
        return;
    free(s->user);
    free(s->server);
    free(s->gain);
    free(s);
}

static void draw_server(struct sl_plan_server *m, uint64_t seed, uint32_t i)
{
    *m = (struct sl_plan_server){.bandwidth_hz = 20e6,
        .f_max_hz = draw(seed, "edge clock", i, 1e9, 3e9),
        .cores = draw(seed, "edge cores", i, 8, 16),
        .flop_per_cycle = 2,
        .kappa = 1e-27};
}

static void draw_user(struct sl_plan_user *u, const struct sl_plan_scenario *s, uint64_t seed, uint32_t n)
{
    const struct sl_plan_server *m = &s->server[n % s->n_servers];
    double share = m->f_max_hz * s->n_servers / s->n_users;
    double edge = (1 / share + m->kappa * share * share) / (m->cores * m->flop_per_cycle);

    *u = (struct sl_plan_user){.layer_flop = draw(seed, "layer", n, 1e9, 4e9),
        .cores = 4,
        .f_max_hz = draw(seed, "clock", n, 0.5e9, 1e9),
        .kappa = 1e-27,
        .p_min_w = 1e-3,
        .p_max_w = draw(seed, "power", n, 1, 2),
        .samples = draw(seed, "samples", n, 100, 1000),
        .max_layers = s->layers};
    double f = fmin(u->f_max_hz, cbrt(1 / (2 * u->kappa)));
    double ratio = exp(draw(seed, "ratio", n, log(0.3), log(3)));
    u->flop_per_cycle = (1 / f + u->kappa * f * f) / (ratio * edge * u->cores);
    /* The interior optimum at equal shares lies at layers (1 - depth). */
    double depth = draw(seed, "depth", n, 0.25, 0.9), gap = u->layer_flop * edge * fmax(1 - ratio, 0.05);
    u->lipschitz = sqrt(depth * depth * s->layers * gap * u->samples / 2);
    /* An uplink that costs as much as some layers do. */
    double b = 20e6 * s->n_servers / s->n_users, g = 1e-11;
    double rate = b * log2(1 + g * u->p_min_w / (s->noise_w_per_hz * b));
    u->up_bit = draw(seed, "bits", n, 0.2, 1) * u->layer_flop * edge * s->layers * rate / u->p_min_w;
}

struct sl_plan_scenario *open_instance(uint64_t seed, uint32_t users, uint32_t servers, uint32_t layers)
{
    struct sl_plan_scenario *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    *s = (struct sl_plan_scenario){.n_users = users,
        .n_servers = servers,
        .layers = layers,
        .noise_w_per_hz = pow(10, -134.0 / 10) * 1e-3 * 1e-3,
        .min_share = 0.01,
        .weights = {1, 1, 1},
        .user = calloc(users, sizeof *s->user),
        .server = calloc(servers, sizeof *s->server),
        .gain = calloc((size_t)users * servers, sizeof *s->gain)};
    if (!s->user || !s->server || !s->gain) {
        free_instance(s);
        return NULL;
    }
    for (uint32_t m = 0; m < servers; m++)
        draw_server(&s->server[m], seed, m);
    for (uint32_t n = 0; n < users; n++)
        draw_user(&s->user[n], s, seed, n);
    for (uint32_t i = 0; i < users * servers; i++)
        s->gain[i] = 1e-11 * exp(draw(seed, "gain", i, -1.5, 1.5));
    return s;
}
