/* Questions to the kernel about its interfaces and neighbours (rtnetlink(7)). Blocks for the kernel's answer:
 * not for a data thread. */
#pragma once

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdint.h>

/* A request is built in place: a head, then attributes. */
struct sl_netlink_request {
    struct nlmsghdr head;
    union {
        struct ifinfomsg link;
        struct ndmsg neighbour;
        struct rtmsg route;
        uint8_t bytes[256];
    };
};

void sl_netlink_begin(struct sl_netlink_request *, uint16_t type, uint16_t flags, uint32_t body);
void sl_netlink_add(struct sl_netlink_request *, uint16_t type, const void *, uint16_t n);
/* Sends it and calls `answer` for every message that comes back. 0, or the kernel's -errno. */
int sl_netlink_ask(struct sl_netlink_request *, void (*answer)(void *ctx, struct nlmsghdr *), void *ctx);
/* The attribute of that type among those in [at, at + n), or NULL. */
struct rtattr *sl_netlink_find(struct rtattr *at, unsigned n, uint16_t type);
