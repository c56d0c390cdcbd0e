#include "device-sim/fleet/phone_links.h"

#include "device-sim/fleet/bodies.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct sl_link_params direction_of(const struct sl_link_config *c, double mbps)
{
    return (struct sl_link_params){.service = {.kind = SL_SERVICE_RATE, .rate_bps = mbps * 1e6},
        .queue = {.kind = SL_DISCIPLINE_DROPTAIL, .bytes = (uint64_t)c->queue_kib * 1024},
        .impairment.loss.good = c->loss,
        .delay_ns = (uint64_t)(c->rtt_ms / 2 * 1e6)};
}

static struct sl_phone_link link_of(const struct sl_link_config *c)
{
    return (struct sl_phone_link){.up = direction_of(c, c->up_mbps), .down = direction_of(c, c->down_mbps)};
}

int sl_phone_links_open(const struct sl_experiment *e, const struct sl_phone_addresses *addresses,
    uint32_t max_packets, struct sl_emulator **out, char *err, size_t err_cap)
{
    struct sl_phone_link *link = calloc(e->n_devices, sizeof(*link));
    int rc = -ENOMEM;

    if (link) {
        for (uint32_t i = 0; i < e->n_devices; i++)
            link[i] = link_of(&e->fleet[sl_experiment_class_of(e, i)].link);
        rc = sl_emulator_create(link, addresses, e->n_devices, max_packets, e->seed, out);
        for (uint32_t i = 0; i < e->n_devices && !rc; i++) {
            struct sl_rrc_config radio;
            sl_rrc_config_of(&e->fleet[sl_experiment_class_of(e, i)], &radio);
            sl_emulator_set_radio(*out, i, &radio, e->seed);
        }
    }
    free(link);
    if (rc)
        snprintf(err, err_cap, "cannot set up the links of %u phones: %s", e->n_devices, strerror(-rc));
    return rc;
}
