#include "dataplane/io/dpdk/device.h"

#include "dataplane/io/dpdk/eal.h"
#include "dataplane/io/dpdk/interface.h"

#include <errno.h>
#include <linux/capability.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    /* AF_XDP: a frame lies in one page, behind the kernel's headroom and DPDK's buffer head (320); and the
     * pool makes its buffers an odd number of cache lines long. 3437 was seen working. */
    AF_XDP_MTU_MAX = 3400,
    AF_XDP_HEADROOM = 256,
    FRAME_OVERHEAD = 14 + 4, /* Ethernet and a VLAN tag */
    /* AF_PACKET: TPACKET2_HDRLEN and alignment before the frame; blocks are whole pages of whole frames. */
    AF_PACKET_HEAD = 64,
    AF_PACKET_FRAME_STEP = 2048,
    AF_PACKET_FRAMES = 4096,
    PAGE = 4096,
    LEAST_BUFFER = 2048,
};

struct prefix {
    const char *text;
    enum sl_device_kind kind;
    const char *name;
};
static const struct prefix prefixes[] = {
    {"af_xdp:", SL_DEVICE_AF_XDP, "net_af_xdp0"},
    {"af_packet:", SL_DEVICE_AF_PACKET, "net_af_packet0"},
    {"tap:", SL_DEVICE_TAP, "net_tap0"},
    {"pcap:", SL_DEVICE_PCAP, "net_pcap0"},
};

static int parse_prefixed(
    const char *text, const struct prefix *f, struct sl_device *d, char *err, size_t cap)
{
    const char *argument = text + strlen(f->text);
    size_t n = strlen(argument);
    bool interface = f->kind != SL_DEVICE_PCAP;
    d->kind = f->kind;
    if (n == 0 || n >= sizeof(d->argument) || (interface && n >= IFNAMSIZ) ||
        strpbrk(argument, ",[]") != NULL) {
        snprintf(err, cap, "port %s: '%s' is not the name of %s", text, argument,
            interface ? "a network interface" : "a file (without commas and brackets)");
        return -EINVAL;
    }
    snprintf(d->name, sizeof(d->name), "%s", f->name);
    memcpy(d->argument, argument, n + 1);
    return 0;
}

int sl_device_parse(const char *text, struct sl_device *d, char *err, size_t cap)
{
    *d = (struct sl_device){.kind = SL_DEVICE_OTHER};
    if (strcmp(text, "memif") == 0) {
        d->kind = SL_DEVICE_MEMIF;
        return 0;
    }
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        if (strncmp(text, prefixes[i].text, strlen(prefixes[i].text)) == 0)
            return parse_prefixed(text, &prefixes[i], d, err, cap);
    }
    const char *comma = strchr(text, ',');
    size_t n = comma != NULL ? (size_t)(comma - text) : strlen(text);
    if (n == 0 || n >= sizeof(d->name) || (comma != NULL && strlen(comma + 1) >= sizeof(d->argument))) {
        snprintf(err, cap, "port %s: not the name of a device", text);
        return -EINVAL;
    }
    memcpy(d->name, text, n);
    if (comma != NULL)
        memcpy(d->argument, comma + 1, strlen(comma + 1) + 1);
    if (sl_eal_is_pci(d->name))
        d->kind = SL_DEVICE_PCI;
    return 0;
}

/* ---- the driver's arguments ---- */

static uint32_t af_packet_frame(uint32_t mtu)
{
    uint32_t need = mtu + FRAME_OVERHEAD + AF_PACKET_HEAD;
    return (need + AF_PACKET_FRAME_STEP - 1) / AF_PACKET_FRAME_STEP * AF_PACKET_FRAME_STEP;
}

uint32_t sl_device_buffer_bytes(const struct sl_device *d, uint32_t mtu)
{
    uint32_t bytes = mtu + FRAME_OVERHEAD;
    if (d->kind == SL_DEVICE_AF_XDP)
        bytes += AF_XDP_HEADROOM;
    bytes = (bytes + 63) / 64 * 64;
    if (d->kind == SL_DEVICE_AF_PACKET)
        bytes = af_packet_frame(mtu);
    return bytes > LEAST_BUFFER ? bytes : LEAST_BUFFER;
}

unsigned sl_device_queues(const struct sl_device *d, unsigned n)
{
    struct sl_interface i;
    if (d->kind == SL_DEVICE_TAP || d->kind == SL_DEVICE_PCAP)
        return 1;
    if (d->kind == SL_DEVICE_AF_XDP && sl_interface_read(d->argument, &i) == 0 && i.rx_queues < n)
        return i.rx_queues > 0 ? i.rx_queues : 1;
    return n;
}

