/* Making the device below a port, and taking it away. */
#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/interface.h"
#include "dataplane/io/dpdk/memif_cures.h"
#include "dataplane/io/dpdk/memif_socket.h"
#include "dataplane/io/dpdk/port_internal.h"
#include "dataplane/io/dpdk/xdp_claim.h"
#include "dataplane/io/dpdk/xdp_steer.h"
#include "dataplane/io/lcore/address.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <rte_bus_vdev.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DEFAULT_RING = 512 };

static bool memif_used; /* in this process: gate.h */

static unsigned log2_of(unsigned n)
{
    return n <= 1 ? 0 : 32u - (unsigned)__builtin_clz(n - 1);
}

static int create_memif(
    struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c, unsigned buffer, char *err, size_t cap)
{
    if (c->memif_socket == NULL) {
        snprintf(err, cap, "memif needs a socket path");
        return -EINVAL;
    }
    if (memif_used) {
        snprintf(err, cap, "a process opens a memif port once; %s would be the second", c->memif_socket);
        return -EBUSY;
    }
    char path[4096]; /* the longest that the kernel takes; what a socket may have is checked next */
    int ret = sl_memif_absolute(c->memif_socket, path, sizeof(path));
    if (ret != 0) {
        snprintf(err, cap, "memif socket: %s: use a run directory with a shorter path", strerror(-ret));
        return ret;
    }
    if (strchr(path, ',') != NULL) {
        snprintf(err, cap, "memif needs a socket path without a comma; got %s", path);
        return -EINVAL;
    }
    ret = sl_memif_prepare(path, c->memif_server, err, cap);
    if (ret != 0)
        return ret;
    ret = sl_memif_cures_check();
    if (ret != 0) {
        snprintf(err, cap, "memif needs a program that is linked with DPDK's shared libraries");
        return ret;
    }
    char args[512];
    struct sl_device *d = &p->device;
    memcpy(p->path, path, strnlen(path, sizeof(p->path) - 1)); /* sl_memif_prepare has checked its length */
    snprintf(d->name, sizeof(d->name), "net_memif0");
    snprintf(args, sizeof(args), "role=%s,id=0,socket=%s,socket-abstract=no,rsize=%u,bsize=%u%s",
        c->memif_server ? "server" : "client", p->path,
        log2_of(c->ring_size != 0 ? c->ring_size : DEFAULT_RING), buffer,
        c->memif_server ? "" : ",zero-copy=yes");
    p->memif = true;
    p->client = !c->memif_server;
    ret = rte_vdev_init(d->name, args);
    if (ret != 0) {
        snprintf(err, cap,
            "cannot make the memif port at %s: %s (is Debian's librte-net-memif23 installed? is its "
            "directory writable?)",
            p->path, strerror(-ret));
        return ret;
    }
    memif_used = true;
    sl_eal_keep_until_exit();
    p->created = true;
    return rte_eth_dev_get_port_by_name(d->name, &p->id);
}

/* AF_PACKET sees what the kernel sees too: without a socket on our port the kernel would answer every packet
 * that the port is unreachable. This one is bound, and its filter takes nothing. */
static int plug(uint16_t port, char *err, size_t cap)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog filter = {.len = 1, .filter = &nothing};
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    struct sockaddr_in any4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    int no = 0, ret = 0, fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool six = fd >= 0;
    if (!six)
        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    if (six)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &no, sizeof(no));
    setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
    ret = six ? bind(fd, (struct sockaddr *)&any, sizeof(any))
              : bind(fd, (struct sockaddr *)&any4, sizeof(any4));
    if (ret == 0)
        return fd;
    ret = -errno;
    close(fd);
    snprintf(err, cap, "UDP port %u is taken: %s; 'ss -ulpn' shows by whom", port, strerror(-ret));
    return ret;
}

/* The kernel answers for our address, so it must be one of its own. */
static int check_address(
    const struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c, char *err, size_t cap)
{
    static const uint8_t nothing[16];
    char text[SL_ADDR_TEXT];
    struct sl_addr a = {0};
    struct sockaddr_in6 mine = {.sin6_family = AF_INET6};
    memcpy(a.ip, c->own_ip, sizeof(a.ip));
    memcpy(&mine.sin6_addr, c->own_ip, sizeof(mine.sin6_addr));
    if (c->owns != NULL || memcmp(c->own_ip, nothing, sizeof(nothing)) == 0)
        return 0;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int ret = fd >= 0 && bind(fd, (struct sockaddr *)&mine, sizeof(mine)) != 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    if (ret != -EADDRNOTAVAIL)
        return 0;
    sl_addr_format(&a, text, sizeof(text));
    snprintf(err, cap,
        "interface %s does not have the address %s: sudo ip address add %s/%u dev %s, or change "
        "edge.data.address",
        p->device.argument, text, text, sl_addr_is_mapped(&a) ? 24u : 64u, p->device.argument);
    return ret;
}

