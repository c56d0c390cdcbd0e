#include "dataplane/io/dpdk/kernel_neighbour.h"

#include "dataplane/io/dpdk/headers.h"
#include "dataplane/io/dpdk/netlink.h"

#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DISCARD_PORT = 9 }; /* RFC 863: where a datagram that makes the kernel ask does no harm */
enum { USABLE = NUD_PERMANENT | NUD_NOARP | NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE };

struct address {
    int family;
    unsigned bytes;
    uint8_t at[16];
};

struct search {
    unsigned interface;
    struct address hop;
    uint64_t found;
};

static struct address address_of(const uint8_t ip[16])
{
    struct sl_addr whole;
    struct address a = {.family = AF_INET6, .bytes = 16};
    memcpy(whole.ip, ip, 16);
    if (sl_addr_is_ipv4(&whole)) {
        a = (struct address){.family = AF_INET, .bytes = 4};
        ip += 12;
    }
    memcpy(a.at, ip, a.bytes);
    return a;
}

/* A gateway takes the place of the address. */
static void read_route(void *ctx, struct nlmsghdr *h)
{
    struct search *s = ctx;
    struct rtmsg *route = NLMSG_DATA(h);
    if (h->nlmsg_type != RTM_NEWROUTE)
        return;
    struct rtattr *gateway = sl_netlink_find(RTM_RTA(route), (unsigned)RTM_PAYLOAD(h), RTA_GATEWAY);
    if (gateway != NULL && RTA_PAYLOAD(gateway) == s->hop.bytes)
        memcpy(s->hop.at, RTA_DATA(gateway), s->hop.bytes);
}

static void find_gateway(struct search *s)
{
    struct sl_netlink_request r;
    uint32_t interface = s->interface;
    sl_netlink_begin(&r, RTM_GETROUTE, 0, sizeof(r.route));
    r.route.rtm_family = (uint8_t)s->hop.family;
    r.route.rtm_dst_len = (uint8_t)(s->hop.bytes * 8);
    sl_netlink_add(&r, RTA_DST, s->hop.at, (uint16_t)s->hop.bytes);
    sl_netlink_add(&r, RTA_OIF, &interface, sizeof(interface));
    sl_netlink_ask(&r, read_route, s);
}

static void read_neighbour(void *ctx, struct nlmsghdr *h)
{
    struct search *s = ctx;
    struct ndmsg *n = NLMSG_DATA(h);
    if (h->nlmsg_type != RTM_NEWNEIGH || (unsigned)n->ndm_ifindex != s->interface ||
        (n->ndm_state & USABLE) == 0)
        return;
    struct rtattr *first = (struct rtattr *)((char *)n + NLMSG_ALIGN(sizeof(*n)));
    unsigned bytes = (unsigned)(h->nlmsg_len - NLMSG_LENGTH(sizeof(*n)));
    struct rtattr *dst = sl_netlink_find(first, bytes, NDA_DST),
                  *mac = sl_netlink_find(first, bytes, NDA_LLADDR);
    if (dst != NULL && mac != NULL && RTA_PAYLOAD(dst) == s->hop.bytes && RTA_PAYLOAD(mac) == 6 &&
        memcmp(RTA_DATA(dst), s->hop.at, s->hop.bytes) == 0)
        s->found = sl_neighbour(RTA_DATA(mac), 0);
}

static void make_it_ask(const struct search *s)
{
    struct sockaddr_in6 to6 = {
        .sin6_family = AF_INET6, .sin6_port = htons(DISCARD_PORT), .sin6_scope_id = s->interface};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(DISCARD_PORT)};
    int fd = socket(s->hop.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    memcpy(&to6.sin6_addr, s->hop.at, sizeof(to6.sin6_addr));
    memcpy(&to.sin_addr, s->hop.at, sizeof(to.sin_addr));
    bool four = s->hop.family == AF_INET;
    if (fd < 0)
        return;
    sendto(fd, "", 0, MSG_DONTWAIT, four ? (struct sockaddr *)&to : (struct sockaddr *)&to6,
        four ? sizeof(to) : sizeof(to6));
    close(fd);
}

uint64_t sl_kernel_neighbour(unsigned interface, const uint8_t ip[16])
{
    struct search s = {.interface = interface, .hop = address_of(ip)};
    struct sl_netlink_request r;
    find_gateway(&s);
    sl_netlink_begin(&r, RTM_GETNEIGH, NLM_F_DUMP, sizeof(r.neighbour));
    r.neighbour.ndm_family = (uint8_t)s.hop.family;
    sl_netlink_add(&r, NDA_IFINDEX, &interface, sizeof(uint32_t));
    sl_netlink_ask(&r, read_neighbour, &s);
    if (s.found == 0)
        make_it_ask(&s);
    return s.found;
}
