#include "dataplane/io/dpdk/answer.h"

#include "dataplane/io/dpdk/headers.h"
#include "dataplane/wire/bytes.h"

#include <string.h>

enum { ETHERTYPE_IPV4 = 0x0800, ETHERTYPE_ARP = 0x0806, ETHERTYPE_VLAN = 0x8100, ETHERTYPE_IPV6 = 0x86dd };
enum { PROTO_ICMP = 1, PROTO_ICMP6 = 58, HOP_LIMIT = 64, ND_HOP_LIMIT = 255 };
enum { ARP_BYTES = 28, ARP_REQUEST = 1, ARP_REPLY = 2 };
enum { ICMP_BYTES = 8, ICMP_ECHO_REPLY = 0, ICMP_ECHO = 8 };
enum { ICMP6_ECHO = 128, ICMP6_ECHO_REPLY = 129, ICMP6_SOLICIT = 135, ICMP6_ADVERTISE = 136 };
enum { ND_BYTES = 24, ND_OPTION_BYTES = 8, ND_SOURCE_MAC = 1, ND_TARGET_MAC = 2 };
enum { ND_SOLICITED = 0x40, ND_OVERRIDE = 0x20 };
/* Hardware Ethernet, protocol IPv4, lengths 6 and 4. */
static const uint8_t arp_head[6] = {0, 1, 0x08, 0x00, 6, 4};

/* The frame in hand. */
struct hand {
    const struct sl_self *self;
    struct sl_routes *routes;
    uint8_t *frame, *body; /* body: after Ethernet and tag */
    uint32_t room;         /* of body */
    uint16_t vlan;
    uint32_t *len;
};

static void turn_ethernet(struct hand *h)
{
    memcpy(h->frame, h->frame + 6, 6);
    memcpy(h->frame + 6, h->self->mac, 6);
}

static bool is_group(const uint8_t mac[6])
{
    return (mac[0] & 1) != 0;
}

/* ---- ARP ---- */

static enum sl_answer arp(struct hand *h)
{
    uint8_t *a = h->body, sender[16], target[16], whose[4];
    if (h->room < ARP_BYTES || memcmp(a, arp_head, sizeof(arp_head)) != 0 || is_group(a + 8))
        return SL_ANSWER_NOT;
    sl_addr_map_ipv4(sender, a + 14);
    sl_addr_map_ipv4(target, a + 24);
    if (!h->self->owns(h->self->ctx, target))
        return SL_ANSWER_NOT;
    uint16_t operation = sl_get16(a + 6);
    if (operation == ARP_REPLY) {
        sl_routes_set(h->routes, sender, sl_neighbour(a + 8, h->vlan));
        return SL_ANSWER_HEARD;
    }
    if (operation != ARP_REQUEST)
        return SL_ANSWER_NOT;
    sl_put16(a + 6, ARP_REPLY);
    memcpy(whose, a + 24, 4);
    memcpy(a + 18, a + 8, 10); /* who asked: MAC and address */
    memcpy(a + 8, h->self->mac, 6);
    memcpy(a + 14, whose, 4);
    turn_ethernet(h);
    *h->len = (uint32_t)(a - h->frame) + ARP_BYTES;
    return SL_ANSWER_NEIGHBOUR;
}

/* ---- ICMP ---- */

static uint16_t sum_of(uint64_t start, const uint8_t *p, uint32_t n)
{
    return (uint16_t)~sl_sum_fold(sl_sum_add(start, p, n));
}

static void put_sum(uint8_t *at, uint16_t sum)
{
    memcpy(at, &sum, sizeof(sum));
}

static void swap(uint8_t *a, uint8_t *b, unsigned n)
{
    uint8_t t[16];
    memcpy(t, a, n);
    memcpy(a, b, n);
    memcpy(b, t, n);
}

static enum sl_answer icmp(struct hand *h)
{
    uint8_t *ip = h->body, own[16];
    uint32_t header = (ip[0] & 0xfu) * 4, total = sl_get16(ip + 2);
    if (header != SL_IPV4_BYTES || total > h->room || total < header + ICMP_BYTES || ip[9] != PROTO_ICMP ||
        (sl_get16(ip + 6) & 0x3fff) != 0 || sum_of(0, ip, header) != 0)
        return SL_ANSWER_NOT;
    uint8_t *echo = ip + header;
    sl_addr_map_ipv4(own, ip + 16);
    if (echo[0] != ICMP_ECHO || echo[1] != 0 || ip[12] >= 224 || !h->self->owns(h->self->ctx, own) ||
        sum_of(0, echo, total - header) != 0)
        return SL_ANSWER_NOT;
    echo[0] = ICMP_ECHO_REPLY;
    sl_put16(echo + 2, 0);
    put_sum(echo + 2, sum_of(0, echo, total - header));
    swap(ip + 12, ip + 16, 4);
    ip[8] = HOP_LIMIT;
    sl_put16(ip + 10, 0);
    put_sum(ip + 10, sum_of(0, ip, header));
    turn_ethernet(h);
    *h->len = (uint32_t)(ip - h->frame) + total;
    return SL_ANSWER_ECHO;
}

