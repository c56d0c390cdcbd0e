#include "device-sim/sink/udp.h"

#include "dataplane/io/lcore/address.h"
#include "device-sim/sink/header.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 64, SPARE_FILES = 64, MAPPED_AT = 12, IPV4_UDP_BYTES = 28, IPV6_UDP_BYTES = 48 };

struct sl_udp_flows {
    uint32_t n, ip_udp_bytes;
    uint32_t phone; /* whose the gathered ones are */
    unsigned gathered;
    struct sl_udp_stats stats;
    struct mmsghdr msg[BATCH];
    struct iovec iov[BATCH][2];
    uint8_t head[BATCH][SL_FLOW_HEADER_BYTES];
    int fd[];
};

static socklen_t to_sockaddr(const struct sl_addr *a, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (sl_addr_is_mapped(a)) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)out;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(a->port);
        memcpy(&v4->sin_addr, a->ip + MAPPED_AT, 4);
        return sizeof(*v4);
    }
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(a->port);
    memcpy(&v6->sin6_addr, a->ip, sizeof(a->ip));
    return sizeof(*v6);
}

static int allow_files(uint32_t n, char *err, size_t err_cap)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)n + SPARE_FILES;

    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted)
        return 0;
    limit.rlim_cur = wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (limit.rlim_cur == wanted && setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return 0;
    snprintf(err, err_cap,
        "%u phones need a socket each, and this process may open %llu files; raise it (ulimit -Hn), or take "
        "fewer phones",
        n, (unsigned long long)limit.rlim_max);
    return -EMFILE;
}

static int open_one(const struct sockaddr_storage *to, socklen_t len)
{
    int fd = socket(to->ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), rc = 0;
    int set = to->ss_family == AF_INET ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO;

    if (fd < 0)
        return -errno;
    if (to->ss_family == AF_INET)
        rc = setsockopt(fd, IPPROTO_IP, IP_MTU_DISCOVER, &set, sizeof(set));
    else
        rc = setsockopt(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, &set, sizeof(set));
    if (!rc)
        rc = connect(fd, (const struct sockaddr *)to, len);
    if (rc) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

int sl_udp_flows_open(
    const struct sl_addr *to, uint32_t n, struct sl_udp_flows **out, char *err, size_t err_cap)
{
    struct sockaddr_storage address;
    socklen_t len = to_sockaddr(to, &address);
    char text[SL_ADDR_TEXT];
    int rc = allow_files(n, err, err_cap);

    if (rc)
        return rc;
    struct sl_udp_flows *u = calloc(1, sizeof(*u) + n * sizeof(u->fd[0]));
    if (!u) {
        snprintf(err, err_cap, "out of memory");
        return -ENOMEM;
    }
    u->ip_udp_bytes = address.ss_family == AF_INET ? IPV4_UDP_BYTES : IPV6_UDP_BYTES;
    for (u->n = 0; u->n < n; u->n++) {
        u->fd[u->n] = open_one(&address, len);
        if (u->fd[u->n] >= 0)
            continue;
        rc = u->fd[u->n];
        sl_addr_format(to, text, sizeof(text));
        snprintf(err, err_cap, "no socket from phone %u to %s: %s", u->n, text, strerror(-rc));
        sl_udp_flows_close(u);
        return rc;
    }
    *out = u;
    return 0;
}

void sl_udp_flows_close(struct sl_udp_flows *u)
{
    if (!u)
        return;
    for (uint32_t i = 0; i < u->n; i++)
        close(u->fd[i]);
    free(u);
}

static void count_failure(struct sl_udp_flows *u, int error)
{
    if (error == ECONNREFUSED)
        u->stats.refused++;
    else if (error == EMSGSIZE)
        u->stats.too_long++;
    else if (error == EAGAIN || error == ENOBUFS || error == ENOMEM)
        u->stats.no_room++;
    else
        u->stats.unreachable++;
}

void sl_udp_flows_flush(struct sl_udp_flows *u)
{
    unsigned at = 0;

    while (at < u->gathered) {
        int n = sendmmsg(u->fd[u->phone], &u->msg[at], u->gathered - at, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) { /* an ICMP error of an earlier datagram comes with this one: both are gone */
            count_failure(u, errno);
            at++;
            continue;
        }
        for (int i = 0; i < n; i++)
            u->stats.sent_bytes += u->msg[at + (unsigned)i].msg_len + u->ip_udp_bytes;
        u->stats.sent += (unsigned)n;
        at += (unsigned)n;
    }
    u->gathered = 0;
}

void sl_udp_flows_send(struct sl_udp_flows *u, uint32_t phone, const uint8_t *head, size_t head_bytes,
    const uint8_t *body, size_t body_bytes)
{
    if (u->gathered == BATCH || (u->gathered && u->phone != phone))
        sl_udp_flows_flush(u);
    unsigned i = u->gathered++;
    u->phone = phone;
    memcpy(u->head[i], head, head_bytes);
    u->iov[i][0] = (struct iovec){u->head[i], head_bytes};
    u->iov[i][1] = (struct iovec){(void *)(uintptr_t)body, body_bytes};
    u->msg[i] = (struct mmsghdr){.msg_hdr = {.msg_iov = u->iov[i], .msg_iovlen = 2}};
}

void sl_udp_flows_stats(const struct sl_udp_flows *u, struct sl_udp_stats *out)
{
    *out = u->stats;
}
