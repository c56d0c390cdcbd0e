#include "dataplane/io/dpdk/netlink.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { ANSWER_BYTES = 32768, ANSWER_WITHIN_MS = 500 };

void sl_netlink_begin(struct sl_netlink_request *r, uint16_t type, uint16_t flags, uint32_t body)
{
    memset(r, 0, sizeof(*r));
    r->head.nlmsg_len = NLMSG_LENGTH(body);
    r->head.nlmsg_type = type;
    r->head.nlmsg_flags = NLM_F_REQUEST | flags;
    r->head.nlmsg_seq = 1;
}

void sl_netlink_add(struct sl_netlink_request *r, uint16_t type, const void *value, uint16_t n)
{
    struct rtattr *a = (struct rtattr *)((char *)r + NLMSG_ALIGN(r->head.nlmsg_len));
    a->rta_type = type;
    a->rta_len = (uint16_t)RTA_LENGTH(n);
    memcpy(RTA_DATA(a), value, n);
    r->head.nlmsg_len = NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(a->rta_len);
}

struct rtattr *sl_netlink_find(struct rtattr *a, unsigned n, uint16_t type)
{
    for (; RTA_OK(a, n); a = RTA_NEXT(a, n)) {
        if ((a->rta_type & NLA_TYPE_MASK) == type)
            return a;
    }
    return NULL;
}

/* Returns whether the last message was among them; *err is the kernel's verdict. */
static bool read_answers(
    char *bytes, int n, bool dump, void (*answer)(void *, struct nlmsghdr *), void *ctx, int *err)
{
    for (struct nlmsghdr *h = (struct nlmsghdr *)bytes; NLMSG_OK(h, (unsigned)n); h = NLMSG_NEXT(h, n)) {
        if (h->nlmsg_type == NLMSG_DONE)
            return true;
        if (h->nlmsg_type == NLMSG_ERROR) {
            *err = ((struct nlmsgerr *)NLMSG_DATA(h))->error;
            return true;
        }
        answer(ctx, h);
        if (!dump)
            return true;
    }
    return false;
}

int sl_netlink_ask(struct sl_netlink_request *r, void (*answer)(void *, struct nlmsghdr *), void *ctx)
{
    char bytes[ANSWER_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));
    struct timeval patience = {.tv_usec = ANSWER_WITHIN_MS * 1000};
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    bool dump = (r->head.nlmsg_flags & NLM_F_DUMP) == NLM_F_DUMP, last = false;
    int err = 0, fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (sendto(fd, r, r->head.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0)
        err = -errno;
    while (err == 0 && !last) {
        ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
        if (n < 0)
            err = -errno;
        else
            last = read_answers(bytes, (int)n, dump, answer, ctx, &err);
    }
    close(fd);
    return err;
}