static int share_interface(struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c, char *err, size_t cap)
{
    struct sl_interface i;
    sl_interface_read(p->device.argument, &i);
    p->interface_index = i.index;
    p->watch_fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (p->watch_fd < 0)
        return -errno;
    int ret = check_address(p, c, err, cap);
    if (ret != 0)
        return ret;
    if (p->device.kind == SL_DEVICE_AF_XDP) {
        p->xdp_claim = sl_xdp_claim(p->device.argument, i.index, err, cap);
        return p->xdp_claim < 0 ? p->xdp_claim : 0;
    }
    p->plug_fd = c->udp_port != 0 ? plug(c->udp_port, err, cap) : -1;
    return c->udp_port != 0 && p->plug_fd < 0 ? p->plug_fd : 0;
}

static int make_device(struct sl_dpdk_port *p, const struct sl_device_needs *needs, char *err, size_t cap)
{
    const struct sl_device *d = &p->device;
    char args[SL_DEVICE_ARGUMENT_BYTES + 256];
    int ret = sl_device_arguments(d, needs, args, sizeof(args));
    if (ret == 0)
        ret = rte_vdev_init(d->name, args);
    if (ret == 0) {
        p->created = true;
        return rte_eth_dev_get_port_by_name(d->name, &p->id);
    }
    const char *package = sl_device_package(d);
    snprintf(err, cap,
        "port %s: DPDK cannot make this device: %s (is Debian's %s installed? DPDK's log in the run "
        "directory has more)",
        d->name, strerror(-ret), package != NULL ? package : "package of its driver");
    return ret;
}

static int find_device(struct sl_dpdk_port *p, const struct sl_device_needs *needs, char *err, size_t cap)
{
    const struct sl_device *d = &p->device;
    if (rte_eth_dev_get_port_by_name(d->name, &p->id) == 0)
        return 0;
    if (d->kind == SL_DEVICE_PCI) {
        snprintf(err, cap, "port %s: no driver of DPDK has it; bind it first: sudo scripts/nic bind %s",
            d->name, d->name);
        return -ENODEV;
    }
    return make_device(p, needs, err, cap);
}

static int create_other(struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c,
    struct sl_device_needs *needs, char *err, size_t cap)
{
    int ret = sl_device_check(&p->device, needs, err, cap);
    if (ret == 0 && sl_device_has_kernel(&p->device))
        ret = share_interface(p, c, err, cap);
    if (ret != 0)
        return ret;
    if (p->device.kind != SL_DEVICE_AF_XDP)
        return find_device(p, needs, err, cap);
    if (c->udp_port == 0) {
        snprintf(err, cap, "port %s needs to know its UDP port", c->device);
        return -EINVAL;
    }
    needs->xdp_object = sl_xdp_steer_object(c->udp_port, c->n_udp_ports != 0 ? c->n_udp_ports : 1);
    if (needs->xdp_object < 0)
        return needs->xdp_object;
    p->xdp_object = needs->xdp_object;
    ret = find_device(p, needs, err, cap);
    p->xdp_program = sl_xdp_program(p->interface_index);
    return ret;
}

int sl_dpdk_create(struct sl_dpdk_port *p, const struct sl_dpdk_port_config *c, uint32_t mtu,
    uint16_t *buffer, char *err, size_t cap)
{
    struct sl_device_needs needs = {.mtu = mtu,
        .ring_size = c->ring_size != 0 ? c->ring_size : DEFAULT_RING,
        .n_queues = p->port.n_queues,
        .xdp_object = -1};
    int ret = sl_device_parse(c->device, &p->device, err, cap);
    if (ret != 0)
        return ret;
    p->port.n_queues = sl_device_queues(&p->device, p->port.n_queues);
    needs.n_queues = p->port.n_queues;
    *buffer = (uint16_t)sl_device_buffer_bytes(&p->device, mtu);
    if (p->device.kind == SL_DEVICE_MEMIF)
        return create_memif(p, c, *buffer, err, cap);
    return create_other(p, c, &needs, err, cap);
}

static void shut(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void sl_dpdk_destroy(struct sl_dpdk_port *p)
{
    if (p->created)
        rte_vdev_uninit(p->device.name);
    if (p->xdp_claim >= 0) /* after the driver, which takes the program off only where it got to the end */
        sl_xdp_release(p->xdp_claim, p->interface_index, p->xdp_program);
    shut(&p->xdp_object);
    shut(&p->plug_fd);
    shut(&p->watch_fd);
}
