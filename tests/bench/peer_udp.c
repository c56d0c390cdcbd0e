/* The peer: UDP sockets. Without offload one datagram a packet, in bursts; with it runs of datagrams by UDP
 * GSO and GRO. Every packet is sealed and opened by the same cipher as ours, opened to one of a few slots. */
#include "tests/bench/machine.h"
#include "tests/bench/netns.h"
#include "tests/bench/peers.h"
#include "tests/bench/sealed.h"
#include "tests/bench/verb.h"

#include <errno.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/time.h>

enum {
    PORT = 7445,
    BATCH = 64,
    RUNS = 4,           /* GSO buffers of a call */
    RUN_BYTES = 65507,  /* UDP's longest payload over IPv4 */
    SEGMENTS_MOST = 64, /* UDP_MAX_SEGMENTS */
    SOCKET_BUFFER = 16 << 20,
    SLOT_BYTES = 192 << 10,
    SLOTS = 8,
    WAIT_MS = 100,
};

struct udp {
    struct bench_twin *side;
    struct bench_peer_run *p;
    struct bench_sealed sealed;
    int fd;
    uint64_t pn;
    unsigned n_buffers;
    size_t buffer_bytes, datagram;
    uint8_t *memory, *slots;
    size_t slot_at;
    struct mmsghdr m[BATCH];
    struct iovec iov[BATCH];
    char control[BATCH][CMSG_SPACE(sizeof(int))];
};

static int open_socket(struct udp *u)
{
    struct sockaddr_in own = bench_netns_address(u->side->index, PORT),
                       other = bench_netns_address(1 - u->side->index, PORT);
    struct timeval wait = {.tv_usec = WAIT_MS * 1000};
    int bytes = SOCKET_BUFFER, on = 1;
    u->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (u->fd < 0 || bind(u->fd, (struct sockaddr *)&own, sizeof(own)) != 0 ||
        connect(u->fd, (struct sockaddr *)&other, sizeof(other)) != 0 ||
        setsockopt(u->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) != 0 ||
        setsockopt(u->fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) != 0 ||
        setsockopt(u->fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) != 0 ||
        (u->p->offload && setsockopt(u->fd, IPPROTO_UDP, UDP_GRO, &on, sizeof(on)) != 0)) {
        snprintf(u->side->err, u->side->err_cap, "UDP socket: %s", strerror(errno));
        return -errno;
    }
    return 0;
}

static int make_buffers(struct udp *u)
{
    u->datagram = bench_sealed_bytes(u->p->plain);
    u->n_buffers = u->p->offload ? RUNS : BATCH;
    u->buffer_bytes = u->p->offload ? 1 << 16 : (u->datagram + 63) / 64 * 64;
    u->memory = aligned_alloc(64, u->n_buffers * u->buffer_bytes);
    u->slots = aligned_alloc(64, (size_t)SLOTS * SLOT_BYTES);
    if (u->memory == NULL || u->slots == NULL)
        return -ENOMEM;
    memset(u->memory, 0, u->n_buffers * u->buffer_bytes);
    memset(u->slots, 0, (size_t)SLOTS * SLOT_BYTES);
    for (unsigned i = 0; i < u->n_buffers; i++) {
        u->iov[i] = (struct iovec){u->memory + i * u->buffer_bytes, u->buffer_bytes};
        u->m[i].msg_hdr = (struct msghdr){.msg_iov = &u->iov[i], .msg_iovlen = 1};
    }
    return 0;
}

/* ---- sending ---- */

static unsigned segments_of_a_run(const struct udp *u)
{
    size_t n = RUN_BYTES / u->datagram;
    return n > SEGMENTS_MOST ? SEGMENTS_MOST : (unsigned)n;
}

static void say_segment_size(struct udp *u, unsigned i)
{
    struct msghdr *h = &u->m[i].msg_hdr;
    h->msg_control = u->control[i];
    h->msg_controllen = CMSG_SPACE(sizeof(uint16_t));
    struct cmsghdr *c = CMSG_FIRSTHDR(h);
    c->cmsg_level = IPPROTO_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof(uint16_t));
    uint16_t size = (uint16_t)u->datagram;
    memcpy(CMSG_DATA(c), &size, sizeof(size));
}

