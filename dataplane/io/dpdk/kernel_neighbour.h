/* The kernel's own knowledge of the way to an address, where it shares the interface with a port. */
#pragma once

#include <stdint.h>

/* The neighbour (neighbour.h) by which the kernel would send to ip over the interface; 0: it does not know
 * yet and has been made to ask. Blocks: not for a data thread. */
uint64_t sl_kernel_neighbour(unsigned interface, const uint8_t ip[16]);
