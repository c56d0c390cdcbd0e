/* Which device the text of `edge.data.backend` means, and what DPDK's driver has to be told. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum sl_device_kind {
    SL_DEVICE_MEMIF,
    SL_DEVICE_AF_XDP,    /* "af_xdp:INTERFACE" */
    SL_DEVICE_AF_PACKET, /* "af_packet:INTERFACE" */
    SL_DEVICE_TAP,       /* "tap:INTERFACE", which is made */
    SL_DEVICE_PCAP,      /* "pcap:FILE" */
    SL_DEVICE_PCI,       /* "0000:02:00.0[,ARGUMENTS]" */
    SL_DEVICE_OTHER,     /* a DPDK device: "NAME[,ARGUMENTS]" */
};
enum { SL_DEVICE_NAME_BYTES = 64, SL_DEVICE_ARGUMENT_BYTES = 1024 };

struct sl_device {
    enum sl_device_kind kind;
    char name[SL_DEVICE_NAME_BYTES];         /* DPDK's */
    char argument[SL_DEVICE_ARGUMENT_BYTES]; /* INTERFACE, FILE or ARGUMENTS */
};

/* 0, or -EINVAL and one line. */
int sl_device_parse(const char *text, struct sl_device *, char *err, size_t cap);
/* The kernel shares the interface: its addresses are used, and it answers ARP, ping and the rest. */
static inline int sl_device_has_kernel(const struct sl_device *d)
{
    return d->kind == SL_DEVICE_AF_XDP || d->kind == SL_DEVICE_AF_PACKET;
}

struct sl_device_needs {
    uint32_t mtu;
    uint16_t ring_size;
    unsigned n_queues;
    int xdp_object; /* descriptor of the steering program: xdp_steer.h */
};
/* How many queues the port can be given, at most n: those of an interface that AF_XDP reads are the
 * interface's, a tap and a capture have one. What a NIC has its driver knows. */
unsigned sl_device_queues(const struct sl_device *, unsigned n);
/* The driver's argument string, for af_xdp, af_packet, tap and pcap. 0, or -ENAMETOOLONG. */
int sl_device_arguments(const struct sl_device *, const struct sl_device_needs *, char *out, size_t cap);
/* Before the driver is asked: what stands in the way, with its cure. 0, or -errno and one line. */
int sl_device_check(const struct sl_device *, const struct sl_device_needs *, char *err, size_t cap);
/* Debian's package with the driver; NULL: not known. */
const char *sl_device_package(const struct sl_device *);
/* The buffer that the driver wants room for a whole frame in, at this MTU. */
uint32_t sl_device_buffer_bytes(const struct sl_device *, uint32_t mtu);
