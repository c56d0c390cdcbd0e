#include "device-sim/fleet/phone_links.h"

#include "device-sim/fleet/bodies.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct sl_discipline_params queue_of(const struct sl_link_config *c)
{
    enum sl_discipline_kind kind = SL_DISCIPLINE_DROPTAIL;

    while (c->queue.kind[0] && strcmp(sl_discipline_name(kind), c->queue.kind) != 0)
        kind++;
    return (struct sl_discipline_params){.kind = kind,
        .bytes = c->queue.packets ? 0 : (uint64_t)c->queue_kib * 1024,
        .packets = c->queue.packets,
        .target_ns = (uint64_t)(c->queue.target_ms * 1e6),
        .interval_ns = (uint64_t)(c->queue.interval_ms * 1e6)};
}

static struct sl_impairment_params impairment_of(const struct sl_link_config *c)
{
    return (struct sl_impairment_params){.loss = {.good = c->loss.good,
                                             .bad = c->loss.bad,
                                             .good_to_bad = c->loss.good_to_bad,
                                             .bad_to_good = c->loss.bad_to_good},
        .jitter = {.mean_ns = (uint64_t)(c->jitter_ms * 1e6),
            .reorder = c->reorder.share,
            .reorder_by_ns = (uint64_t)(c->reorder.by_ms * 1e6)}};
}

static struct sl_link_params direction_of(const struct sl_link_config *c, double mbps)
{
    return (struct sl_link_params){.service = {.kind = SL_SERVICE_RATE, .rate_bps = mbps * 1e6},
        .queue = queue_of(c),
        .impairment = impairment_of(c),
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
