/* One Ethernet port (any ethdev) as a struct sl_port: adds and strips Ethernet, IPv4 or IPv6, and UDP.
 *
 * Who gets a frame on the link: over memif and a capture there is one peer. Elsewhere an answer goes to where
 * its packet came from (neighbour.h), and the first packet to where the kernel, or ARP and neighbour
 * discovery, lead (resolve.h). */
#pragma once

#include "dataplane/io/lcore/port.h"

struct sl_dpdk_port_config {
    /* "memif": a socket between two processes of one host; "af_xdp:INTERFACE", "af_packet:INTERFACE",
     * "tap:INTERFACE", "pcap:FILE"; a PCI address; otherwise a DPDK device name or --vdev string
     * ("net_ring0,...") */
    const char *device;
    const char *memif_socket; /* path in the run directory (0700) */
    bool memif_server;        /* the simulator serves; the edge is the zero-copy client */
    uint16_t ring_size;       /* default 512 */
    uint32_t mtu;             /* default 1500 */
    uint32_t n_mbufs;         /* of each queue; default 8192, of many queues 4096 */
    /* Queues asked for, one for each data lcore (default 1): the port has as many, or as it can (sl_port's
     * n_queues); steer.h makes up for the rest. memif's other end instead may drive n_rings rings by one
     * queue, sending by ring i what goes to UDP port ring_port + i. Both ends of a memif have as many rings.
     */
    uint16_t n_queues, n_rings, ring_port;
    const int *sockets; /* [n_queues]: NUMA nodes of the queues' threads, -1: no matter; NULL: all are */
    /* Ours: what af_xdp steers to us, af_packet keeps from the kernel, and other datagrams are dropped for
     * (not_ours). 0 and zero: no matter; then every frame goes to peer_mac. */
    uint16_t udp_port, n_udp_ports; /* [udp_port, udp_port + n_udp_ports); 0 ports: 1 */
    uint8_t own_ip[16];
    bool (*owns)(void *ctx, const uint8_t ip[16]); /* queues' threads; NULL: own_ip alone is ours */
    void *owns_ctx;
    uint8_t gateway[16];         /* on a port without a kernel: asked for in place of others; zero: none */
    uint8_t mac[6], peer_mac[6]; /* zero: the device's own / broadcast, or asked for */
    const char *capture;         /* pcapng file of all that passes (capture.h); NULL: none */
    uint64_t peer_timeout_ns;    /* how long to wait for the other memif end (sl_port_wait); 0: for ever */
};

/* sl_eal_start first. Returns at once: a memif port may still be without its peer, with the link down; it
 * connects, and connects again after the peer was gone, by itself as long as sl_queue_rx is called. A process
 * opens a memif port once. err: one line. */
int sl_dpdk_port_open(const struct sl_dpdk_port_config *, struct sl_port **, char *err, size_t err_cap);
