#include "device-sim/sink/bounds.h"

#include "dataplane/io/lcore/address.h"

#include <stdbool.h>
#include <stddef.h>

struct range {
    uint8_t ip[4];
    uint8_t bits;
};
static const struct range near4[] = {{{10}, 8}, {{172, 16}, 12}, {{192, 168}, 16}, {{127}, 8},
    {{169, 254}, 16}, {{192, 0, 2}, 24}, {{198, 51, 100}, 24}, {{203, 0, 113}, 24}, {{198, 18}, 15}};
static const struct range near6[] = {{{0xfe, 0x80}, 10}, {{0xfc}, 7}, {{0x20, 0x01, 0x0d, 0xb8}, 32}};
static const struct range never4[] = {{{0}, 8}, {{224}, 4}, {{255, 255, 255, 255}, 32}};
static const struct range never6[] = {{{0xff}, 8}};
static const double bucket_ns = 50e6, depth_min_bytes = 9000; /* the largest packet */

static bool within(const uint8_t *ip, const struct range *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t a = (uint32_t)ip[0] << 24 | (uint32_t)ip[1] << 16 | (uint32_t)ip[2] << 8 | ip[3];
        const uint8_t *b = r[i].ip;
        uint32_t net = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
        if ((a ^ net) >> (32 - r[i].bits) == 0)
            return true;
    }
    return false;
}

#define WITHIN(ip, ranges) within(ip, ranges, sizeof(ranges) / sizeof((ranges)[0]))

enum sl_sink_reach sl_sink_reach(const struct sl_addr *a)
{
    if (sl_addr_is_mapped(a)) {
        const uint8_t *ip = a->ip + 12;
        return WITHIN(ip, never4) ? SL_SINK_NEVER : WITHIN(ip, near4) ? SL_SINK_NEAR : SL_SINK_FAR;
    }
    if (sl_addr_is_unspecified(a) || WITHIN(a->ip, never6))
        return SL_SINK_NEVER;
    return sl_addr_is_loopback(a) || WITHIN(a->ip, near6) ? SL_SINK_NEAR : SL_SINK_FAR;
}

void sl_sink_limit_init(struct sl_sink_limit *l, double mbps, uint64_t now_ns)
{
    l->bytes_per_ns = mbps * 1e6 / 8e9;
    l->depth_bytes = l->bytes_per_ns * bucket_ns;
    if (l->depth_bytes < depth_min_bytes)
        l->depth_bytes = depth_min_bytes;
    l->room_bytes = l->depth_bytes;
    l->filled_ns = now_ns;
}

int sl_sink_limit_take(struct sl_sink_limit *l, uint32_t bytes, uint64_t now_ns)
{
    if (now_ns > l->filled_ns) {
        l->room_bytes += (double)(now_ns - l->filled_ns) * l->bytes_per_ns;
        l->filled_ns = now_ns;
    }
    if (l->room_bytes > l->depth_bytes)
        l->room_bytes = l->depth_bytes;
    if (l->room_bytes < bytes)
        return 0;
    l->room_bytes -= bytes;
    return 1;
}
