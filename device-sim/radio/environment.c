#include "device-sim/radio/environment.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct sl_radio_book {
    const struct sl_experiment *e;
    struct sl_path path[SL_RADIOS_MAX];
    struct sl_radio_config config[SL_RADIOS_MAX];
};

static uint64_t ns_of(double ms)
{
    return (uint64_t)llround(ms * 1e6);
}

static void channel_of(const struct sl_radio_keys *k, struct sl_radio_config *c)
{
    c->geometry = (struct sl_path_geometry){k->carrier_ghz, k->base_m, k->phone_m};
    while (strcmp(sl_path_loss_name(c->path_loss), k->path_loss) != 0)
        c->path_loss++;
    c->shadowing = k->shadowing;
    bool none = strcmp(k->fading, "none") == 0;
    c->fading = (struct sl_fading){.branches = none ? 0 : k->diversity,
        .rice_k = strcmp(k->fading, "rician") == 0 ? pow(10, k->rice_k_db / 10) : 0,
        .doppler_hz = k->doppler_hz};
    c->bandwidth_hz = k->bandwidth_mhz * 1e6;
    c->usable = k->usable;
    c->share[SL_RADIO_UP] = k->up_share;
    c->share[SL_RADIO_DOWN] = k->down_share;
    c->layers[SL_RADIO_UP] = k->up_layers;
    c->layers[SL_RADIO_DOWN] = k->down_layers;
    c->table = strcmp(k->modulation, "256qam") == 0 ? SL_CQI_256QAM : SL_CQI_64QAM;
    c->tx_dbm[SL_RADIO_UP] = k->phone_dbm;
    c->tx_dbm[SL_RADIO_DOWN] = k->base_dbm;
    c->noise_figure_db[SL_RADIO_UP] = k->base_noise_db;
    c->noise_figure_db[SL_RADIO_DOWN] = k->phone_noise_db;
    c->interference_db = k->interference_db;
}

static void places_of(const struct sl_radio_keys *k, const struct sl_path *path, struct sl_radio_config *c)
{
    c->n_cells = k->n_cells;
    memcpy(c->cell_m, k->cell_m, k->n_cells * sizeof(c->cell_m[0]));
    c->mobility = (struct sl_mobility_config){.width_m = k->width_m,
        .height_m = k->height_m,
        .speed_min_mps = k->speed_mps[0],
        .speed_max_mps = k->speed_mps[1],
        .pause_s = k->pause_s,
        .memory = k->memory,
        .path = path,
        .spread_s = k->spread_s};
    while (strcmp(sl_mobility_name(c->mobility.kind), k->mobility) != 0)
        c->mobility.kind++;
    c->n_zones = k->n_zones;
    for (uint32_t i = 0; i < k->n_zones; i++) {
        const double *z = k->zone[i];
        c->zone[i].x0 = z[0];
        c->zone[i].y0 = z[1];
        c->zone[i].x1 = z[2];
        c->zone[i].y1 = z[3];
        c->zone[i].loss_db = z[4];
    }
}

static void service_of(const struct sl_radio_keys *k, struct sl_radio_config *c)
{
    while (strcmp(sl_radio_scheduler_name(c->scheduler), k->scheduler) != 0)
        c->scheduler++;
    c->pf_window_s = k->window_s;
    c->tti_ns = ns_of(k->tti_ms);
    c->sr_period_ns = ns_of(k->sr_ms);
    c->grant_ns = ns_of(k->grant_ms);
    c->harq_ns = ns_of(k->harq_ms);
    c->bler = k->bler;
    c->measure_ns = ns_of(k->measure_ms);
    c->hysteresis_db = k->hysteresis_db;
    c->time_to_trigger_ns = ns_of(k->trigger_ms);
    c->interruption_ns = ns_of(k->interruption_ms);
    c->new_address = k->new_address;
    c->background = k->background;
    c->background_on_s = k->background_on_s;
    c->background_off_s = k->background_off_s;
}

int sl_radio_book_open(const struct sl_experiment *e, struct sl_radio_book **out, char *err, size_t err_cap)
{
    struct sl_radio_book *b = calloc(1, sizeof *b);
    int rc = 0;

    if (!b) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    b->e = e;
    for (uint32_t i = 0; i < e->n_radios && !rc; i++) {
        const struct sl_radio_keys *k = &e->radio[i];
        if (k->path[0])
            rc = sl_path_load(k->path, &b->path[i], err, err_cap);
        channel_of(k, &b->config[i]);
        places_of(k, &b->path[i], &b->config[i]);
        service_of(k, &b->config[i]);
    }
    if (rc) {
        sl_radio_book_close(b);
        return rc;
    }
    *out = b;
    return 0;
}

void sl_radio_book_close(struct sl_radio_book *b)
{
    if (!b)
        return;
    for (uint32_t i = 0; i < b->e->n_radios; i++)
        sl_path_free(&b->path[i]);
    free(b);
}

const struct sl_radio_config *sl_radio_book_config(const struct sl_radio_book *b, uint32_t environment)
{
    return &b->config[environment];
}

int sl_radio_book_create(const struct sl_radio_book *b, uint64_t start_ns,
    void (*moved)(void *, uint32_t, uint64_t), void *app, struct sl_radio **out)
{
    struct sl_radio_place *place = calloc(b->e->n_devices, sizeof *place);

    if (!place)
        return -ENOMEM;
    for (uint32_t i = 0; i < b->e->n_devices; i++) {
        const struct sl_link_config *l = &b->e->fleet[sl_experiment_class_of(b->e, i)].link;
        place[i].environment = l->radio[0] ? l->environment : UINT32_MAX;
        place[i].cell = l->cell ? l->cell - 1 : UINT32_MAX;
    }
    int rc = sl_radio_create(
        b->config, b->e->n_radios, place, b->e->n_devices, b->e->seed, start_ns, moved, app, out);
    free(place);
    return rc;
}
