#include "device-sim/fleet/phone_links.h"

#include "device-sim/fleet/bodies.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check_addresses(
    const struct sl_experiment *e, const struct sl_phone_addresses *addresses, char *err, size_t err_cap)
{
    for (uint32_t i = 0; i < e->n_radios && addresses->by_port; i++)
        if (e->radio[i].new_address) {
            snprintf(err, err_cap,
                "radio '%s': handover.new_address needs an address for each phone; give "
                "edge.data.fleet_address one "
                "without a port",
                e->radio[i].name);
            return -EINVAL;
        }
    return 0;
}

int sl_phone_links_open(const struct sl_experiment *e, const struct sl_phone_addresses *addresses,
    uint32_t max_packets, uint64_t start_ns, struct sl_emulator **out, char *err, size_t err_cap)
{
    struct sl_link_pair *link = calloc(e->n_devices, sizeof(*link));
    struct sl_link_book *book = NULL;
    int rc = -ENOMEM;

    if (link) {
        rc = sl_link_book_open(e, &book, err, err_cap);
        if (rc)
            goto out;
        for (uint32_t i = 0; i < e->n_devices; i++)
            sl_link_book_phone(book, i, start_ns, &link[i]);
        rc = sl_emulator_create(link, book, addresses, e->n_devices, max_packets, e->seed, out);
        for (uint32_t i = 0; i < e->n_devices && !rc; i++) {
            struct sl_rrc_config radio;
            sl_rrc_config_of(&e->fleet[sl_experiment_class_of(e, i)], &radio);
            sl_emulator_set_radio(*out, i, &radio, e->seed);
        }
    }
    if (!rc && e->n_radios) {
        struct sl_radio_book *cells;
        rc = check_addresses(e, addresses, err, err_cap);
        if (!rc)
            rc = sl_radio_book_open(e, &cells, err, err_cap);
        if (rc) {
            sl_emulator_free(*out);
            *out = NULL;
            goto out;
        }
        rc = sl_emulator_set_cells(*out, cells, start_ns);
    }
    if (rc)
        snprintf(err, err_cap, "cannot set up the links of %u phones: %s", e->n_devices, strerror(-rc));
out:
    free(link);
    return rc;
}
