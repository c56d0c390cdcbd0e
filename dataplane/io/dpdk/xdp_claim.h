/* One port at a time steers an interface's packets. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Claims the interface for this process, and takes off it the steering program that a killed one left behind.
 * A descriptor that holds the claim until it is closed; or -errno and one line: -EBUSY where another process
 * has it, or where another XDP program is attached. */
int sl_xdp_claim(const char *interface, unsigned index, char *err, size_t cap);
/* The number of the program that is attached; 0: none. */
uint32_t sl_xdp_program(unsigned index);
/* Takes off the program of that number, which is ours, if it is still the one attached: CAP_NET_ADMIN is
 * enough for that. */
void sl_xdp_release(int claim, unsigned index, uint32_t program);