int sl_device_arguments(const struct sl_device *d, const struct sl_device_needs *needs, char *out, size_t cap)
{
    uint32_t frame = af_packet_frame(needs->mtu), block = frame % PAGE == 0 ? frame : 2 * frame;
    int n = 0;
    switch (d->kind) {
    case SL_DEVICE_AF_XDP:
        n = snprintf(out, cap, "iface=%s,start_queue=0,queue_count=%u,xdp_prog=/proc/self/fd/%d", d->argument,
            needs->n_queues, needs->xdp_object);
        break;
    case SL_DEVICE_AF_PACKET:
        n = snprintf(out, cap, "iface=%s,qpairs=%u,framesz=%u,blocksz=%u,framecnt=%u,qdisc_bypass=1",
            d->argument, needs->n_queues, frame, block, AF_PACKET_FRAMES);
        break;
    case SL_DEVICE_TAP:
        n = snprintf(out, cap, "iface=%s", d->argument);
        break;
    case SL_DEVICE_PCAP:
        n = snprintf(out, cap, "rx_pcap=%s", d->argument);
        break;
    default:
        n = snprintf(out, cap, "%s", d->argument);
    }
    return n >= 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

const char *sl_device_package(const struct sl_device *d)
{
    static const struct {
        const char *driver, *package;
    } packages[] = {{"net_af_xdp", "librte-net-af-xdp23"}, {"net_af_packet", "librte-net-af-packet23"},
        {"net_tap", "librte-net-tap23"}, {"net_pcap", "librte-net-pcap23"}, {"net_ring", "librte-net-ring23"},
        {"net_null", "librte-net-null23"}, {"net_virtio_user", "librte-net-virtio23"},
        {"net_vhost", "librte-net-vhost23"}, {"net_memif", "librte-net-memif23"}};
    for (size_t i = 0; i < sizeof(packages) / sizeof(packages[0]); i++) {
        if (strncmp(d->name, packages[i].driver, strlen(packages[i].driver)) == 0)
            return packages[i].package;
    }
    return NULL;
}

/* ---- what stands in the way ---- */

static int check_privileges(const struct sl_device *d, char *err, size_t cap)
{
    bool raw = sl_may(CAP_NET_RAW), admin = sl_may(CAP_NET_ADMIN),
         bpf = sl_may(CAP_BPF) || sl_may(CAP_SYS_ADMIN);
    const char *missing = d->kind == SL_DEVICE_TAP         ? (admin ? NULL : "CAP_NET_ADMIN")
                          : !raw                           ? "CAP_NET_RAW"
                          : d->kind == SL_DEVICE_AF_PACKET ? NULL
                          : !admin                         ? "CAP_NET_ADMIN"
                          : !bpf                           ? "CAP_BPF"
                                                           : NULL;
    if (missing == NULL)
        return 0;
    snprintf(err, cap, "port %s needs the privilege %s: start it as root (sudo)", d->name, missing);
    return -EPERM;
}

static int check_interface(
    const struct sl_device *d, const struct sl_device_needs *needs, char *err, size_t cap)
{
    struct sl_interface i;
    const char *name = d->argument;
    if (sl_interface_read(name, &i) != 0) {
        snprintf(err, cap, "there is no network interface %s: 'ip link' shows those there are", name);
        return -ENODEV;
    }
    if (i.mtu < needs->mtu) {
        snprintf(err, cap,
            "interface %s has an MTU of %u, the port one of %u: sudo ip link set dev %s mtu %u, or lower "
            "edge.data.mtu",
            name, i.mtu, needs->mtu, name, needs->mtu);
        return -EINVAL;
    }
    if (d->kind == SL_DEVICE_AF_XDP && i.mtu > AF_XDP_MTU_MAX) {
        snprintf(err, cap, "AF_XDP takes an MTU of at most %u and %s has %u: sudo ip link set dev %s mtu %u",
            AF_XDP_MTU_MAX, name, i.mtu, name, AF_XDP_MTU_MAX);
        return -EINVAL;
    }
    if (d->kind == SL_DEVICE_AF_XDP && i.rx_queues != needs->n_queues) {
        snprintf(err, cap,
            "interface %s spreads over %u receive queues and the port reads %u: sudo ethtool -L %s combined "
            "%u (veth: "
            "rx %u tx %u)",
            name, i.rx_queues, needs->n_queues, name, needs->n_queues, needs->n_queues, needs->n_queues);
        return -EINVAL;
    }
    return 0;
}

int sl_device_check(const struct sl_device *d, const struct sl_device_needs *needs, char *err, size_t cap)
{
    int ret = 0;
    if (d->kind == SL_DEVICE_PCAP && access(d->argument, R_OK) != 0) {
        ret = -errno;
        snprintf(err, cap, "cannot read the capture %s: %s", d->argument, strerror(-ret));
    } else if (d->kind == SL_DEVICE_AF_XDP && needs->mtu > AF_XDP_MTU_MAX) {
        snprintf(err, cap, "AF_XDP takes an MTU of at most %u: lower edge.data.mtu from %u", AF_XDP_MTU_MAX,
            needs->mtu);
        ret = -EINVAL;
    } else if (sl_device_has_kernel(d) || d->kind == SL_DEVICE_TAP) {
        if (sl_device_has_kernel(d))
            ret = check_interface(d, needs, err, cap);
        if (ret == 0)
            ret = check_privileges(d, err, cap);
    }
    return ret;
}
