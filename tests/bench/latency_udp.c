/* The peer: kernel UDP over veth between two namespaces, with the same packets, sealed and opened by the same
 * cipher. */
#include "tests/bench/latency.h"
#include "tests/bench/machine.h"
#include "tests/bench/netns.h"
#include "tests/bench/sealed.h"
#include "tests/bench/verb.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>

enum { PORT = 7444, MTU = 1500, WARM_UP = 500, LOOK_EVERY = 1 << 8, BLOCK_AT_MOST_MS = 200 };

struct udp {
    struct bench_twin *side;
    struct latency_ping *p;
    struct bench_sealed sealed;
    int fd;
    uint64_t pn;
    uint8_t datagram[SL_DATAGRAM_MAX_BYTES];
};

static int open_socket(struct udp *u)
{
    struct sockaddr_in own = bench_netns_address(u->side->index, PORT),
                       other = bench_netns_address(1 - u->side->index, PORT);
    struct timeval wait = {.tv_usec = BLOCK_AT_MOST_MS * 1000}; /* to look whether the other has ended */
    u->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (u->fd < 0 || setsockopt(u->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0 ||
        bind(u->fd, (struct sockaddr *)&own, sizeof(own)) != 0 ||
        connect(u->fd, (struct sockaddr *)&other, sizeof(other)) != 0) {
        snprintf(u->side->err, u->side->err_cap, "UDP socket: %s", strerror(errno));
        return -errno;
    }
    return 0;
}

static bool send_one(struct udp *u, size_t plain)
{
    bench_seal(&u->sealed, u->pn++, plain, u->datagram);
    ssize_t n;
    do
        n = send(u->fd, u->datagram, bench_sealed_bytes(plain), 0);
    while (n < 0 && (errno == ENOBUFS || errno == EINTR || errno == ECONNREFUSED));
    return n > 0;
}

static bool receive_one(struct udp *u)
{
    ssize_t n;
    for (uint32_t tries = 1;; tries++) {
        n = recv(u->fd, u->datagram, sizeof(u->datagram), u->p->blocking ? 0 : MSG_DONTWAIT);
        if (n >= 0)
            break;
        if ((u->p->blocking || tries % LOOK_EVERY == 0) &&
            (bench_twin_cancelled(u->side) || __atomic_load_n(&u->p->over, __ATOMIC_ACQUIRE) != 0))
            return false;
    }
    if (!bench_open(&u->sealed, u->datagram, (size_t)n))
        u->p->wrong++;
    return true;
}

static bool ping(struct udp *u)
{
    uint64_t from = bench_now_ns();
    if (!send_one(u, u->p->up_bytes) || !receive_one(u))
        return false;
    if (u->pn > WARM_UP)
        sl_histogram_record(&u->p->rtt, bench_now_ns() - from);
    return true;
}

int latency_kernel_udp_side(struct bench_twin *side)
{
    static struct udp u;
    u.side = side;
    u.p = side->shared;
    bench_pin(side->cpu);
    if (!bench_sealed_init(&u.sealed)) {
        snprintf(side->err, side->err_cap, "no AES-GCM on this CPU");
        return BENCH_FAILED;
    }
    int ret = bench_netns_join(side, MTU);
    if (ret == -EPERM)
        return BENCH_SKIPPED;
    if (ret != 0 || open_socket(&u) != 0 || bench_twin_meet(side) != 0)
        return BENCH_FAILED;
    if (side->index == 1) {
        while (receive_one(&u) && send_one(&u, u.p->down_bytes)) {
        }
        return BENCH_OK;
    }
    uint64_t until = bench_now_ns() + (uint64_t)(u.p->seconds * 1e9);
    while (bench_now_ns() < until && ping(&u)) {
    }
    __atomic_store_n(&u.p->over, 1, __ATOMIC_RELEASE);
    return BENCH_OK;
}
