#include "dataplane/io/dpdk/headers.h"

#include "dataplane/wire/bytes.h"

#include <string.h>

enum {
    ETHERTYPE_IPV4 = 0x0800,
    PROTO_UDP = 17,
    TTL = 64,
    FRAG_DONT = 0x4000,
    FRAG_MORE_OR_OFFSET = 0x3fff, /* MF and the 13 bits of offset */
    ECN_MASK = 3,
};
static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}; /* ::ffff:0:0/96, RFC 4291 */

/* RFC 1071 over an IPv4 header of n bytes (a multiple of 4): 0xffff when its own checksum is among them and
 * right. */
static uint16_t header_sum(const uint8_t *p, unsigned n)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i += 4)
        sum += sl_get32(p + i);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

static void read_addr(struct sl_addr *a, const uint8_t *ip, const uint8_t *port)
{
    memcpy(a->ip, mapped, sizeof(mapped));
    memcpy(a->ip + sizeof(mapped), ip, 4);
    a->port = sl_get16(port);
}

enum sl_port_drop sl_headers_read(uint8_t *frame, uint32_t len, struct sl_dgram *out)
{
    if (len < SL_ETH_BYTES + SL_IPV4_BYTES)
        return SL_PORT_BAD_LENGTH;
    if (sl_get16(frame + 12) != ETHERTYPE_IPV4 || (frame[SL_ETH_BYTES] >> 4) != 4)
        return SL_PORT_NOT_IPV4_UDP;
    uint8_t *ip = frame + SL_ETH_BYTES;
    uint32_t ip_header = (ip[0] & 0xfu) * 4, total = sl_get16(ip + 2), room = len - SL_ETH_BYTES;
    if (ip_header < SL_IPV4_BYTES || total > room || total < ip_header)
        return SL_PORT_BAD_LENGTH;
    if (header_sum(ip, ip_header) != 0xffff)
        return SL_PORT_BAD_CHECKSUM;
    if (ip[9] != PROTO_UDP)
        return SL_PORT_NOT_IPV4_UDP;
    if ((sl_get16(ip + 6) & FRAG_MORE_OR_OFFSET) != 0)
        return SL_PORT_IP_FRAGMENT;
    uint8_t *udp = ip + ip_header;
    if (total < ip_header + SL_UDP_BYTES)
        return SL_PORT_BAD_LENGTH;
    uint32_t udp_length = sl_get16(udp + 4);
    if (udp_length < SL_UDP_BYTES || udp_length > total - ip_header)
        return SL_PORT_BAD_LENGTH;
    out->data = udp + SL_UDP_BYTES;
    out->len = (uint16_t)(udp_length - SL_UDP_BYTES);
    out->ecn = ip[1] & ECN_MASK;
    read_addr(&out->src, ip + 12, udp);
    read_addr(&out->dst, ip + 16, udp + 2);
    return SL_PORT_DROP_COUNT;
}

void sl_headers_write(
    uint8_t *frame, const uint8_t mac[6], const uint8_t peer_mac[6], const struct sl_dgram *d)
{
    memcpy(frame, peer_mac, 6);
    memcpy(frame + 6, mac, 6);
    sl_put16(frame + 12, ETHERTYPE_IPV4);
    uint8_t *ip = frame + SL_ETH_BYTES, *udp = ip + SL_IPV4_BYTES;
    ip[0] = 0x45;
    ip[1] = d->ecn & ECN_MASK;
    sl_put16(ip + 2, (uint16_t)(SL_IPV4_BYTES + SL_UDP_BYTES + d->len));
    sl_put16(ip + 4, 0); /* identification: of no use where DF is set, RFC 6864 */
    sl_put16(ip + 6, FRAG_DONT);
    ip[8] = TTL;
    ip[9] = PROTO_UDP;
    sl_put16(ip + 10, 0);
    memcpy(ip + 12, d->src.ip + sizeof(mapped), 4);
    memcpy(ip + 16, d->dst.ip + sizeof(mapped), 4);
    sl_put16(ip + 10, (uint16_t)~header_sum(ip, SL_IPV4_BYTES));
    sl_put16(udp, d->src.port);
    sl_put16(udp + 2, d->dst.port);
    sl_put16(udp + 4, (uint16_t)(SL_UDP_BYTES + d->len));
    sl_put16(udp + 6, 0);
}

bool sl_addr_is_ipv4(const struct sl_addr *a)
{
    return memcmp(a->ip, mapped, sizeof(mapped)) == 0;
}
