/* One Ethernet port (any ethdev): datagrams in and out. Adds and strips Ethernet, IPv4 and UDP. One thread at
 * a time. */
#pragma once

#include "dataplane/transport/endpoint.h"

#include <stdbool.h>

struct sl_port;
struct sl_port_config {
    /* "memif": a socket between two processes of one host; otherwise a DPDK device name or --vdev string
     * ("net_pcap0,...") */
    const char *device;
    const char *memif_socket;    /* path in the run directory (0700) */
    bool memif_server;           /* the simulator serves; the edge is the zero-copy client */
    uint16_t ring_size;          /* default 512 */
    uint32_t mtu;                /* default 1500 */
    uint32_t n_mbufs;            /* default 8192 */
    uint8_t mac[6], peer_mac[6]; /* where the port needs them; zero: from the device / broadcast */
    uint64_t peer_timeout_ns;    /* how long to wait for the other memif end (sl_port_wait); 0: for ever */
};

/* A datagram in the port's memory: UDP payload [data, data + len), addresses, and the buffer that holds it.
 */
struct sl_dgram {
    uint8_t *data;
    uint16_t len;
    uint8_t ecn;
    struct sl_addr src, dst;
    void *mbuf;
};

/* Names of what is not a datagram for us; each counted. */
enum sl_port_drop {
    SL_PORT_NOT_IPV4_UDP,
    SL_PORT_IP_FRAGMENT,
    SL_PORT_BAD_LENGTH,
    SL_PORT_BAD_CHECKSUM,
    SL_PORT_TX_FULL,
    SL_PORT_LINK_DOWN,
    SL_PORT_NO_MBUF,
    SL_PORT_DROP_COUNT
};
const char *sl_port_drop_name(enum sl_port_drop);
struct sl_port_stats {
    uint64_t rx_packets, rx_bytes, tx_packets, tx_bytes; /* UDP payload bytes */
    uint64_t drops[SL_PORT_DROP_COUNT];
    uint64_t reconnects; /* times the link came up again */
    bool link_up;
    uint64_t passes, pass_ns, pass_max_ns; /* of the interrupt thread, while the port rests (gate.h) */
};

/* sl_eal_start first. Returns at once: a memif port may still be without its peer, with the link down; it
 * connects, and connects again after the peer was gone, by itself as long as sl_port_rx is called. A process
 * opens a memif port once. err: one line. */
int sl_port_open(const struct sl_port_config *, struct sl_port **, char *err, size_t err_cap);
/* The port's thread must have stopped using it, and have freed all its datagrams. */
void sl_port_close(struct sl_port *);
bool sl_port_link_up(struct sl_port *); /* cheap */
/* Any thread, now and then: 0 while the link is up; 1 while it is down and may come up, -ETIMEDOUT once it
 * was down for peer_timeout_ns: then text says what is waited for, where. */
int sl_port_wait(struct sl_port *, char *text, size_t cap);
/* Port's thread: the link is up but the port rests for the moment (a tenth of a millisecond about every 20
 * ms, gate.h): what is sent now would be dropped, so send later. */
bool sl_port_rests(struct sl_port *);

/* n <= 64. Call it again and again, also while the link is down: between two calls the port may rest. */
unsigned sl_port_rx(struct sl_port *, struct sl_dgram *, unsigned n);
/* Room for n datagrams to be written at data (len = capacity); the caller then sets len, src, dst and gives
 * them to _tx or _free. */
unsigned sl_port_alloc(
    struct sl_port *, struct sl_dgram *, unsigned n); /* all n, or 0 and SL_PORT_NO_MBUF is counted */
/* Sends all; what the port does not take is freed and counted. Datagrams from _rx may be sent too. Returns
 * how many went. n <= 64 */
unsigned sl_port_tx(struct sl_port *, struct sl_dgram *, unsigned n);
void sl_port_free(struct sl_port *, struct sl_dgram *, unsigned n);
void sl_port_stats(struct sl_port *, struct sl_port_stats *); /* any thread */
