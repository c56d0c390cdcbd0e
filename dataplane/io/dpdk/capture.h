/* A pcapng file of what passes a port, made in process (DPDK's dumpcap needs shared configuration and huge
 * pages). The queues' threads copy packets and hand them over; a thread of the capture's own writes them.
 * What it cannot keep up with is missed and counted; the traffic is not slowed.
 *
 * The file holds packets as they lie on the wire, sealed. Times are the TSC's, as rte_pcapng maps it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rte_mbuf;
struct sl_capture;

/* Of port `port_id`, made before; up to n_queues threads. The file is made with mode 0600; one that exists is
 * refused (-EEXIST). err: one line. */
int sl_capture_open(const char *file, uint16_t port_id, unsigned n_queues, uint16_t packet_bytes,
    struct sl_capture **, char *err, size_t err_cap);
/* The queues' threads have left. Writes what is waiting. NULL is allowed. */
void sl_capture_close(struct sl_capture *);

/* The queue's thread: `n` packets in or out, before they are freed or sent. */
void sl_capture_packets(struct sl_capture *, unsigned queue, struct rte_mbuf *const *, unsigned n, bool out);

struct sl_capture_stats {
    uint64_t packets; /* written */
    uint64_t missed;  /* the writer was behind, or the disk is full */
};
void sl_capture_stats(const struct sl_capture *, struct sl_capture_stats *); /* any thread */
