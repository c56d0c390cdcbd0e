/* How much may be in flight. This version: a fixed window of packets. A controller that follows the network
 * (CUBIC, RFC 9438; delay-based; pacing) replaces the functions and the struct's inside; its callers give it
 * what such a one needs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct sl_rtt;

struct sl_cc {
    uint32_t window_packets;
    uint32_t in_flight_packets;
    uint64_t in_flight_bytes;
};

/* 186 kB: what 40 Mbit/s carry in 37 ms, and less than the 256 KiB queue of a simulated phone's link, which a
 * window of 256 overran at every message (docs/performance.md). */
enum { SL_CC_DEFAULT_WINDOW_PACKETS = 128 };

void sl_cc_init(struct sl_cc *, uint32_t window_packets);
/* Whether one more ack-eliciting packet may leave. Probes do not ask (RFC 9002 7.5). */
bool sl_cc_can_send(const struct sl_cc *);
void sl_cc_on_sent(struct sl_cc *, uint32_t bytes, uint64_t now_ns);
/* Once for each ACK frame that acknowledged something new, after the RTT was updated. */
void sl_cc_on_ack(struct sl_cc *, uint32_t packets, uint64_t bytes, const struct sl_rtt *, uint64_t now_ns);
/* Once for each round of loss detection that found something; `last_sent_ns` is the newest lost packet's. */
void sl_cc_on_loss(struct sl_cc *, uint32_t packets, uint64_t bytes, uint64_t last_sent_ns, uint64_t now_ns);
