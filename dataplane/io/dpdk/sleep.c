#include "dataplane/io/dpdk/sleep.h"

#include <dirent.h>
#include <poll.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef AF_XDP
#define AF_XDP 44 /* linux/socket.h */
#endif

enum { NAP_NS = 100000 }; /* after an error that would end every wait at once: a link that is down */

static struct timespec timespec_of(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
}

static void nap(uint64_t ns)
{
    struct timespec t = timespec_of(ns);
    clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

/* ---- which descriptors ---- */

static bool is_drivers(enum sl_device_kind kind, int fd)
{
    if (kind == SL_DEVICE_TAP) {
        char link[32], target[32];
        snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, target, sizeof(target));
        return n == (ssize_t)strlen("/dev/net/tun") && memcmp(target, "/dev/net/tun", (size_t)n) == 0;
    }
    int domain = 0;
    socklen_t len = sizeof(domain);
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
           domain == (kind == SL_DEVICE_AF_XDP ? AF_XDP : AF_PACKET);
}

/* The drivers keep them to themselves; but a process has one such port, and no other sockets of that kind. */
static void find_descriptors(struct sl_sleep *s, enum sl_device_kind kind)
{
    DIR *d = opendir("/proc/self/fd");
    const struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        int fd = atoi(entry->d_name);
        if (entry->d_name[0] != '.' && fd != dirfd(d) && s->n < SL_SLEEP_DESCRIPTORS && is_drivers(kind, fd))
            s->fds[s->n++] = fd;
    }
    if (d != NULL)
        closedir(d);
}

void sl_sleep_open(struct sl_sleep *s, enum sl_device_kind kind, uint16_t n_queues)
{
    *s = (struct sl_sleep){.wake_fd = -1};
    if (n_queues == 1 && (kind == SL_DEVICE_AF_XDP || kind == SL_DEVICE_AF_PACKET || kind == SL_DEVICE_TAP))
        find_descriptors(s, kind);
    if (s->n > 0)
        s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* Without the count of what waits, a packet that came before the interrupt was enabled could wait for the
 * next.
 */
void sl_sleep_open_interrupt(struct sl_sleep *s, uint16_t port_id, uint16_t ring)
{
    *s = (struct sl_sleep){.wake_fd = -1, .port_id = port_id, .ring = ring};
    int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(port_id, ring);
    if (fd < 0 || rte_eth_rx_queue_count(port_id, ring) < 0 ||
        rte_eth_dev_rx_intr_disable(port_id, ring) != 0)
        return;
    s->fds[s->n++] = fd;
    s->interrupt = true;
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void sl_sleep_close(struct sl_sleep *s)
{
    if (s->wake_fd >= 0)
        close(s->wake_fd);
    s->wake_fd = -1;
}

/* ---- sleeping ---- */

static void drain(int fd)
{
    uint64_t value;
    if (read(fd, &value, sizeof(value)) < 0) {
        /* nothing in it: somebody else has been quicker */
    }
}

/* True: one of them is in an error that stays, and would end every wait. */
static bool clear_errors(const struct pollfd *fds, int n)
{
    bool any = false;
    for (int i = 0; i < n; i++) {
        int error;
        socklen_t len = sizeof(error);
        if ((fds[i].revents & (POLLERR | POLLHUP | POLLNVAL)) == 0)
            continue;
        getsockopt(fds[i].fd, SOL_SOCKET, SO_ERROR, &error, &len);
        any = true;
    }
    return any;
}

/* False: something has come already, or the interrupt cannot be had now. */
static bool enable(struct sl_sleep *s)
{
    if (rte_eth_dev_rx_intr_enable(s->port_id, s->ring) != 0) {
        nap(NAP_NS);
        return false;
    }
    if (rte_eth_rx_queue_count(s->port_id, s->ring) <= 0)
        return true;
    rte_eth_dev_rx_intr_disable(s->port_id, s->ring);
    return false;
}

static void disable(struct sl_sleep *s, bool came)
{
    rte_eth_dev_rx_intr_disable(s->port_id, s->ring);
    if (came)
        drain(s->fds[0]);
}

void sl_sleep_for(struct sl_sleep *s, uint64_t ns)
{
    struct pollfd fds[SL_SLEEP_DESCRIPTORS + 1];
    struct timespec t = timespec_of(ns);
    if (s->wake_fd < 0) {
        nap(ns);
        return;
    }
    if (s->interrupt && !enable(s))
        return;
    for (int i = 0; i < s->n; i++)
        fds[i] = (struct pollfd){.fd = s->fds[i], .events = POLLIN};
    fds[s->n] = (struct pollfd){.fd = s->wake_fd, .events = POLLIN};
    int ready = ppoll(fds, (nfds_t)s->n + 1, &t, NULL);
    if (ready > 0 && (fds[s->n].revents & POLLIN) != 0)
        drain(s->wake_fd);
    if (s->interrupt)
        disable(s, ready > 0 && (fds[0].revents & POLLIN) != 0);
    if (ready > 0 && clear_errors(fds, s->n))
        nap(ns < NAP_NS ? ns : NAP_NS);
}

void sl_sleep_wake(struct sl_sleep *s)
{
    uint64_t one = 1;
    if (write(s->wake_fd, &one, sizeof(one)) < 0) {
        /* full: it is waking up already */
    }
}
