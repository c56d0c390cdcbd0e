/* Two network namespaces joined by a veth pair, one for each side of a measurement; they are gone with the
 * two processes. Takes root. */
#pragma once

#include "tests/bench/twins.h"

#include <netinet/in.h>

/* Called by both sides. Afterwards the calling process lives in a namespace of its own with an interface
 * "sl0", up, with address 10.99.0.1 (side 0) or .2, and has met the other. 0, or -errno and the side's err;
 * -EPERM: not root. */
int bench_netns_join(struct bench_twin *, unsigned mtu);
/* The address of side `index` with a port. */
struct sockaddr_in bench_netns_address(unsigned index, uint16_t port);
