/* Which queue of a device a datagram comes by: the one of its UDP port (base + lcore), where the device takes
 * rules for that (rte_flow); else whichever its hash of addresses and ports says (RSS). Where that is wrong,
 * steer.h passes on. Private to this folder. */
#pragma once

#include "dataplane/io/dpdk/port_internal.h"

#include <rte_ethdev.h>

/* Before the device is configured: RSS over UDP's addresses and ports, as far as it reports it. */
void sl_dpdk_spread_configure(struct sl_dpdk_port *, const struct rte_eth_dev_info *, struct rte_eth_conf *);
/* Once it is started. Sets port.spread. */
void sl_dpdk_spread_start(struct sl_dpdk_port *);
