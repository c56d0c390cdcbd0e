#include "device-sim/fleet/bodies.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const double hz_per_ghz = 1e9, ns_per_ms = 1e6, ns_per_s = 1e9;

void sl_body_config_of(const struct sl_class_config *c, struct sl_body_config *out)
{
    *out = (struct sl_body_config){.clock = {.n_steps = c->dvfs.n, .flops = c->compute_gflops * 1e9},
        .thermal = {.ambient_c = c->thermal.ambient_c,
            .resistance_c_w = c->thermal.resistance_c_w,
            .capacity_j_c = c->thermal.capacity_j_c,
            .throttle_c = c->thermal.throttle_c,
            .release_c = c->thermal.release_c},
        .idle_w = c->idle_w,
        .send_w = c->radio_tx_w,
        .radiated_w = c->radio_out_w,
        .receive_w = c->radio_rx_w,
        .tail_w = c->rrc.tail_w,
        .promotion_w = c->rrc.promotion_w,
        .battery_j = sl_battery_capacity_j(c->battery_mah, c->battery_v),
        .battery_start = c->battery_start,
        .battery_floor = c->battery_floor};
    for (uint32_t i = 0; i < c->dvfs.n; i++) {
        out->clock.hz[i] = c->dvfs.ghz[i] * hz_per_ghz;
        out->clock.power_w[i] = c->dvfs.power_w[i];
    }
}

void sl_rrc_config_of(const struct sl_class_config *c, struct sl_rrc_config *out)
{
    const struct sl_rrc_keys *k = &c->rrc;

    *out = (struct sl_rrc_config){.inactivity_ns = (uint64_t)(k->inactivity_s * ns_per_s),
        .paging_ns = (uint64_t)(k->paging_ms * ns_per_ms),
        .drx_after_ns = (uint64_t)(k->drx_after_ms * ns_per_ms),
        .drx_cycle_ns = (uint64_t)(k->drx_cycle_ms * ns_per_ms)};
    sl_rrc_fit(out, k->promotion_median_ms * 1e-3, k->promotion_p95_ms * 1e-3);
}

int sl_bodies_create(const struct sl_experiment *e, uint64_t now_ns, struct sl_bodies *b)
{
    int rc = 0;

    b->n = e->n_devices;
    b->classes = calloc(e->n_classes, sizeof(*b->classes));
    b->body = calloc(e->n_devices, sizeof(*b->body));
    if (!b->classes || !b->body) {
        sl_bodies_free(b);
        return -ENOMEM;
    }
    for (uint32_t c = 0; c < e->n_classes; c++)
        sl_body_config_of(&e->fleet[c], &b->classes[c]);
    for (uint32_t i = 0; i < e->n_devices && !rc; i++)
        rc = sl_body_init(&b->body[i], &b->classes[sl_experiment_class_of(e, i)], now_ns);
    if (rc)
        sl_bodies_free(b);
    return rc;
}

void sl_bodies_free(struct sl_bodies *b)
{
    free(b->classes);
    free(b->body);
    memset(b, 0, sizeof(*b));
}

struct sl_body *sl_body_of(struct sl_bodies *b, const struct sl_plane *plane, uint32_t i, uint64_t now_ns)
{
    struct sl_plane_phone data;

    sl_plane_phone(plane, i, &data);
    sl_body_radio(&b->body[i], &data.radio, now_ns);
    return &b->body[i];
}
