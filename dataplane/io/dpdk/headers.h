/* Ethernet II, IPv4 (RFC 791) and UDP (RFC 768) around a datagram: written and checked here, without DPDK. */
#pragma once

#include "dataplane/io/dpdk/port.h"

enum {
    SL_ETH_BYTES = 14,
    SL_IPV4_BYTES = 20,
    SL_UDP_BYTES = 8,
    SL_UDP4_BYTES = SL_ETH_BYTES + SL_IPV4_BYTES + SL_UDP_BYTES, /* before the payload */
};

/* Reads the headers of a frame that lies whole in [frame, frame + len). Sets data, len, ecn, src and dst;
 * returns SL_PORT_DROP_COUNT, or why it is not a datagram. The UDP checksum is not looked at: the packet's
 * tag is far stronger, and summing would touch every byte once more. */
enum sl_port_drop sl_headers_read(uint8_t *frame, uint32_t len, struct sl_dgram *out);

/* Writes the 42 bytes before the payload of len bytes. Both addresses must be IPv4-mapped. DF is set (rules
 * T9); UDP checksum 0. */
void sl_headers_write(
    uint8_t *frame, const uint8_t mac[6], const uint8_t peer_mac[6], const struct sl_dgram *d);

bool sl_addr_is_ipv4(const struct sl_addr *);
