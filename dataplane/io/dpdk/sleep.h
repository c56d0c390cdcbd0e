/* How the thread of a queue sleeps until a packet may have come: by the receive interrupt of a NIC whose
 * driver has one for the queue; on the descriptors that the driver reads from (AF_XDP, AF_PACKET, tap: with
 * one queue, since nothing says whose descriptor is whose); else (memif, pcap) for a time. */
#pragma once

#include "dataplane/io/dpdk/device.h"

#include <stdbool.h>
#include <stdint.h>

enum { SL_SLEEP_DESCRIPTORS = 8 };

struct sl_sleep {
    int fds[SL_SLEEP_DESCRIPTORS], n; /* the driver's */
    int wake_fd;                      /* eventfd, or -1: nothing but time ends a sleep */
    bool interrupt;                   /* fds[0] is the interrupt's of this queue of the device */
    uint16_t port_id, ring;
};

/* After the port was started. What cannot be had leaves sleeps of fixed length. */
void sl_sleep_open(struct sl_sleep *, enum sl_device_kind, uint16_t n_queues);
/* The same for a NIC that was configured with receive interrupts: device queue `ring` of the port. */
void sl_sleep_open_interrupt(struct sl_sleep *, uint16_t port_id, uint16_t ring);
void sl_sleep_close(struct sl_sleep *);
/* The queue's thread: at most ns. */
void sl_sleep_for(struct sl_sleep *, uint64_t ns);
void sl_sleep_wake(struct sl_sleep *); /* any thread */