static void send_side(struct udp *u)
{
    unsigned each = u->p->offload ? segments_of_a_run(u) : 1;
    for (unsigned i = 0; i < u->n_buffers; i++) {
        u->iov[i].iov_len = each * u->datagram;
        if (u->p->offload)
            say_segment_size(u, i);
    }
    while (__atomic_load_n(&u->p->over, __ATOMIC_ACQUIRE) == 0 && !bench_twin_cancelled(u->side)) {
        for (unsigned i = 0; i < u->n_buffers; i++)
            for (unsigned k = 0; k < each; k++)
                bench_seal(&u->sealed, u->pn++, u->p->plain, (uint8_t *)u->iov[i].iov_base + k * u->datagram);
        for (unsigned done = 0; done < u->n_buffers;) {
            int n = sendmmsg(u->fd, u->m + done, u->n_buffers - done, 0);
            if (n < 0 && errno != ENOBUFS && errno != EINTR && errno != ECONNREFUSED && errno != EAGAIN)
                return;
            done += n > 0 ? (unsigned)n : 0;
            if (n < 0 && __atomic_load_n(&u->p->over, __ATOMIC_ACQUIRE) != 0)
                return;
        }
        u->p->packets_sent += (uint64_t)u->n_buffers * each;
    }
}

/* ---- receiving ---- */

static uint8_t *next_place(struct udp *u)
{
    if (u->slot_at + u->p->plain > (size_t)SLOTS * SLOT_BYTES)
        u->slot_at = 0;
    uint8_t *at = u->slots + u->slot_at;
    u->slot_at += u->p->plain;
    return at;
}

static void open_one(struct udp *u, const uint8_t *in, size_t len)
{
    uint64_t pn;
    if (len != u->datagram) {
        u->p->wrong++;
        return;
    }
    memcpy(&pn, in, sizeof(pn));
    if (!sl_aead_open(u->sealed.aead, u->sealed.key, u->sealed.iv, pn, in, SL_HEADER_DATA_BYTES,
            in + SL_HEADER_DATA_BYTES, u->p->plain, next_place(u), in + SL_HEADER_DATA_BYTES + u->p->plain))
        u->p->wrong++;
}

/* Returns how many datagrams the message held. */
static unsigned open_run(struct udp *u, const struct mmsghdr *m, const uint8_t *in)
{
    size_t left = m->msg_len, each = left;
    unsigned n = 0;
    struct msghdr h = m->msg_hdr;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c != NULL; c = CMSG_NXTHDR(&h, c)) {
        int size;
        if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
            memcpy(&size, CMSG_DATA(c), sizeof(size));
            each = (size_t)size;
        }
    }
    for (; left > 0; n++) {
        size_t len = left < each ? left : each;
        open_one(u, in, len);
        in += len;
        left -= len;
    }
    return n;
}

static void receive_side(struct udp *u)
{
    struct bench_peer_clock clock;
    bench_peer_clock_start(&clock, u->p->seconds);
    uint64_t packets = 0;
    while (bench_peer_clock_count(&clock, u->p, packets * u->p->plain, packets) &&
           !bench_twin_cancelled(u->side)) {
        for (unsigned i = 0; u->p->offload && i < u->n_buffers; i++) {
            u->m[i].msg_hdr.msg_control = u->control[i];
            u->m[i].msg_hdr.msg_controllen = sizeof(u->control[i]);
        }
        int n = recvmmsg(u->fd, u->m, u->n_buffers, MSG_WAITFORONE, NULL);
        packets = 0;
        for (int i = 0; i < n; i++)
            packets += open_run(u, &u->m[i], u->iov[i].iov_base);
    }
}

int bench_peer_udp(struct bench_twin *side)
{
    static struct udp u;
    u.side = side;
    u.p = side->shared;
    bench_pin(side->cpu);
    if (!bench_sealed_init(&u.sealed) || make_buffers(&u) != 0) {
        snprintf(side->err, side->err_cap, "no memory, or no AES-GCM on this CPU");
        return BENCH_FAILED;
    }
    int ret = bench_netns_join(side, u.p->mtu);
    if (ret == -EPERM)
        return BENCH_SKIPPED;
    if (ret != 0 || open_socket(&u) != 0 || bench_twin_meet(side) != 0)
        return BENCH_FAILED;
    if (side->index == 1) {
        send_side(&u);
        return BENCH_OK;
    }
    receive_side(&u);
    __atomic_store_n(&u.p->over, 1, __ATOMIC_RELEASE);
    bench_twin_outlive(side);
    return BENCH_OK;
}
