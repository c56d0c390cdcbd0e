/* Ethernet II, one VLAN tag (IEEE 802.1Q), IPv4 (RFC 791) or IPv6 (RFC 8200) and UDP (RFC 768) around a
 * datagram: written and checked here, without DPDK. */
#pragma once

#include "dataplane/io/dpdk/neighbour.h"
#include "dataplane/io/dpdk/port.h"

#include <string.h>

enum {
    SL_ETH_BYTES = 14,
    SL_VLAN_BYTES = 4,
    SL_IPV4_BYTES = 20,
    SL_IPV6_BYTES = 40,
    SL_UDP_BYTES = 8,
    SL_UDP4_BYTES = SL_ETH_BYTES + SL_IPV4_BYTES + SL_UDP_BYTES, /* before the payload */
    SL_HEADERS_MAX_BYTES = SL_ETH_BYTES + SL_VLAN_BYTES + SL_IPV6_BYTES + SL_UDP_BYTES,
};

/* Reads the headers of a frame that lies whole in [frame, frame + len). Sets data, len, ecn, src and dst
 * (hop: 0) and who sent it; returns SL_PORT_DROP_COUNT, or why it is not a datagram. The UDP checksum is not
 * summed: the packet's tag is far stronger, and summing would touch every byte once more. IPv6 extension
 * headers are not for us. */
enum sl_port_drop sl_headers_read(uint8_t *frame, uint32_t len, struct sl_dgram *out, uint64_t *from);

/* What goes before the payload: 42 to SL_HEADERS_MAX_BYTES. */
static inline unsigned sl_headers_bytes(bool ipv4, uint64_t to)
{
    return SL_ETH_BYTES + (sl_neighbour_vlan(to) != 0 ? SL_VLAN_BYTES : 0u) +
           (ipv4 ? SL_IPV4_BYTES : SL_IPV6_BYTES) + SL_UDP_BYTES;
}
enum sl_udp_sum {
    SL_UDP_SUM_SOFTWARE,
    SL_UDP_SUM_PSEUDO, /* of the pseudo-header alone: the port adds the rest */
};
/* Writes them before d->data. Both addresses are of the same kind. DF is set (rules T9); the UDP checksum is
 * 0 over IPv4 and never over IPv6. */
void sl_headers_write(const struct sl_dgram *d, const uint8_t mac[6], uint64_t to, enum sl_udp_sum);

/* Ones' complement sum (RFC 1071) of n bytes and of what was summed before; as it lies in memory. */
uint64_t sl_sum_add(uint64_t sum, const void *, uint32_t n);
uint16_t sl_sum_fold(uint64_t sum);

/* As sl_addr_is_mapped, for every packet. */
static inline bool sl_addr_is_ipv4(const struct sl_addr *a)
{
    uint64_t zero;
    uint32_t ones;
    memcpy(&zero, a->ip, sizeof(zero));
    memcpy(&ones, a->ip + 8, sizeof(ones));
    return zero == 0 && ones == 0xffff0000;
}
/* ::ffff:a.b.c.d (RFC 4291) */
void sl_addr_map_ipv4(uint8_t ip[16], const uint8_t ipv4[4]);
