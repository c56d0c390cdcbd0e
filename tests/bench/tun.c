#include "tests/bench/tun.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

struct sockaddr_in bench_tun_address(unsigned index, uint16_t port)
{
    return (struct sockaddr_in){.sin_family = AF_INET,
        .sin_port = htons(port),
        .sin_addr.s_addr = htonl(UINT32_C(0x0a630001) + index)};
}

static int put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
    int e = errno;

    if (fd >= 0)
        close(fd);
    return n == (ssize_t)strlen(text) ? 0 : -e;
}

int bench_tun_prepare(char *err, size_t cap)
{
    char map[64];
    uid_t uid = getuid();
    gid_t gid = getgid();

    if (access("/dev/net/tun", R_OK | W_OK) != 0) {
        snprintf(err, cap, "/dev/net/tun: %s", strerror(errno));
        return -errno;
    }
    if (geteuid() == 0)
        return 0;
    if (unshare(CLONE_NEWUSER) != 0) {
        snprintf(err, cap, "network namespaces take CAP_NET_ADMIN or user namespaces: %s", strerror(errno));
        return -errno;
    }
    snprintf(map, sizeof(map), "0 %u 1", uid);
    int ret = put("/proc/self/setgroups", "deny");
    if (ret == 0)
        ret = put("/proc/self/uid_map", map);
    snprintf(map, sizeof(map), "0 %u 1", gid);
    if (ret == 0)
        ret = put("/proc/self/gid_map", map);
    if (ret != 0)
        snprintf(err, cap, "a user namespace could not be set up: %s", strerror(-ret));
    return ret;
}

/* Of the device, by ioctl: no other program is needed. */
static int configure(unsigned index, unsigned mtu, const char *name)
{
    struct ifreq r = {0};
    struct sockaddr_in own = bench_tun_address(index, 0), other = bench_tun_address(1 - index, 0);
    int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), e;

    if (s < 0)
        return -errno;
    snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
    memcpy(&r.ifr_addr, &own, sizeof(own));
    int ret = ioctl(s, SIOCSIFADDR, &r);
    memcpy(&r.ifr_dstaddr, &other, sizeof(other));
    if (ret == 0)
        ret = ioctl(s, SIOCSIFDSTADDR, &r);
    r.ifr_mtu = (int)mtu;
    if (ret == 0)
        ret = ioctl(s, SIOCSIFMTU, &r);
    r.ifr_flags = IFF_UP | IFF_RUNNING | IFF_POINTOPOINT;
    if (ret == 0)
        ret = ioctl(s, SIOCSIFFLAGS, &r);
    e = errno;
    close(s);
    return ret == 0 ? 0 : -e;
}

int bench_tun_open(unsigned index, unsigned mtu, char *err, size_t cap)
{
    struct ifreq r = {.ifr_flags = IFF_TUN | IFF_NO_PI};

    if (unshare(CLONE_NEWNET) != 0) {
        snprintf(err, cap, "a network namespace takes CAP_NET_ADMIN or user namespaces: %s", strerror(errno));
        return -errno;
    }
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    snprintf(r.ifr_name, sizeof(r.ifr_name), "sl0");
    if (fd < 0 || ioctl(fd, TUNSETIFF, &r) != 0) {
        int e = errno;
        snprintf(err, cap, "a tun device could not be made: %s", strerror(e));
        if (fd >= 0)
            close(fd);
        return -e;
    }
    int ret = configure(index, mtu, "sl0");
    if (ret != 0) {
        snprintf(err, cap, "the tun device could not be set up: %s", strerror(-ret));
        close(fd);
        return ret;
    }
    return fd;
}
