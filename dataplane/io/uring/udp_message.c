/* Addresses and control messages of UDP datagrams. */
#include "dataplane/io/lcore/address.h"
#include "dataplane/io/uring/udp_internal.h"

#include <string.h>

enum { ECN_MASK = 3 };
static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}; /* ::ffff:0:0/96, RFC 4291 */

static void map(uint8_t ip[16], const struct in_addr *v4)
{
    memcpy(ip, mapped, sizeof(mapped));
    memcpy(ip + sizeof(mapped), v4, 4);
}

bool sl_udp_read_name(const void *name, size_t len, struct sl_addr *a)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    sa_family_t family;

    memset(a, 0, sizeof(*a));
    if (len < sizeof(family))
        return false;
    memcpy(&family, name, sizeof(family));
    if (family == AF_INET && len >= sizeof(v4)) {
        memcpy(&v4, name, sizeof(v4));
        map(a->ip, &v4.sin_addr);
        a->port = ntohs(v4.sin_port);
        return true;
    }
    if (family == AF_INET6 && len >= sizeof(v6)) {
        memcpy(&v6, name, sizeof(v6));
        memcpy(a->ip, &v6.sin6_addr, sizeof(a->ip));
        a->port = ntohs(v6.sin6_port);
        return true;
    }
    return false;
}

socklen_t sl_udp_write_name(union sl_udp_name *name, const struct sl_addr *a)
{
    memset(name, 0, sizeof(*name));
    if (sl_addr_is_mapped(a)) {
        name->v4.sin_family = AF_INET;
        name->v4.sin_port = htons(a->port);
        memcpy(&name->v4.sin_addr, a->ip + sizeof(mapped), 4);
        return sizeof(name->v4);
    }
    name->v6.sin6_family = AF_INET6;
    name->v6.sin6_port = htons(a->port);
    memcpy(&name->v6.sin6_addr, a->ip, sizeof(a->ip));
    return sizeof(name->v6);
}

static void read_one(int level, int type, const uint8_t *data, size_t len, struct sl_udp_control *c)
{
    int number = 0;

    if (len >= sizeof(number))
        memcpy(&number, data, sizeof(number));
    if (level == SOL_UDP && type == UDP_GRO && number > 0)
        c->segment = (uint32_t)number;
    else if (level == IPPROTO_IP && type == IP_TOS && len >= 1)
        c->ecn = data[0] & ECN_MASK;
    else if (level == IPPROTO_IPV6 && type == IPV6_TCLASS)
        c->ecn = (uint8_t)number & ECN_MASK;
    else if ((level == IPPROTO_IP && type == IP_RECVFRAGSIZE) ||
             (level == IPPROTO_IPV6 && type == IPV6_RECVFRAGSIZE))
        c->fragmented = true;
    else if (level == IPPROTO_IP && type == IP_PKTINFO && len >= sizeof(struct in_pktinfo)) {
        struct in_pktinfo info;
        memcpy(&info, data, sizeof(info));
        map(c->local, &info.ipi_addr);
        c->has_local = true;
    } else if (level == IPPROTO_IPV6 && type == IPV6_PKTINFO && len >= sizeof(struct in6_pktinfo)) {
        memcpy(c->local, data, sizeof(c->local)); /* its first member */
        c->has_local = true;
    }
}

/* Not with the CMSG macros: nothing here trusts a length. */
void sl_udp_read_control(const uint8_t *control, size_t len, struct sl_udp_control *c)
{
    struct cmsghdr h;
    size_t at = 0;

    memset(c, 0, sizeof(*c));
    while (at <= len && len - at >= sizeof(h)) {
        memcpy(&h, control + at, sizeof(h));
        if (h.cmsg_len < CMSG_LEN(0) || h.cmsg_len > len - at)
            return;
        read_one(h.cmsg_level, h.cmsg_type, control + at + CMSG_LEN(0), h.cmsg_len - CMSG_LEN(0), c);
        at += CMSG_ALIGN(h.cmsg_len);
    }
}

static size_t put(uint8_t *control, size_t cap, size_t at, int level, int type, const void *data, size_t len)
{
    struct cmsghdr h = {.cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type};

    if (cap - at < CMSG_SPACE(len))
        return at;
    memset(control + at, 0, CMSG_SPACE(len));
    memcpy(control + at, &h, sizeof(h));
    memcpy(control + at + CMSG_LEN(0), data, len);
    return at + CMSG_SPACE(len);
}

size_t sl_udp_write_control(
    uint8_t *control, size_t cap, bool ipv6, uint16_t segment, uint8_t ecn, const struct sl_addr *from)
{
    size_t at = 0;
    int class = ecn & ECN_MASK;

    if (segment)
        at = put(control, cap, at, SOL_UDP, UDP_SEGMENT, &segment, sizeof(segment));
    if (class && ipv6)
        at = put(control, cap, at, IPPROTO_IPV6, IPV6_TCLASS, &class, sizeof(class));
    else if (class)
        at = put(control, cap, at, IPPROTO_IP, IP_TOS, &class, sizeof(class));
    if (from && ipv6) {
        struct in6_pktinfo info = {0};
        memcpy(&info.ipi6_addr, from->ip, sizeof(from->ip));
        at = put(control, cap, at, IPPROTO_IPV6, IPV6_PKTINFO, &info, sizeof(info));
    } else if (from) {
        struct in_pktinfo info = {0};
        memcpy(&info.ipi_spec_dst, from->ip + sizeof(mapped), 4);
        at = put(control, cap, at, IPPROTO_IP, IP_PKTINFO, &info, sizeof(info));
    }
    return at;
}
