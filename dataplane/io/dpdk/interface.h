/* The kernel's network interface below a port that shares it with the kernel. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sl_interface {
    unsigned index;
    bool running; /* up, with a carrier */
    uint32_t mtu;
    unsigned rx_queues;
};

/* -ENODEV where there is none. */
int sl_interface_read(const char *name, struct sl_interface *);
/* For watching: any socket will do for fd. */
bool sl_interface_runs(int fd, const char *name);
/* Whether this process has the capability (CAP_...). */
bool sl_may(unsigned capability);