/* ---- ICMPv6 ---- */

static uint64_t pseudo_sum(const uint8_t *ip, uint32_t n)
{
    uint8_t tail[8] = {[7] = PROTO_ICMP6};
    sl_put32(tail, n);
    return sl_sum_add(sl_sum_add(0, ip + 8, 32), tail, sizeof(tail));
}

/* The option of that kind with a MAC address, or NULL; *well is false where an option is not (RFC 4861 7.1).
 */
static const uint8_t *find_option(const uint8_t *at, uint32_t n, uint8_t kind, bool *well)
{
    const uint8_t *found = NULL;
    *well = true;
    while (n > 0) {
        uint32_t bytes = n < 2 ? 0 : at[1] * 8u;
        if (bytes == 0 || bytes > n) {
            *well = false;
            return NULL;
        }
        if (at[0] == kind && bytes == ND_OPTION_BYTES)
            found = at + 2;
        at += bytes;
        n -= bytes;
    }
    return found;
}

static enum sl_answer advertised(struct hand *h, const uint8_t *nd, uint32_t n)
{
    bool well;
    const uint8_t *mac = find_option(nd + ND_BYTES, n - ND_BYTES, ND_TARGET_MAC, &well);
    if (!well || mac == NULL || is_group(mac))
        return SL_ANSWER_NOT;
    sl_routes_set(h->routes, nd + 8, sl_neighbour(mac, h->vlan));
    return SL_ANSWER_HEARD;
}

static void write_advertisement(uint8_t *nd, const uint8_t mac[6], bool solicited)
{
    memset(nd, 0, 8);
    nd[0] = ICMP6_ADVERTISE;
    nd[4] = (uint8_t)(ND_OVERRIDE | (solicited ? ND_SOLICITED : 0));
    nd[ND_BYTES] = ND_TARGET_MAC;
    nd[ND_BYTES + 1] = 1;
    memcpy(nd + ND_BYTES + 2, mac, 6);
}

/* Who asks without an address (duplicate address detection) is answered to all nodes (RFC 4861 7.2.4). */
static enum sl_answer solicited(struct hand *h, uint8_t *ip, uint8_t *nd, uint32_t n)
{
    static const uint8_t nobody[16], all[16] = {0xff, 0x02, [15] = 1}, all_mac[6] = {0x33, 0x33, 0, 0, 0, 1};
    bool well, anonymous = memcmp(ip + 8, nobody, 16) == 0;
    find_option(nd + ND_BYTES, n - ND_BYTES, ND_SOURCE_MAC, &well);
    if (!well || nd[8] == 0xff || !h->self->owns(h->self->ctx, nd + 8))
        return SL_ANSWER_NOT;
    write_advertisement(nd, h->self->mac, !anonymous);
    memcpy(ip + 24, anonymous ? all : ip + 8, 16);
    memcpy(ip + 8, nd + 8, 16);
    sl_put16(ip + 4, ND_BYTES + ND_OPTION_BYTES);
    ip[7] = ND_HOP_LIMIT;
    put_sum(nd + 2, sum_of(pseudo_sum(ip, ND_BYTES + ND_OPTION_BYTES), nd, ND_BYTES + ND_OPTION_BYTES));
    turn_ethernet(h);
    if (anonymous)
        memcpy(h->frame, all_mac, 6);
    *h->len = (uint32_t)(nd - h->frame) + ND_BYTES + ND_OPTION_BYTES;
    return SL_ANSWER_NEIGHBOUR;
}

static enum sl_answer echo6(struct hand *h, uint8_t *ip, uint8_t *echo, uint32_t n)
{
    if (ip[8] == 0xff || !h->self->owns(h->self->ctx, ip + 24))
        return SL_ANSWER_NOT;
    echo[0] = ICMP6_ECHO_REPLY;
    swap(ip + 8, ip + 24, 16);
    ip[7] = HOP_LIMIT;
    sl_put16(echo + 2, 0);
    put_sum(echo + 2, sum_of(pseudo_sum(ip, n), echo, n));
    turn_ethernet(h);
    *h->len = (uint32_t)(echo - h->frame) + n;
    return SL_ANSWER_ECHO;
}

