/* CoDel (RFC 8289) for one queue, asked about each packet that is about to be served. The RFC's deque() pulls
 * as many packets as it drops and one more; here the caller pulls, and the state remembers how far that
 * deque() has come. Times are the queue's own: when a packet was taken, when its service begins. No random
 * numbers. Differences from the RFC's pseudocode: none in what is dropped (tests/device-sim/test_codel.c has
 * it a second time). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum {
    SL_CODEL_TARGET_NS = 5000000,     /* RFC 8289 4.4 */
    SL_CODEL_INTERVAL_NS = 100000000, /* RFC 8289 4.3 */
    SL_CODEL_MTU_BYTES = 1500,        /* "maxpacket": with no more than that behind it, nothing is dropped */
};

struct sl_codel {
    uint64_t target_ns, interval_ns;
    uint64_t first_above_ns; /* when the delay will have been above target for an interval; 0: it is below */
    uint64_t drop_next_ns;
    uint32_t count, last_count; /* drops since the drop state was entered; that at its last entry */
    bool dropping;
    uint8_t pulled; /* enum in codel.c: what this deque() has dropped already */
};

void sl_codel_init(struct sl_codel *, uint64_t target_ns, uint64_t interval_ns);
/* Whether the packet at the head, which has waited sojourn_ns and has left_bytes waiting behind it, is
 * dropped instead of served. Where it is, there is a next packet, and the caller asks about that at the same
 * now_ns. */
bool sl_codel_drops(struct sl_codel *, uint64_t sojourn_ns, uint64_t left_bytes, uint64_t now_ns);
