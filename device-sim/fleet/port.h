/* The port that the phones' datagrams leave and come by: DPDK's (with its EAL), or sockets of the kernel. */
#pragma once

#include "dataplane/io/lcore/port.h"
#include "device-sim/fleet/address.h"
#include "trainer/experiment/experiment.h"

enum { SL_EAL_ARGS_BYTES = 2048 };

struct sl_fleet_port {
    struct sl_port *port; /* NULL: not open */
    const struct sl_phone_addresses *addresses;
    uint32_t n_phones;
    bool eal;
    char eal_args[SL_EAL_ARGS_BYTES]; /* as EAL was given them; empty without it */
};
/* As edge.data.fleet_backend and its neighbours say. The addresses must outlive it, and the struct must stay
 * where it is. buffers: of the port's packet memory. Also after a failure it is to be closed. */
int sl_fleet_port_open(struct sl_fleet_port *, const struct sl_experiment *, const char *run_dir,
    const struct sl_phone_addresses *, uint32_t buffers, char *err, size_t err_cap);
void sl_fleet_port_close(struct sl_fleet_port *);
