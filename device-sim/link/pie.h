/* PIE (RFC 8033) for one queue: early drops at enqueue with a probability that follows the queueing delay.
 * The delay is measured by time stamps (RFC 8033 5.2 allows either): that of the packet whose service began
 * last, and 0 once the queue is empty. The probability is updated every 15 ms of the queue's time, on
 * whatever call comes first after it. With de-randomisation (5.4), the cap on its steps (5.5), burst
 * allowance (4.4) and automatic scaling (4.2); without marking (5.1) and without switching off (5.3). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    SL_PIE_TARGET_NS = 15000000, /* QDELAY_REF, T_UPDATE, MAX_BURST: RFC 8033 4.2 and 4.4 */
    SL_PIE_UPDATE_NS = 15000000,
    SL_PIE_MAX_BURST_NS = 150000000,
    SL_PIE_MEAN_PACKET_BYTES = 1024, /* MEAN_PKTSIZE, of RFC 8034 */
};

struct sl_pie {
    double drop_prob;
    double accu_prob; /* sum of drop_prob since the last drop */
    uint64_t target_ns;
    uint64_t key, draws;
    uint64_t qdelay_ns, qdelay_old_ns;
    uint64_t next_update_ns; /* 0: before the first packet */
    uint64_t burst_ns;       /* what is left of the burst allowance */
};

/* `key`: of this queue's random numbers (trainer/tensor/rng.h). */
void sl_pie_init(struct sl_pie *, uint64_t target_ns, uint64_t key);
/* Whether a packet that arrives at a queue of queued_bytes, which has room for it, is dropped. */
bool sl_pie_drops(struct sl_pie *, uint64_t queued_bytes, uint64_t now_ns);
void sl_pie_full(struct sl_pie *, uint64_t now_ns); /* one was dropped for want of room */
/* A packet's service begins, left_bytes wait behind it. */
void sl_pie_served(struct sl_pie *, uint64_t sojourn_ns, uint64_t left_bytes, uint64_t now_ns);