static enum sl_answer icmp6(struct hand *h)
{
    uint8_t *ip = h->body, *m = ip + SL_IPV6_BYTES;
    uint32_t n = sl_get16(ip + 4);
    if (ip[6] != PROTO_ICMP6 || n < ICMP_BYTES || n > h->room - SL_IPV6_BYTES || m[1] != 0 ||
        sum_of(pseudo_sum(ip, n), m, n) != 0)
        return SL_ANSWER_NOT;
    if (m[0] == ICMP6_ECHO)
        return echo6(h, ip, m, n);
    if (ip[7] != ND_HOP_LIMIT || n < ND_BYTES) /* from another link, or cut */
        return SL_ANSWER_NOT;
    if (m[0] == ICMP6_ADVERTISE)
        return advertised(h, m, n);
    return m[0] == ICMP6_SOLICIT ? solicited(h, ip, m, n) : SL_ANSWER_NOT;
}

enum sl_answer sl_answer(const struct sl_self *self, struct sl_routes *routes, uint8_t *frame, uint32_t *len)
{
    struct hand h = {.self = self, .routes = routes, .frame = frame, .len = len};
    uint32_t at = SL_ETH_BYTES;
    if (*len < SL_ETH_BYTES + SL_VLAN_BYTES || is_group(frame + 6))
        return SL_ANSWER_NOT;
    uint16_t type = sl_get16(frame + 12);
    if (type == ETHERTYPE_VLAN) {
        h.vlan = sl_get16(frame + 14) & 0xfff;
        type = sl_get16(frame + 16);
        at += SL_VLAN_BYTES;
    }
    h.body = frame + at;
    h.room = *len - at;
    if (type == ETHERTYPE_ARP)
        return arp(&h);
    if (type == ETHERTYPE_IPV4 && h.room >= SL_IPV4_BYTES && h.body[0] >> 4 == 4)
        return icmp(&h);
    if (type == ETHERTYPE_IPV6 && h.room >= SL_IPV6_BYTES && h.body[0] >> 4 == 6)
        return icmp6(&h);
    return SL_ANSWER_NOT;
}

/* ---- asking ---- */

static uint32_t ask_arp(uint8_t *frame, const uint8_t mac[6], const uint8_t own[16], const uint8_t ip[16])
{
    uint8_t *a = frame + SL_ETH_BYTES;
    memset(frame, 0xff, 6);
    sl_put16(frame + 12, ETHERTYPE_ARP);
    memcpy(a, arp_head, sizeof(arp_head));
    sl_put16(a + 6, ARP_REQUEST);
    memcpy(a + 8, mac, 6);
    memcpy(a + 14, own + 12, 4);
    memset(a + 18, 0, 6);
    memcpy(a + 24, ip + 12, 4);
    return SL_ETH_BYTES + ARP_BYTES;
}

/* To the solicited-node address, RFC 4291 2.7.1. */
static uint32_t ask_nd(uint8_t *frame, const uint8_t mac[6], const uint8_t own[16], const uint8_t ip[16])
{
    static const uint8_t group_mac[3] = {0x33, 0x33, 0xff}, group[13] = {0xff, 0x02, [11] = 1, [12] = 0xff};
    uint8_t *six = frame + SL_ETH_BYTES, *nd = six + SL_IPV6_BYTES;
    const uint32_t n = ND_BYTES + ND_OPTION_BYTES;
    memset(frame, 0, SL_ETH_BYTES + SL_IPV6_BYTES + n);
    memcpy(frame, group_mac, 3);
    memcpy(frame + 3, ip + 13, 3);
    sl_put16(frame + 12, ETHERTYPE_IPV6);
    six[0] = 0x60;
    sl_put16(six + 4, (uint16_t)n);
    six[6] = PROTO_ICMP6;
    six[7] = ND_HOP_LIMIT;
    memcpy(six + 8, own, 16);
    memcpy(six + 24, group, sizeof(group));
    memcpy(six + 37, ip + 13, 3);
    nd[0] = ICMP6_SOLICIT;
    memcpy(nd + 8, ip, 16);
    nd[ND_BYTES] = ND_SOURCE_MAC;
    nd[ND_BYTES + 1] = 1;
    memcpy(nd + ND_BYTES + 2, mac, 6);
    put_sum(nd + 2, sum_of(pseudo_sum(six, n), nd, n));
    return SL_ETH_BYTES + SL_IPV6_BYTES + n;
}

uint32_t sl_ask(
    uint8_t frame[SL_ASK_BYTES], const uint8_t mac[6], const uint8_t own[16], const uint8_t ip[16])
{
    struct sl_addr a = {0};
    memcpy(a.ip, ip, 16);
    uint32_t n = sl_addr_is_ipv4(&a) ? ask_arp(frame, mac, own, ip) : ask_nd(frame, mac, own, ip);
    memcpy(frame + 6, mac, 6);
    return n;
}
