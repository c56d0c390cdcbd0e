/* What `sluice-sim --sink` may do to others: where it sends without being told twice, how much, and for how
 * long. */
#pragma once

#include "dataplane/transport/endpoint.h"

enum sl_sink_reach {
    SL_SINK_NEAR,  /* private, loopback, link-local, or reserved for documentation and benchmarks */
    SL_SINK_FAR,   /* anybody's: only where the user insists */
    SL_SINK_NEVER, /* many hosts at once, or none: multicast, broadcast, unspecified */
};
/* RFC 1918, 1122 (127/8), 3927 (169.254/16), 5737 and 3849 (documentation), 2544 (benchmarks: 198.18/15),
 * 4193 (fc00::/7), 4291 (::1, fe80::/10). 100.64/10 (RFC 6598) is a carrier's, not yours: far. */
enum sl_sink_reach sl_sink_reach(const struct sl_addr *);

#define SL_SINK_SECONDS_DEFAULT 10.0
#define SL_SINK_SECONDS_MAX 3600.0
#define SL_SINK_MBPS_DEFAULT 100.0
#define SL_SINK_MBPS_MAX 10000.0

/* A token bucket over IP bytes: at no time more than rate x elapsed + 50 ms of it, or 9,000 bytes. What does
 * not fit is the caller's named drop. */
struct sl_sink_limit {
    double bytes_per_ns, room_bytes, depth_bytes;
    uint64_t filled_ns;
};
void sl_sink_limit_init(struct sl_sink_limit *, double mbps, uint64_t now_ns);
int sl_sink_limit_take(struct sl_sink_limit *, uint32_t bytes, uint64_t now_ns); /* whether it may leave */
