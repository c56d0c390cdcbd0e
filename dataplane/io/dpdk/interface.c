#include "dataplane/io/dpdk/interface.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static int ask(int fd, const char *name, unsigned long what, struct ifreq *r)
{
    size_t n = strlen(name);
    if (n == 0 || n >= sizeof(r->ifr_name))
        return -ENODEV;
    memcpy(r->ifr_name, name, n + 1);
    return ioctl(fd, what, r) == 0 ? 0 : -errno;
}

bool sl_interface_runs(int fd, const char *name)
{
    struct ifreq r = {0};
    return ask(fd, name, SIOCGIFFLAGS, &r) == 0 &&
           (r.ifr_flags & (IFF_UP | IFF_RUNNING)) == (IFF_UP | IFF_RUNNING);
}

/* A driver that cannot say has one. */
static unsigned count_rx_queues(int fd, const char *name)
{
    struct ethtool_channels c = {.cmd = ETHTOOL_GCHANNELS};
    struct ifreq r = {.ifr_data = (char *)&c};
    unsigned n = ask(fd, name, SIOCETHTOOL, &r) == 0 ? c.rx_count + c.combined_count : 1;
    return n != 0 ? n : 1;
}

int sl_interface_read(const char *name, struct sl_interface *out)
{
    struct ifreq r = {0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int err = ask(fd, name, SIOCGIFINDEX, &r);
    out->index = (unsigned)r.ifr_ifindex;
    if (err == 0)
        err = ask(fd, name, SIOCGIFMTU, &r);
    out->mtu = (uint32_t)r.ifr_mtu;
    out->running = sl_interface_runs(fd, name);
    out->rx_queues = count_rx_queues(fd, name);
    close(fd);
    return err;
}

bool sl_may(unsigned capability)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
    if (syscall(SYS_capget, &head, data) != 0)
        return false;
    return (data[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}
