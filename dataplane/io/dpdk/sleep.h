/* How the thread of a queue sleeps until a packet may have come: on the descriptors that the driver reads
 * from (AF_XDP, AF_PACKET, tap), else (memif, pcap, NICs) for a time. Where a port has several queues nothing
 * says whose descriptor is whose: then for a time, too. */
#pragma once

#include "dataplane/io/dpdk/device.h"

#include <stdbool.h>
#include <stdint.h>

enum { SL_SLEEP_DESCRIPTORS = 8 };

struct sl_sleep {
    int fds[SL_SLEEP_DESCRIPTORS], n; /* the driver's */
    int wake_fd;                      /* eventfd, or -1: nothing but time ends a sleep */
};

/* After the port was started. What cannot be had leaves sleeps of fixed length. */
void sl_sleep_open(struct sl_sleep *, enum sl_device_kind, uint16_t n_queues);
void sl_sleep_close(struct sl_sleep *);
/* The queue's thread: at most ns. */
void sl_sleep_for(struct sl_sleep *, uint64_t ns);
void sl_sleep_wake(struct sl_sleep *); /* any thread */
