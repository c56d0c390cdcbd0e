/* Opening and closing UDP sockets as a port; what can be asked of it from any thread. */
#include "dataplane/io/uring/udp_port.h"
#include "dataplane/io/lcore/clock.h"

#include "dataplane/io/lcore/address.h"
#include "dataplane/io/uring/udp_internal.h"

#include <errno.h>
#include <ifaddrs.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    DEFAULT_MTU = 1500,
    DEFAULT_BUFFERS = 8192,
    MTU_MIN = 576,
    MTU_MAX = 9000,
    IPV4_UDP_BYTES = 28,
    IPV6_UDP_BYTES = 48,
    SOCKET_BUFFER_BYTES = 4 << 20, /* what a burst of all phones needs while the lcore is busy */
    PAGE = 4096,
    LINE = 64,
};

static struct sl_udp_port *port_of(struct sl_port *p)
{
    return (struct sl_udp_port *)p;
}

/* ---- sockets ---- */

static int set(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value)) == 0 ? 0 : -errno;
}

/* Don't fragment, whatever path MTU the kernel believes in (rules T9; RFC 9000 §14). */
static int set_options(const struct sl_udp_port *p, int fd)
{
    int level = p->ipv6 ? IPPROTO_IPV6 : IPPROTO_IP, status;

    if (set(fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUFFER_BYTES) != 0)
        set(fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER_BYTES); /* as much as net.core.rmem_max lets us */
    if (set(fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER_BYTES) != 0)
        set(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER_BYTES);
    if (!p->plain)
        set(fd, SOL_UDP, UDP_GRO, 1); /* without it datagrams come one by one */
    if (p->ipv6) {
        status = set(fd, level, IPV6_V6ONLY, 1);
        status = status != 0 ? status : set(fd, level, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
        set(fd, level, IPV6_RECVTCLASS, 1);
        set(fd, level, IPV6_RECVFRAGSIZE, 1);
        return status != 0 || !p->any_address ? status : set(fd, level, IPV6_RECVPKTINFO, 1);
    }
    status = set(fd, level, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
    set(fd, level, IP_RECVTOS, 1);
    set(fd, level, IP_RECVFRAGSIZE, 1);
    return status != 0 || !p->any_address ? status : set(fd, level, IP_PKTINFO, 1);
}

static int explain_bind(int status, const struct sl_addr *a, char *err, size_t cap)
{
    char text[SL_ADDR_TEXT];

    sl_addr_format(a, text, sizeof(text));
    switch (status) {
    case -EADDRNOTAVAIL:
        snprintf(err, cap, "UDP %s: no interface of this host has that address (ip addr shows them)", text);
        break;
    case -EADDRINUSE:
        snprintf(
            err, cap, "UDP %s: another program has that port (ss -lunp shows which); name another", text);
        break;
    case -EACCES:
        snprintf(err, cap, "UDP %s: ports below 1024 need a privilege; name a higher one", text);
        break;
    case -EMFILE:
        snprintf(err, cap, "UDP %s: too many open files; raise the limit (ulimit -n)", text);
        break;
    default:
        snprintf(err, cap, "UDP %s: cannot be opened: %s", text, strerror(-status));
    }
    return status;
}

static int open_socket(struct sl_udp_port *p, const struct sl_addr *at, int *fd, char *err, size_t cap)
{
    union sl_udp_name name;
    socklen_t len = sl_udp_write_name(&name, at);
    int status;

    *fd = socket(name.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP);
    if (*fd < 0)
        return explain_bind(-errno, at, err, cap);
    status = set_options(p, *fd);
    if (status == 0 && bind(*fd, &name.any, len) != 0)
        status = -errno;
    return status != 0 ? explain_bind(status, at, err, cap) : 0;
}

static int open_sockets(struct sl_udp_queue *q, const struct sl_addr *first, char *err, size_t cap)
{
    struct sl_udp_port *p = q->port;
    union sl_udp_name bound;
    socklen_t len = sizeof(bound);

    q->local = *first;
    for (unsigned i = 0; i < p->n_sockets; i++) {
        struct sl_addr at = *first;
        at.port = (uint16_t)(first->port + i);
        int status = open_socket(p, &at, &q->fds[i], err, cap);
        if (status != 0)
            return status;
    }
    if (getsockname(q->fds[0], &bound.any, &len) == 0)
        sl_udp_read_name(&bound, len, &q->local);
    return 0;
}

/* ---- memory ---- */

static size_t up_to(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* One mapping: the ring of provided buffers (page-aligned), what the kernel fills, and the pool. */
static int make_buffers(struct sl_udp_queue *q, uint32_t n_pool)
{
    struct sl_udp_port *p = q->port;
    size_t ring = up_to(SL_UDP_RX_BUFFERS * sizeof(struct io_uring_buf), PAGE);
    size_t filled = (size_t)SL_UDP_RX_BUFFERS * SL_UDP_RX_BYTES;

    q->memory_bytes = ring + filled + (size_t)n_pool * p->pool_stride;
    q->memory = mmap(NULL, q->memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (q->memory == MAP_FAILED) {
        q->memory = NULL;
        return -ENOMEM;
    }
    madvise(q->memory, q->memory_bytes, MADV_DONTDUMP);
    q->provided = (struct io_uring_buf_ring *)q->memory;
    q->pool = calloc(n_pool, sizeof(*q->pool));
    q->pool_free = calloc(n_pool, sizeof(struct sl_udp_buffer *));
    q->slots = calloc(SL_UDP_SLOTS, sizeof(*q->slots));
    if (q->pool == NULL || q->pool_free == NULL || q->slots == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < SL_UDP_RX_BUFFERS; i++)
        q->rx[i] = (struct sl_udp_buffer){
            .memory = q->memory + ring + (size_t)i * SL_UDP_RX_BYTES, .index = (uint16_t)i, .provided = true};
    for (uint32_t i = 0; i < n_pool; i++) {
        q->pool[i].memory = q->memory + ring + filled + (size_t)i * p->pool_stride;
        q->pool_free[q->n_pool_free++] = &q->pool[i];
    }
    for (unsigned i = SL_UDP_SLOTS; i > 0; i--)
        q->slot_free[q->n_slot_free++] = (uint16_t)(i - 1);
    return 0;
}

static int make_queue(
    struct sl_udp_queue *q, const struct sl_addr *first, uint32_t n_pool, char *err, size_t cap)
{
    uint32_t n = q->port->n_sockets;

    q->segmented = !q->port->plain;
    q->receive_msg =
        (struct msghdr){.msg_namelen = SL_UDP_NAME_BYTES, .msg_controllen = SL_UDP_CONTROL_BYTES};
    q->fds = malloc(n * sizeof(*q->fds));
    q->unarmed = calloc(n, sizeof(*q->unarmed));
    if (q->fds != NULL)
        memset(q->fds, 0xff, n * sizeof(*q->fds)); /* -1 */
    q->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->fds == NULL || q->unarmed == NULL || q->wake_fd < 0 || make_buffers(q, n_pool) != 0) {
        snprintf(err, cap, "UDP: no memory for %u packet buffers of %u bytes", n_pool, q->port->pool_stride);
        return -ENOMEM;
    }
    return open_sockets(q, first, err, cap);
}

static void free_queue(struct sl_udp_queue *q)
{
    for (unsigned i = 0; q->fds != NULL && i < q->port->n_sockets; i++)
        if (q->fds[i] >= 0)
            close(q->fds[i]);
    if (q->wake_fd >= 0)
        close(q->wake_fd);
    if (q->memory != NULL)
        munmap(q->memory, q->memory_bytes);
    free(q->fds);
    free(q->unarmed);
    free(q->pool);
    free(q->pool_free);
    free(q->slots);
}

/* ---- the interface ---- */

/* Which one has the address: so that a link that is down can be named. */
static void find_interface(struct sl_udp_port *p, const struct sl_addr *local)
{
    struct ifaddrs *all, *i;

    if (getifaddrs(&all) != 0)
        return;
    for (i = all; i != NULL; i = i->ifa_next) {
        struct sl_addr a;
        if (i->ifa_addr == NULL)
            continue;
        size_t len =
            i->ifa_addr->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
        if (sl_udp_read_name(i->ifa_addr, len, &a) && memcmp(a.ip, local->ip, sizeof(a.ip)) == 0)
            snprintf(p->interface, sizeof(p->interface), "%s", i->ifa_name);
    }
    freeifaddrs(all);
}

static bool link_up(struct sl_port *base)
{
    struct sl_udp_port *p = port_of(base);
    struct ifreq r = {0};

    if (p->interface[0] == '\0')
        return true;
    memcpy(r.ifr_name, p->interface, sizeof(r.ifr_name));
    return ioctl(p->link_fd, SIOCGIFFLAGS, &r) != 0 ||
           (r.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
}

static int wait_for_link(struct sl_port *base, char *text, size_t cap)
{
    struct sl_udp_port *p = port_of(base);
    uint64_t now = sl_clock_ns();

    if (link_up(base)) {
        if (p->down_since_ns != 0)
            sl_udp_count(&p->reconnects, 1);
        p->down_since_ns = 0;
        return 0;
    }
    if (p->down_since_ns == 0)
        p->down_since_ns = now;
    if (p->link_timeout_ns != 0 && now - p->down_since_ns >= p->link_timeout_ns) {
        snprintf(text, cap, "gave up after %.1f s with %s down: ip link set %s up, and look at its other end",
            (double)p->link_timeout_ns * 1e-9, p->interface, p->interface);
        return -ETIMEDOUT;
    }
    snprintf(text, cap, "waiting for %s to come up", p->interface);
    return 1;
}

/* ---- the port ---- */

static void add(uint64_t *to, const uint64_t *from, size_t bytes)
{
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
        to[i] += __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

/* What the kernel dropped because the socket's buffer was full; a run that GRO made one counts once. */
static uint64_t overflowed(int fd)
{
    uint32_t info[SK_MEMINFO_VARS] = {0};
    socklen_t len = sizeof(info);

    return getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &len) == 0 ? info[SK_MEMINFO_DROPS] : 0;
}

static void read_stats(struct sl_port *base, struct sl_port_stats *out)
{
    struct sl_udp_port *p = port_of(base);

    memset(out, 0, sizeof(*out));
    for (unsigned i = 0; i < p->base.n_queues; i++) {
        struct sl_udp_queue *q = &p->queue[i];
        add(&out->rx_packets, &q->stats.rx_packets, offsetof(struct sl_port_stats, link_up));
        add(&out->kernel_calls, &q->calls.enters, sizeof(uint64_t));
        for (unsigned s = 0; s < p->n_sockets; s++)
            out->drops[SL_PORT_RX_FULL] += overflowed(q->fds[s]);
    }
    out->reconnects = __atomic_load_n(&p->reconnects, __ATOMIC_RELAXED);
    out->link_up = link_up(base);
}

void sl_uring_port_calls(struct sl_port *base, struct sl_uring_port_calls *out)
{
    struct sl_udp_port *p = port_of(base);

    memset(out, 0, sizeof(*out));
    for (unsigned i = 0; i < p->base.n_queues; i++)
        add(&out->enters, &p->queue[i].calls.enters, sizeof(*out));
}

struct sl_addr sl_uring_port_address(struct sl_port *base, unsigned queue)
{
    return port_of(base)->queue[queue].local;
}

static struct sl_queue *get_queue(struct sl_port *base, unsigned index)
{
    return &port_of(base)->queue[index].base;
}

static void close_port(struct sl_port *base)
{
    struct sl_udp_port *p = port_of(base);

    for (unsigned i = 0; i < p->base.n_queues; i++)
        free_queue(&p->queue[i]);
    if (p->link_fd >= 0)
        close(p->link_fd);
    free(p);
}

static const struct sl_port_ops ops = {.close = close_port,
    .link_up = link_up,
    .wait = wait_for_link,
    .stats = read_stats,
    .enter = sl_udp_enter,
    .leave = sl_udp_leave,
    .rx = sl_udp_rx,
    .alloc = sl_udp_alloc,
    .tx = sl_udp_tx,
    .free = sl_udp_free,
    .rests = sl_udp_rests,
    .sleep = sl_udp_sleep,
    .wake = sl_udp_wake};

static int check(const struct sl_uring_port_config *c, unsigned n_queues, unsigned n_sockets, uint32_t mtu,
    char *err, size_t cap)
{
    if (mtu < MTU_MIN || mtu > MTU_MAX) {
        snprintf(err, cap, "UDP: MTU %u is outside of %d..%d", mtu, MTU_MIN, MTU_MAX);
        return -EINVAL;
    }
    if (n_sockets > SL_URING_SOCKETS_MAX || c->local.port + n_queues * n_sockets > 65536 ||
        (c->local.port == 0 && n_sockets > 1)) {
        snprintf(err, cap, "UDP: %u ports from %u on are more than there are; at most %d, below 65536",
            n_queues * n_sockets, c->local.port, SL_URING_SOCKETS_MAX);
        return -EINVAL;
    }
    return 0;
}

int sl_uring_port_open(const struct sl_uring_port_config *c, struct sl_port **out, char *err, size_t cap)
{
    unsigned n_queues = c->n_queues != 0 ? c->n_queues : 1, n_sockets = c->n_sockets != 0 ? c->n_sockets : 1;
    uint32_t mtu = c->mtu != 0 ? c->mtu : DEFAULT_MTU;
    struct sl_udp_port *p;
    int status = check(c, n_queues, n_sockets, mtu, err, cap);

    *out = NULL;
    if (status != 0)
        return status;
    p = calloc(1, sizeof(*p) + n_queues * sizeof(p->queue[0]));
    if (p == NULL) {
        snprintf(err, cap, "out of memory");
        return -ENOMEM;
    }
    p->base = (struct sl_port){.ops = &ops, .n_queues = n_queues, .queue = get_queue};
    p->n_sockets = n_sockets;
    p->ipv6 = !sl_addr_is_mapped(&c->local);
    p->any_address = sl_addr_is_unspecified(&c->local);
    p->plain = c->plain;
    p->link_timeout_ns = c->link_timeout_ns;
    p->payload_max = (uint16_t)(mtu - (p->ipv6 ? IPV6_UDP_BYTES : IPV4_UDP_BYTES));
    p->pool_stride = (uint32_t)up_to(p->payload_max, LINE);
    p->link_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    for (unsigned i = 0; i < n_queues; i++) {
        p->queue[i].base = (struct sl_queue){.ops = &ops, .wakeable = true};
        p->queue[i].port = p;
        p->queue[i].wake_fd = -1;
    }
    for (unsigned i = 0; status == 0 && i < n_queues; i++) {
        struct sl_addr first = c->local;
        first.port = (uint16_t)(first.port + (first.port != 0 ? i * n_sockets : 0));
        status =
            make_queue(&p->queue[i], &first, c->n_buffers != 0 ? c->n_buffers : DEFAULT_BUFFERS, err, cap);
    }
    if (status != 0) {
        close_port(&p->base);
        return status;
    }
    find_interface(p, &c->local);
    *out = &p->base;
    return 0;
}

int sl_uring_local_address(const struct sl_addr *remote, struct sl_addr *local)
{
    union sl_udp_name name;
    socklen_t len = sl_udp_write_name(&name, remote);
    int fd = socket(name.any.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), status = 0;

    if (fd < 0)
        return -errno;
    if (connect(fd, &name.any, len) != 0) {
        status = -errno;
    } else {
        len = sizeof(name);
        if (getsockname(fd, &name.any, &len) != 0)
            status = -errno;
        else if (!sl_udp_read_name(&name, len, local))
            status = -EAFNOSUPPORT;
        local->port = 0;
    }
    close(fd);
    return status;
}
