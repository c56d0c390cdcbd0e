/* Delay that varies from packet to packet, and reordering, after the propagation delay of one link.
 *
 * Jitter: packet i takes x_i more, exponential with the given mean. A packet that would overtake one before
 * it arrives with that one instead, so order is kept: packets further apart than the jitter have exactly the
 * exponential delay, close ones come bunched up behind the slowest, as after a radio's retransmission.
 *
 * Reordering: a share of packets, independently chosen, is held back by a fixed time more and keeps nobody
 * waiting: what comes within that time overtakes it.
 *
 * x_i and the choice are functions of (key, i). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sl_jitter_params {
    uint64_t mean_ns;
    double reorder; /* share of packets held back, [0, 1] */
    uint64_t reorder_by_ns;
};

struct sl_jitter {
    struct sl_jitter_params params;
    uint64_t key, i;
    uint64_t latest_ns; /* arrival of the latest packet that was not held back */
};

int sl_jitter_init(struct sl_jitter *, const struct sl_jitter_params *, uint64_t key); /* -EINVAL */
/* When the next packet arrives, that would arrive at due_ns without. Packets in order of departure. */
uint64_t sl_jitter_arrival(struct sl_jitter *, uint64_t due_ns);
