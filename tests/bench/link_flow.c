#include "tests/bench/link_flow.h"

#include "tests/bench/tun.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { TCP_PORT = 7447, CHUNK = 64 << 10, LOOK_MS = 10, CONNECT_MS = 10000 };

void bench_flow_fail(struct bench_flow *f, const char *format, ...)
{
    va_list args;

    if (__atomic_exchange_n(&f->failed, 1, __ATOMIC_ACQ_REL) != 0)
        return;
    va_start(args, format);
    vsnprintf(f->err, sizeof(f->err), format, args);
    va_end(args);
}

bool bench_flow_over(const struct bench_flow *f)
{
    return __atomic_load_n(&f->stop, __ATOMIC_ACQUIRE) != 0 ||
           __atomic_load_n(&f->failed, __ATOMIC_ACQUIRE) != 0;
}

/* ---- TCP ---- */

static bool wait_for(struct bench_flow *f, int fd, short events)
{
    while (!bench_flow_over(f)) {
        struct pollfd p = {.fd = fd, .events = events};
        if (poll(&p, 1, LOOK_MS) > 0)
            return true;
    }
    return false;
}

static void receive(struct bench_flow *f)
{
    static char sink[CHUNK];
    struct sockaddr_in own = bench_tun_address(BENCH_FLOW_EDGE, TCP_PORT);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), fd = -1;

    if (listener < 0 || bind(listener, (struct sockaddr *)&own, sizeof(own)) != 0 || listen(listener, 1) != 0)
        bench_flow_fail(f, "TCP's listening socket: %s", strerror(errno));
    pthread_barrier_wait(&f->met);
    if (wait_for(f, listener, POLLIN))
        fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    while (fd >= 0 && wait_for(f, fd, POLLIN)) {
        ssize_t n = read(fd, sink, sizeof(sink));
        if (n == 0 || (n < 0 && errno != EAGAIN))
            break;
        if (n > 0)
            __atomic_add_fetch(&f->received, (uint64_t)n, __ATOMIC_RELEASE);
    }
    if (fd >= 0)
        close(fd);
    close(listener);
}

static void look(struct bench_flow *f, int fd)
{
    struct tcp_info info;
    socklen_t n = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0)
        return;
    __atomic_store_n(&f->rtt_ns, (uint64_t)info.tcpi_rtt * 1000, __ATOMIC_RELEASE);
    __atomic_store_n(&f->sent_again, (uint64_t)info.tcpi_total_retrans, __ATOMIC_RELEASE);
}

static void send_all(struct bench_flow *f)
{
    static const char source[CHUNK];
    struct sockaddr_in other = bench_tun_address(BENCH_FLOW_EDGE, TCP_PORT);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, f->congestion, (socklen_t)strlen(f->congestion)) != 0)
        bench_flow_fail(f, "TCP with %s: %s", f->congestion, strerror(errno));
    pthread_barrier_wait(&f->met);
    if (connect(fd, (struct sockaddr *)&other, sizeof(other)) != 0 && errno != EINPROGRESS)
        bench_flow_fail(f, "TCP's connection: %s", strerror(errno));
    while (!bench_flow_over(f)) {
        struct pollfd p = {.fd = fd, .events = POLLOUT};
        if (poll(&p, 1, LOOK_MS) > 0 && write(fd, source, sizeof(source)) < 0 && errno != EAGAIN) {
            bench_flow_fail(f, "TCP's connection: %s", strerror(errno));
            break;
        }
        look(f, fd);
    }
    close(fd);
}

void bench_flow_tcp(struct bench_flow *f, enum bench_flow_end end)
{
    if (end == BENCH_FLOW_EDGE)
        receive(f);
    else
        send_all(f);
}

/* ---- both ---- */

struct end {
    struct bench_flow *flow;
    enum bench_flow_end end;
};

static void *run(void *arg)
{
    struct end e = *(struct end *)arg;
    char err[160] = "";

    e.flow->tun[e.end] = bench_tun_open(e.end, e.flow->mtu, err, sizeof(err));
    if (e.flow->tun[e.end] < 0)
        bench_flow_fail(e.flow, "%s", err);
    pthread_barrier_wait(&e.flow->met);
    if (bench_flow_over(e.flow))
        return NULL;
    if (e.flow->kind == BENCH_FLOW_TCP)
        bench_flow_tcp(e.flow, e.end);
    else
        bench_flow_sluice(e.flow, e.end);
    return NULL;
}

/* Three meet: both ends and the caller. First when the devices are there, then when the sockets are. */
int bench_flow_start(struct bench_flow *f)
{
    static struct end ends[BENCH_FLOW_ENDS];

    f->tun[0] = f->tun[1] = -1;
    pthread_barrier_init(&f->met, NULL, BENCH_FLOW_ENDS + 1);
    for (unsigned i = 0; i < BENCH_FLOW_ENDS; i++) {
        ends[i] = (struct end){f, (enum bench_flow_end)i};
        if (pthread_create(&f->thread[i], NULL, run, &ends[i]) != 0)
            return -EAGAIN; /* the process ends with it */
    }
    pthread_barrier_wait(&f->met);
    if (!bench_flow_over(f))
        pthread_barrier_wait(&f->met);
    if (!bench_flow_over(f))
        return 0;
    int first = f->tun[0] < f->tun[1] ? f->tun[0] : f->tun[1];
    bench_flow_stop(f);
    return first < 0 ? first : -EIO;
}

void bench_flow_stop(struct bench_flow *f)
{
    __atomic_store_n(&f->stop, 1, __ATOMIC_RELEASE);
    for (unsigned i = 0; i < BENCH_FLOW_ENDS; i++) {
        pthread_join(f->thread[i], NULL);
        if (f->tun[i] >= 0)
            close(f->tun[i]);
    }
    pthread_barrier_destroy(&f->met);
}
