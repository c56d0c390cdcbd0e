/* One port at a time steers an interface's packets. */
#pragma once

#include <stddef.h>

/* Claims the interface for this process, and takes off it the steering program that a killed one left behind.
 * A descriptor that holds the claim until it is closed; or -errno and one line: -EBUSY where another process
 * has it, or where another XDP program is attached. */
int sl_xdp_claim(const char *interface, unsigned index, char *err, size_t cap);
/* Takes our own program off; anything else stays. */
void sl_xdp_release(int claim, unsigned index);
